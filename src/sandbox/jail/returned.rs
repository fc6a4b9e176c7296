//! Files of a run: those that go into `/box` before it, and those that come out after it.
//!
//! *Promises.* A name leads to nowhere but below `/box`; no link is followed; only plain files come out, as many and as
//! large as the limits say.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use ai_factory_schemas::{file::check_name, run::FileLeftOut};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, statat},
    io::Errno,
};

use super::{super::limits::RunLimits, message::FileHeader};

/// How many names are told of files that were left out.
const LEFT_OUT_MAX: usize = 64;

/// Whether a name is what a pattern asks for: `*` and `?` match within one part of a path, `**` any number of parts.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    // Which beginnings of the pattern match the parts so far.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    skip_empty(&pattern, &mut reached);
    for part in name {
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match *wanted {
                "**" => next[at] = true,
                wanted => next[at + 1] |= part_matches(wanted, part),
            }
        }
        reached = next;
        skip_empty(&pattern, &mut reached);
    }
    reached[pattern.len()]
}

/// `**` may stand for no part at all.
fn skip_empty(pattern: &[&str], reached: &mut [bool]) {
    for (at, wanted) in pattern.iter().enumerate() {
        reached[at + 1] |= reached[at] && *wanted == "**";
    }
}

fn part_matches(pattern: &str, part: &str) -> bool {
    let (pattern, part): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), part.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where the last `*` was, and how far it reaches: only that one ever has to take more.
    let mut star: Option<(usize, usize)> = None;
    while of < part.len() {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, of));
                at += 1;
            }
            (Some(wanted), _) if *wanted == '?' || *wanted == part[of] => {
                at += 1;
                of += 1;
            }
            (_, Some((star_at, reach))) => {
                star = Some((star_at, reach + 1));
                at = star_at + 1;
                of = reach + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// Writes a new file below `root`; its directories are made.
pub(super) fn write(root: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
    check_name(name).map_err(|wrong| io::Error::other(format!("its name {wrong}")))?;
    let (directories, file) = name.rsplit_once('/').unwrap_or(("", name));
    let mut at = root.try_clone()?;
    for directory in directories.split('/').filter(|part| !part.is_empty()) {
        match mkdirat(&at, directory, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_directory(&at, directory)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&at, file, flags, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(content)
}

/// The directory at `path`, to be held.
pub(super) fn open_root(path: &str) -> io::Result<OwnedFd> {
    open_directory(&rustix::fs::CWD, path)
}

fn open_directory(at: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Files that came out.
#[derive(Default)]
pub(super) struct Returned {
    pub(super) files: Vec<FileHeader>,
    pub(super) contents: Vec<u8>,
    pub(super) left_out: Vec<FileLeftOut>,
}

/// The files below `root` that patterns ask for, in the order of their names, but for `program`, which whoever asks has
/// already. Nobody else may be at work there any more.
pub(super) fn collect(
    root: &OwnedFd,
    patterns: &[String],
    program: &str,
    limits: &RunLimits,
) -> Returned {
    let mut returned = Returned::default();
    if patterns.is_empty() {
        return returned;
    }
    let mut found = Found { patterns, matched: vec![false; patterns.len()], names: Vec::new() };
    found.look(root, "");
    found.names.retain(|name| name != program);
    found.names.sort();
    for name in found.names {
        let taken = if returned.files.len() as u64 >= limits.files {
            Err(format!("at most {} files come back", limits.files))
        } else {
            returned.take(root, &name, limits.files_bytes)
        };
        if let Err(reason) = taken {
            returned.leave_out(name, reason);
        }
    }
    for (pattern, matched) in patterns.iter().zip(found.matched) {
        if !matched {
            returned.leave_out(pattern.clone(), "no such file".to_owned());
        }
    }
    returned
}

impl Returned {
    fn leave_out(&mut self, name: String, reason: String) {
        if self.left_out.len() < LEFT_OUT_MAX {
            self.left_out.push(FileLeftOut { name, reason });
        }
    }

    fn take(&mut self, root: &OwnedFd, name: &str, bytes_max: u64) -> Result<(), String> {
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        let (file, bytes) = open_plain(root, name).map_err(unreadable)?;
        let Some(bytes) = bytes else { return Err("it is not a regular file".to_owned()) };
        if bytes > bytes_max.saturating_sub(self.contents.len() as u64) {
            return Err(format!("all files together may be {bytes_max} bytes"));
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

/// A file by its name below `root`, and its length if it is a regular one.
fn open_plain(root: &OwnedFd, name: &str) -> io::Result<(File, Option<u64>)> {
    let (directories, file) = name.rsplit_once('/').unwrap_or(("", name));
    let mut at = root.try_clone()?;
    for directory in directories.split('/').filter(|part| !part.is_empty()) {
        at = open_directory(&at, directory)?;
    }
    let is_regular = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    if !is_regular(statat(&at, file, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
        return Ok((File::from(at), None));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&at, file, flags, Mode::empty())?;
    let metadata = fstat(&file)?;
    let bytes = is_regular(metadata.st_mode).then_some(metadata.st_size);
    Ok((File::from(file), bytes.and_then(|bytes| u64::try_from(bytes).ok())))
}

/// A search for what is no directory and matches.
struct Found<'a> {
    patterns: &'a [String],
    matched: Vec<bool>,
    names: Vec<String>,
}

impl Found<'_> {
    /// Looks below `at`. What cannot be listed, or has a name that could not be told, is passed over.
    fn look(&mut self, at: &OwnedFd, above: &str) {
        let Ok(entries) = Dir::read_from(at) else { return };
        for entry in entries.flatten() {
            let Ok(part) = entry.file_name().to_str() else { continue };
            let name = if above.is_empty() { part.to_owned() } else { format!("{above}/{part}") };
            // This also ends the way down.
            if check_name(&name).is_err() {
                continue;
            }
            let Ok(metadata) = statat(at, part, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(metadata.st_mode) == FileType::Directory {
                if let Ok(below) = open_directory(at, part) {
                    self.look(&below, &name);
                }
                continue;
            }
            let mut is_wanted = false;
            for (pattern, matched) in self.patterns.iter().zip(&mut self.matched) {
                if matches(pattern, &name) {
                    *matched = true;
                    is_wanted = true;
                }
            }
            if is_wanted {
                self.names.push(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn patterns_stop_at_slashes_unless_they_say_otherwise() {
        for (pattern, name, is_match) in [
            ("a.txt", "a.txt", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("*/*.txt", "d/a.txt", true),
            ("?.txt", "a.txt", true),
            ("?.txt", ".txt", false),
            ("?", "?", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("d?a", "d/a", false),
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("**/c", "a/b/c", true),
            ("**/c", "c", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "b/c", false),
            ("**/b", "a/b/c", false),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
    }

    #[test]
    fn only_plain_files_come_out_and_no_link_is_followed() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("secret"), "secret").unwrap();
        let directory = tmp.path().join("box");
        std::fs::create_dir(&directory).unwrap();
        let root = open_root(directory.to_str().unwrap()).unwrap();
        write(&root, "plain.txt", b"plain").unwrap();
        write(&root, "in/ner.txt", b"inner").unwrap();
        write(&root, "main.py", b"program").unwrap();
        assert!(write(&root, "plain.txt", b"again").is_err());
        assert!(write(&root, "../out.txt", b"out").is_err());
        symlink("../secret", directory.join("link.txt")).unwrap();
        symlink("..", directory.join("up")).unwrap();
        assert!(write(&root, "up/out.txt", b"out").is_err());
        let patterns = ["*.txt", "*/*", "*.py", "nothing"].map(str::to_owned);
        let left_out = |returned: &Returned| {
            returned.left_out.iter().map(|file| file.name.clone()).collect::<Vec<_>>()
        };
        let returned = collect(&root, &patterns, "main.py", &RunLimits::default());
        let names: Vec<_> = returned.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["in/ner.txt", "plain.txt"]);
        assert_eq!(returned.contents, b"innerplain");
        assert_eq!(left_out(&returned), ["link.txt", "nothing"]);

        let small = RunLimits { files_bytes: 7, ..RunLimits::default() };
        let returned = collect(&root, &patterns, "main.py", &small);
        assert_eq!(returned.contents, b"inner");
        assert_eq!(left_out(&returned), ["link.txt", "plain.txt", "nothing"]);
    }
}
