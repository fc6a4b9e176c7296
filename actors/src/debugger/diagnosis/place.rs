//! The files of a run, as its program, its workspace and its interpreters name them.

use super::lines::cut;

/// The working directory of programs in a jail with a root of its own.
const WORKING_DIRECTORY: &str = "/box/";
/// The directory of a workspace, beside the program's file.
const WORKSPACE: &str = "work/";
/// The name of the program's text beside a workspace, which may have a file of any name.
const PROGRAM: &str = "<program>";
/// Parts of the paths of files that belong to an interpreter or to an installed package.
const INSTALLED: [&str; 5] =
    ["/site-packages/", "/dist-packages/", "/node_modules/", "/lib/python3", "/lib/python2"];
/// The longest path, in characters.
const PATH_CHARS_MAX: usize = 255;

/// A place in one of the run's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourcePlace {
    /// A path in the working directory, or the program's name: [`PROGRAM`] beside a workspace.
    pub(super) path: String,
    /// The line, from 1.
    pub(super) line: Option<u32>,
    /// Whether it is the text of the program.
    pub(super) is_program: bool,
}

/// Tells the files of a run from those of interpreters and packages.
#[derive(Clone, Copy)]
pub(super) struct OwnFiles<'a> {
    /// The program's language.
    pub(super) language: &'a str,
    /// Whether a path below the working directory is a file of the run.
    pub(super) is_file: &'a dyn Fn(&str) -> bool,
    /// Whether the working directory is a workspace: then the program's file lies outside of it.
    pub(super) has_workspace: bool,
}

impl OwnFiles<'_> {
    /// The place behind a printed path; `None` if it is none of the run's own files.
    pub(super) fn place(&self, printed: &str, line: Option<u32>) -> Option<SourcePlace> {
        let printed = printed.trim();
        let printed = printed.strip_prefix("file://").unwrap_or(printed);
        let printed = printed.strip_prefix("./").unwrap_or(printed);
        let is_own = !printed.is_empty()
            && !printed.starts_with("../")
            && !printed.starts_with(['<', '-', '['])
            && !printed.starts_with("node:")
            && !printed.starts_with("node_modules/")
            && !INSTALLED.iter().any(|part| printed.contains(part));
        if !is_own {
            return None;
        }
        let (path, is_program) = self.own(printed)?;
        let path = if is_program && self.has_workspace { PROGRAM } else { path };
        Some(SourcePlace { path: cut(path, PATH_CHARS_MAX), line, is_program })
    }

    /// The path below the working directory, and whether it is the program's.
    fn own<'p>(&self, printed: &'p str) -> Option<(&'p str, bool)> {
        let name = printed.rsplit('/').next().unwrap_or(printed);
        let is_program = self.is_program_name(name);
        if let Some(below) = printed.strip_prefix(WORKING_DIRECTORY) {
            if self.has_workspace {
                let of_workspace = below.strip_prefix(WORKSPACE).map(|path| (path, false));
                return of_workspace.or(Some((below, is_program && below == name)));
            }
            let is_program = is_program && below == name && !(self.is_file)(below);
            return Some((below, is_program));
        }
        if !printed.starts_with('/') {
            let is_program = is_program && printed == name && !(self.is_file)(name);
            return Some((printed, is_program));
        }
        // Another working directory: the longest end of the path that is a file.
        let starts = printed.match_indices('/').map(|(at, _)| &printed[at + 1..]).take(32);
        let known = starts.filter(|path| !path.is_empty()).find(|path| (self.is_file)(path));
        let is_program = is_program && !(self.has_workspace && is_in_workspace(printed, name));
        match known {
            Some(path) if path != name || !is_program => Some((path, false)),
            _ if is_program => Some((name, true)),
            _ => None,
        }
    }

    /// Whether the sandbox gives this name to a program's file: `main.py`, `main-1.py`.
    fn is_program_name(&self, name: &str) -> bool {
        let Some((stem, extension)) = name.rsplit_once('.') else { return false };
        let number = stem.strip_prefix("main").map(|rest| rest.strip_prefix('-').unwrap_or(rest));
        let is_main = number.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        is_main && extension == extension_of(self.language)
    }
}

/// Whether a file with this name lies directly in the directory of a workspace.
fn is_in_workspace(printed: &str, name: &str) -> bool {
    printed.strip_suffix(name).is_some_and(|directory| directory.ends_with("/work/"))
}

/// The extension of a program's file, by the language's name or an alias of it.
fn extension_of(language: &str) -> &'static str {
    match language {
        "javascript" | "node" | "js" | "nodejs" => "js",
        name if name.starts_with("py") || name.starts_with("ipython") => "py",
        _ => "sh",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_are_told_from_installed_ones() {
        let is_file = |path: &str| ["main.py", "src/main.py", "pkg/a.py", "a.txt"].contains(&path);
        let files = OwnFiles { language: "python3", is_file: &is_file, has_workspace: false };
        for (printed, own) in [
            ("/box/pkg/a.py", Some(("pkg/a.py", false))),
            ("./pkg/a.py", Some(("pkg/a.py", false))),
            ("/box/new.py", Some(("new.py", false))),
            ("/tmp/run-1/pkg/a.py", Some(("pkg/a.py", false))),
            ("/tmp/run-1/src/main.py", Some(("src/main.py", false))),
            ("/tmp/run-1/main.py", Some(("main.py", true))),
            ("/box/main.py", Some(("main.py", false))),
            ("/box/main-1.py", Some(("main-1.py", true))),
            ("file:///box/pkg/a.py", Some(("pkg/a.py", false))),
            ("/usr/lib/python3.11/json/decoder.py", None),
            ("/opt/python/lib/python3.11/site-packages/a/pkg/a.py", None),
            ("<string>", None),
            ("node:internal/main", None),
            ("../venv/a.py", None),
            ("/usr/bin/other", None),
            ("", None),
        ] {
            let found = files.place(printed, None);
            let found = found.as_ref().map(|place| (place.path.as_str(), place.is_program));
            assert_eq!(found, own, "{printed}");
        }
        let in_workspace = OwnFiles { has_workspace: true, ..files };
        for (printed, own) in [
            ("/box/work/pkg/a.py", ("pkg/a.py", false)),
            ("/box/work/main.py", ("main.py", false)),
            ("/box/main.py", ("<program>", true)),
            ("/tmp/run-1/work/main.py", ("main.py", false)),
            ("/tmp/run-1/main.py", ("<program>", true)),
            ("/tmp/run-1/work/pkg/a.py", ("pkg/a.py", false)),
        ] {
            let found = in_workspace.place(printed, None).unwrap();
            assert_eq!((found.path.as_str(), found.is_program), own, "{printed}");
        }
        let files = OwnFiles { language: "bash", is_file: &|_| false, has_workspace: false };
        assert!(files.place("main.sh", Some(3)).is_some_and(|place| place.is_program));
        assert!(files.place("/box/main.py", Some(3)).is_some_and(|place| !place.is_program));
    }
}
