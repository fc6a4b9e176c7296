//! Files that are returned from a run's working directory.
//!
//! *Promises.* Only regular files are returned, up to the limits of number and size. Every other
//! requested file is named with the reason.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
};

use ai_factory_schemas::{file::check_name, run::FileLeftOut};

use super::{
    super::limits::RunLimits,
    files::open_plain,
    left_out::LeftOutList,
    message::FileHeader,
    search::{Fate, Search, shown},
};

/// Returned files.
pub(super) struct CollectedFiles {
    pub(super) files: Vec<FileHeader>,
    pub(super) contents: Vec<u8>,
    pub(super) left_out: Vec<FileLeftOut>,
}

/// The files below `root` that match the patterns, sorted by name, except the program if it lies
/// there: the file with this name, as long as its content is unchanged. No other process may be
/// active there.
pub(super) fn collect(
    root: &OwnedFd,
    patterns: &[String],
    program: Option<(&str, &[u8])>,
    limits: &RunLimits,
) -> CollectedFiles {
    let mut returned =
        CollectedFiles { files: Vec::new(), contents: Vec::new(), left_out: Vec::new() };
    if patterns.is_empty() {
        return returned;
    }
    let mut left_out = LeftOutList::new();
    let program = program.and_then(|program| unchanged(root, program));
    let mut search = Search::new(patterns, program);
    search.look_below(root);
    search.found.sort();
    for (name, what) in search.found {
        let taken = match (what, printable_name(&name)) {
            (Err(reason), _) | (Ok(()), Err(reason)) => Err(reason),
            (Ok(()), Ok(_)) if returned.files.len() as u64 >= limits.files => {
                Err(format!("at most {} files are returned", limits.files))
            }
            (Ok(()), Ok(name)) => returned.take(root, name, limits.files_bytes),
        };
        if let Err(reason) = taken {
            left_out.add(shown(&name), reason);
        }
    }
    for (pattern, fate) in patterns.iter().zip(search.fates) {
        match fate {
            Fate::Found => {}
            Fate::Nothing => left_out.add(pattern.clone(), "no such file".to_owned()),
            Fate::Blocked(reason) => left_out.add(pattern.clone(), reason),
        }
    }
    returned.left_out = left_out.complete("ask for fewer at once");
    returned
}

/// The program's name, unless the program changed its own file.
fn unchanged<'a>(root: &OwnedFd, (name, source): (&'a str, &[u8])) -> Option<&'a str> {
    let (file, bytes) = open_plain(root, name).ok()?;
    bytes.filter(|bytes| *bytes == source.len() as u64)?;
    let mut content = Vec::new();
    file.take(source.len() as u64).read_to_end(&mut content).ok()?;
    (content == source).then_some(name)
}

/// A name in the form answers carry.
///
/// # Errors
/// Why answers cannot carry it.
fn printable_name(name: &[u8]) -> Result<&str, String> {
    let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8".to_owned())?;
    check_name(name).map_err(|wrong| format!("its name {wrong}"))?;
    Ok(name)
}

impl CollectedFiles {
    fn take(&mut self, root: &OwnedFd, name: &str, bytes_max: u64) -> Result<(), String> {
        let (file, bytes) = open_plain(root, name).map_err(unreadable)?;
        let bytes = bytes.ok_or_else(|| "it is not a regular file".to_owned())?;
        if bytes > bytes_max.saturating_sub(self.contents.len() as u64) {
            return Err(format!(
                "it has {bytes} bytes, and all files together may have {bytes_max}"
            ));
        }
        let before = self.contents.len();
        if let Err(error) = file.take(bytes).read_to_end(&mut self.contents) {
            self.contents.truncate(before);
            return Err(unreadable(error));
        }
        let bytes = (self.contents.len() - before) as u64;
        self.files.push(FileHeader { name: name.to_owned(), bytes });
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: io::Error) -> String {
    format!("it cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
        path::PathBuf,
    };

    use tempfile::TempDir;

    use super::{
        super::{
            files::{open_root, write},
            left_out::LEFT_OUT_BYTES_MAX,
        },
        *,
    };

    const PROGRAM: (&str, &[u8]) = ("main.py", b"program");

    /// A working directory with a program in it.
    struct Place {
        _tmp: TempDir,
        directory: PathBuf,
        root: OwnedFd,
        limits: RunLimits,
    }

    impl Place {
        fn new() -> Self {
            let tmp = tempfile::tempdir().unwrap();
            fs::write(tmp.path().join("secret"), "secret").unwrap();
            let directory = tmp.path().join("box");
            fs::create_dir(&directory).unwrap();
            let root = open_root(directory.to_str().unwrap()).unwrap();
            write(&root, PROGRAM.0, PROGRAM.1).unwrap();
            Self { _tmp: tmp, directory, root, limits: RunLimits::default() }
        }

        fn with(names: &[&str]) -> Self {
            let place = Self::new();
            for name in names {
                write(&place.root, name, b"x").unwrap();
            }
            place
        }

        fn collect(&self, patterns: &[&str]) -> CollectedFiles {
            let patterns: Vec<_> = patterns.iter().map(|it| (*it).to_owned()).collect();
            collect(&self.root, &patterns, Some(PROGRAM), &self.limits)
        }

        /// The returned names, and those left out, each with its reason.
        fn ask(&self, patterns: &[&str]) -> (Vec<String>, Vec<(String, String)>) {
            let returned = self.collect(patterns);
            let names = returned.files.into_iter().map(|file| file.name).collect();
            let left_out = returned.left_out.into_iter().map(|it| (it.name, it.reason));
            (names, left_out.collect())
        }

        /// Asserts that of the files matching the patterns exactly these are left out, with these
        /// words in the reasons.
        fn assert_left_out(&self, patterns: &[&str], expected: &[(&str, &str)]) {
            let (_, left_out) = self.ask(patterns);
            let names: Vec<_> = left_out.iter().map(|(name, _)| name.as_str()).collect();
            let wanted: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, wanted, "{patterns:?}: {left_out:?}");
            for ((name, reason), (_, words)) in left_out.iter().zip(expected) {
                assert!(reason.contains(words), "{name}: {reason}");
            }
        }
    }

    #[test]
    fn only_plain_files_come_out_and_no_link_is_followed() {
        let mut place = Place::with(&["plain.txt", "in/ner.txt"]);
        assert!(write(&place.root, "plain.txt", b"again").is_err());
        assert!(write(&place.root, "../out.txt", b"out").is_err());
        symlink("../secret", place.directory.join("link.txt")).unwrap();
        symlink("..", place.directory.join("up")).unwrap();
        assert!(write(&place.root, "up/out.txt", b"out").is_err());
        let patterns = ["*.txt", "*/*", "nothing"];
        let (names, _) = place.ask(&patterns);
        assert_eq!(names, ["in/ner.txt", "plain.txt"]);
        place.assert_left_out(
            &patterns,
            &[("link.txt", "symbolic link"), ("nothing", "no such file")],
        );
        place.assert_left_out(
            &["up/secret", "up/*/x", "plain.txt/x"],
            &[
                ("up/secret", "`up` is a symbolic link"),
                ("up/*/x", "`up` is a symbolic link"),
                ("plain.txt/x", "no such file"),
            ],
        );
        place.limits.files_bytes = 1;
        place.assert_left_out(
            &patterns,
            &[
                ("link.txt", "symbolic link"),
                ("plain.txt", "it has 1 bytes, and all files together may have 1"),
                ("nothing", "no such file"),
            ],
        );
    }

    #[test]
    fn what_has_a_name_that_no_text_can_hold_is_named_with_escapes() {
        let place = Place::with(&["good"]);
        for name in
            [&b"caf\xe9.txt"[..], b"a\nb", b"esc\x1b[31m", b"half\xe2\x82", b"\xff/in", b"\xc3\xa4"]
        {
            let path = place.directory.join(OsStr::from_bytes(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let expected = [
            ("a\\nb", "control characters"),
            ("caf\\xe9.txt", "not UTF-8"),
            ("esc\\u{1b}[31m", "control characters"),
            ("half\\xe2\\x82", "not UTF-8"),
            ("\\xff/in", "not UTF-8"),
        ];
        place.assert_left_out(&["**"], &expected);
        assert_eq!(place.ask(&["**"]).0, ["good", "\u{e4}"]);
        place.assert_left_out(&["caf?.txt"], &[("caf\\xe9.txt", "not UTF-8")]);
        place.assert_left_out(&["go*"], &[]);
    }

    #[test]
    fn a_directory_is_named_where_nothing_in_it_is_asked_for() {
        let place = Place::with(&["out/a", "out/deep/b"]);
        fs::create_dir(place.directory.join("empty")).unwrap();
        place.assert_left_out(&["out"], &[("out", "`out/**` asks")]);
        place.assert_left_out(&["*"], &[("empty", "a directory"), ("out", "a directory")]);
        place.assert_left_out(&["out/*"], &[("out/deep", "a directory")]);
        place.assert_left_out(&["out/**"], &[]);
        place.assert_left_out(&["**"], &[("empty", "a directory")]);
        place.assert_left_out(&["out", "out/**"], &[]);
        place.assert_left_out(&["out/*/x"], &[("out/*/x", "no such file")]);
    }

    #[test]
    fn pipes_sockets_and_what_cannot_be_read_are_named_for_what_they_are() {
        let place = Place::with(&["plain"]);
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkfifoat(&place.root, "pipe", mode).unwrap();
        let _socket =
            std::os::unix::net::UnixListener::bind(place.directory.join("socket")).unwrap();
        let expected = [("pipe", "named pipe"), ("socket", "a socket")];
        place.assert_left_out(&["*"], &expected);
    }

    #[test]
    fn what_lies_too_deep_is_named_once() {
        let part = "d".repeat(100);
        let place = Place::new();
        let deep = place.directory.join(&part).join(&part).join(&part);
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("a"), "x").unwrap();
        fs::write(deep.join("b"), "x").unwrap();
        let name = [&*part; 3].join("/");
        place.assert_left_out(&["**"], &[(&*name, "paths have at most 255 bytes")]);
    }

    #[test]
    fn each_file_beyond_the_number_is_named_and_what_is_beyond_all_measure_is_counted() {
        let names: Vec<_> = (0..200).map(|number| format!("{number:03}")).collect();
        let place = Place::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (came, left_out) = place.ask(&["*"]);
        assert_eq!((came.len(), left_out.len()), (64, 136));
        assert!(left_out.iter().all(|(_, reason)| reason == "at most 64 files are returned"));
        assert_eq!((&*left_out[0].0, &*left_out[135].0), ("064", "199"));

        let names: Vec<_> = (0..600).map(|number| format!("{number:0250}")).collect();
        let place = Place::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (_, left_out) = place.ask(&["*"]);
        let listed = left_out.len() - 1;
        let (name, reason) = left_out.last().unwrap();
        assert_eq!(name, "*");
        assert!(reason.starts_with(&format!("{} more files", 600 - 64 - listed)), "{reason}");
        let bytes: usize = left_out.iter().map(|(name, reason)| name.len() + reason.len()).sum();
        assert!(bytes < LEFT_OUT_BYTES_MAX + 100, "{bytes}");
    }

    #[test]
    fn the_program_comes_back_only_where_it_made_something_else_of_its_file() {
        let place = Place::with(&["other.py"]);
        place.assert_left_out(&["main.py"], &[("main.py", "only the program itself")]);
        place.assert_left_out(&["*.py"], &[]);
        assert_eq!(place.ask(&["*.py"]).0, ["other.py"]);
        fs::write(place.directory.join("main.py"), "made").unwrap();
        assert_eq!(place.ask(&["*.py"]).0, ["main.py", "other.py"]);
    }

    #[test]
    fn a_file_can_be_executed() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = Place::with(&["x.sh"]);
        let mode = fs::metadata(place.directory.join("x.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o700, 0o700);
    }
}
