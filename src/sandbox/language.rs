//! The supported languages: one entry each.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use ai_factory_ports::sandbox::Language;

/// Properties of a language that do not depend on this machine.
pub(super) struct LanguageSpec {
    /// The name in plans and records.
    pub(super) name: &'static str,
    /// The name for people.
    pub(super) title: &'static str,
    /// Further accepted names.
    pub(super) aliases: &'static [&'static str],
    /// The program to look for on the search path.
    pub(super) program: &'static str,
    /// Arguments that make it print, one per line: its path, its version, then directories that it
    /// needs.
    pub(super) question: &'static [&'static str],
    /// How to install it.
    pub(super) install: &'static str,
    /// The program's file, as stem and extension; the stem is changed if another file has that
    /// name.
    pub(super) file: (&'static str, &'static str),
    /// Arguments before the program's file.
    pub(super) cold: &'static [&'static str],
    /// Arguments after those for a start without a program, in place of its file: the interpreter
    /// waits for one. It reports readiness with one byte on standard output, then reads three lines
    /// from standard input, byte by byte: the name of the program's file, the value of
    /// `TRACEPARENT` or nothing, and the directory of the workspace or nothing. Then it runs the
    /// file as if it had been started with it, with the workspace as its working directory, where
    /// it also looks for modules. `None`
    /// for an interpreter whose start takes no noticeable time.
    pub(super) warm: Option<&'static [&'static str]>,
    /// Environment in addition to that of every program.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// Whether it prints the program's stack on `SIGABRT`.
    pub(super) dumps_stack: bool,
    /// The argument that limits its memory, for an interpreter that reserves far more than it uses;
    /// the number of MiB follows.
    pub(super) memory_argument: Option<&'static str>,
}

/// Python code that runs in place of the program's file, whose name is its argument: it runs the
/// file with the working directory in the module path, after the standard library and before
/// installed packages.
pub(super) const PYTHON_START: &str = include_str!("start/python.py");

/// All languages.
pub(super) static LANGUAGES: [LanguageSpec; 3] = [
    LanguageSpec {
        name: "python",
        title: "Python",
        aliases: &["python3", "py", "py3", "ipython", "ipython3"],
        program: "python3",
        question: &[
            "-I",
            "-c",
            "import sys, platform\nfor line in (sys.executable, platform.python_version(), sys.prefix, \
             sys.base_prefix): print(line)",
        ],
        install: "Install Python 3 (`apt install python3`, `brew install python`)",
        file: ("main", "py"),
        // Isolated mode: Python takes neither modules nor settings from the program's directory.
        // `PYTHON_START` sets the module path. Unbuffered, so that the output of a killed program
        // is complete.
        cold: &["-I", "-B", "-u", "-X", "utf8", "-X", "faulthandler", "-c", PYTHON_START],
        warm: Some(&[]),
        environment: &[],
        dumps_stack: true,
        memory_argument: None,
    },
    LanguageSpec {
        name: "javascript",
        title: "JavaScript",
        aliases: &["node", "js", "nodejs"],
        program: "node",
        question: &[
            "-e",
            "const {dirname} = require('path'); console.log([process.execPath, process.versions.node, \
             dirname(dirname(process.execPath))].join('\\n'))",
        ],
        install: "Install Node.js (`apt install nodejs`, `brew install node`)",
        file: ("main", "js"),
        cold: &[],
        warm: Some(&["-e", include_str!("start/node.js")]),
        environment: &[],
        dumps_stack: false,
        memory_argument: Some("--max-old-space-size="),
    },
    LanguageSpec {
        name: "bash",
        title: "shell",
        aliases: &["sh", "shell", "zsh", "ksh", "dash"],
        program: "bash",
        question: &["-c", "echo \"$BASH\"; echo \"$BASH_VERSION\""],
        install: "Install bash (`apt install bash`)",
        file: ("main", "sh"),
        cold: &["--norc", "--noprofile"],
        warm: None,
        environment: &[],
        dumps_stack: false,
        memory_argument: None,
    },
];

/// The `PATH` of programs.
pub(super) const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl LanguageSpec {
    /// The language of a name or alias, in lower case; Python 3 also with its version:
    /// `python3.12`.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        let version = name.strip_prefix("python3.").unwrap_or_default();
        let is_version = !version.is_empty()
            && version
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit()));
        let name = if is_version { "python3" } else { name };
        LANGUAGES.iter().find(|spec| spec.name == name || spec.aliases.contains(&name))
    }

    /// A name for the program's file that none of the other files has.
    pub(super) fn file_beside<'a>(&self, files: impl IntoIterator<Item = &'a str>) -> String {
        let (stem, extension) = self.file;
        let first_part = |name: &'a str| name.split('/').next().unwrap_or(name);
        let taken: BTreeSet<_> = files.into_iter().map(first_part).collect();
        let mut name = format!("{stem}.{extension}");
        for number in 1..=taken.len() {
            if !taken.contains(&*name) {
                break;
            }
            name = format!("{stem}-{number}.{extension}");
        }
        name
    }

    /// The language as the port describes it.
    pub(super) fn describe(&self, found: FoundInterpreter) -> Language {
        let FoundInterpreter { path, version, .. } = found;
        Language { name: self.name, aliases: self.aliases, interpreter: path, version }
    }

    /// The environment in a jail with the working directory `directory` and temporary files in
    /// `temporary`.
    pub(super) fn environment_in(
        &self,
        directory: &Path,
        temporary: &Path,
    ) -> BTreeMap<String, String> {
        let (home, temporary) = (directory.to_string_lossy(), temporary.to_string_lossy());
        let common =
            [("PATH", SEARCH_PATH), ("HOME", &home), ("TMPDIR", &temporary), ("LANG", "C.UTF-8")];
        let all = common.iter().chain(self.environment);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// An interpreter found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundInterpreter {
    /// An absolute path.
    pub(super) path: PathBuf,
    /// The version it reports.
    pub(super) version: String,
    /// Directories that it needs, in addition to those of the system.
    pub(super) prefixes: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_means_one_language() {
        let mut seen = HashSet::new();
        for spec in &LANGUAGES {
            for name in spec.aliases.iter().chain([&spec.name]) {
                assert!(seen.insert(*name), "{name}");
                assert_eq!(LanguageSpec::of(name).map(|spec| spec.name), Some(spec.name));
            }
        }
        for name in ["python3.12", "python3.9.18", "shell", "zsh", "nodejs"] {
            assert!(LanguageSpec::of(name).is_some(), "{name}");
        }
        for name in ["", "cobol", "python2", "python2.7", "python3.", "python3.x", "python3..1"] {
            assert!(LanguageSpec::of(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_programs_file_has_a_name_that_no_other_has() {
        let [python, ..] = &LANGUAGES;
        for (files, name) in [
            (&[][..], "main.py"),
            (&["helper.py", "lib/main.py"], "main.py"),
            (&["main.py"], "main-1.py"),
            (&["main.py/inside"], "main-1.py"),
            (&["main-1.py", "main.py"], "main-2.py"),
            (&["main-1.py", "main-3.py", "main.py", "main-2.py/a", "main-2.py/b"], "main-4.py"),
        ] {
            assert_eq!(python.file_beside(files.iter().copied()), name, "{files:?}");
        }
    }
}
