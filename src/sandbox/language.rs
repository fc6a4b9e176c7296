//! The languages: one entry each. To add one is to add an entry.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ai_factory_actors::ports::sandbox::Language;

/// What is known of a language before anybody looks at this machine.
pub(super) struct Spec {
    /// The name that plans and records use.
    pub(super) name: &'static str,
    /// As people write it.
    pub(super) title: &'static str,
    /// Further names that are understood.
    pub(super) aliases: &'static [&'static str],
    /// The program that is looked for on the search path.
    pub(super) program: &'static str,
    /// Arguments that make it tell, a line each: its path, its version, then directories that it needs.
    pub(super) question: &'static [&'static str],
    /// How to get it.
    pub(super) install: &'static str,
    /// The program's file.
    pub(super) file: &'static str,
    /// Arguments before the program's file.
    pub(super) cold: &'static [&'static str],
    /// The last argument for a start before there is a program: the text that waits for one. It says that it is ready
    /// by one byte on its standard output, then reads one line from its standard input, byte by byte: the value of
    /// `TRACEPARENT` or nothing. Then it runs the program's file as if it had been started with it. `None` for an
    /// interpreter that starts in no time.
    pub(super) warm: Option<&'static [&'static str]>,
    /// Beside what every program gets.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// It shows where a program is when it gets `SIGABRT`.
    pub(super) dumps_stack: bool,
    /// The argument that limits its memory, for one that reserves far more than it uses; the number of MiB follows.
    pub(super) memory_argument: Option<&'static str>,
}

/// Every language there is.
pub(super) static LANGUAGES: [Spec; 3] = [
    Spec {
        name: "python",
        title: "Python",
        aliases: &["python3", "py"],
        program: "python3",
        question: &[
            "-I",
            "-c",
            "import sys, platform\nfor line in (sys.executable, platform.python_version(), sys.prefix, \
             sys.base_prefix): print(line)",
        ],
        install: "Install Python 3 (`apt install python3`, `brew install python`)",
        file: "main.py",
        // Isolated: no module is taken from beside the program. Output is out at once, so that a program that is
        // killed is heard up to its end.
        cold: &["-I", "-B", "-u", "-X", "utf8", "-X", "faulthandler"],
        warm: Some(&["-c", include_str!("warm/python.py")]),
        environment: &[],
        dumps_stack: true,
        memory_argument: None,
    },
    Spec {
        name: "javascript",
        title: "JavaScript",
        aliases: &["node", "js"],
        program: "node",
        question: &[
            "-e",
            "const {dirname} = require('path'); console.log([process.execPath, process.versions.node, \
             dirname(dirname(process.execPath))].join('\\n'))",
        ],
        install: "Install Node.js (`apt install nodejs`, `brew install node`)",
        file: "main.js",
        cold: &[],
        warm: Some(&["-e", include_str!("warm/node.js")]),
        environment: &[],
        dumps_stack: false,
        memory_argument: Some("--max-old-space-size="),
    },
    Spec {
        name: "bash",
        title: "shell",
        aliases: &["sh"],
        program: "bash",
        question: &["-c", "echo \"$BASH\"; echo \"$BASH_VERSION\""],
        install: "Install bash (`apt install bash`)",
        file: "main.sh",
        cold: &["--norc", "--noprofile"],
        warm: None,
        environment: &[],
        dumps_stack: false,
        memory_argument: None,
    },
];

/// Where programs find other programs.
pub(super) const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl Spec {
    /// The language of a name or alias, in lower case.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        LANGUAGES.iter().find(|spec| spec.name == name || spec.aliases.contains(&name))
    }

    /// As the port tells of it.
    pub(super) fn told(&self, found: Found) -> Language {
        let Found { path, version, .. } = found;
        Language { name: self.name, aliases: self.aliases, interpreter: path, version }
    }

    /// Its environment in a jail whose programs run in `directory`, with their temporary files in `temporary`.
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

/// An interpreter as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// An absolute path.
    pub(super) path: PathBuf,
    /// What it says of its version.
    pub(super) version: String,
    /// Directories that it needs, beside those of the system.
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
                assert_eq!(Spec::of(name).map(|spec| spec.name), Some(spec.name));
            }
        }
        assert!(Spec::of("cobol").is_none());
    }
}
