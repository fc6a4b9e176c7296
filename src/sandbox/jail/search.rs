//! Search for files below a directory that match patterns.

use std::{fmt::Write as _, io, os::fd::OwnedFd};

use ai_factory_schemas::limit::FILE_NAME_BYTES_MAX;
use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::{
    files::open_directory,
    pattern::{Pattern, PrefixMatches},
};

/// Maximum number of files and directories visited; only a directory on disk can hold more.
pub(super) const ENTRIES_MAX: usize = 64 * 1024;
/// The entries `.` and `..`, and one beyond the maximum.
const OWN_ENTRIES: usize = 3;
/// Stands for the name where files are only counted.
pub(super) const MORE: &str = "*";

/// The result for one pattern.
#[derive(Clone)]
pub(super) enum Fate {
    /// It matched something, possibly left out.
    Found,
    Nothing,
    /// It matched nothing, for this reason.
    Blocked(String),
}

/// A search for the matches of several patterns.
pub(super) struct Search<'a> {
    patterns: Vec<Pattern<'a>>,
    pub(super) fates: Vec<Fate>,
    /// The names; for anything but a regular file with the reason why it is not returned.
    pub(super) found: Vec<(Vec<u8>, Result<(), String>)>,
    program: Option<&'a str>,
    entries: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(patterns: &'a [String], program: Option<&'a str>) -> Self {
        Self {
            patterns: patterns.iter().map(|pattern| Pattern::new(pattern)).collect(),
            fates: vec![Fate::Nothing; patterns.len()],
            found: Vec::new(),
            program,
            entries: 0,
        }
    }

    pub(super) fn look_below(&mut self, root: &OwnedFd) {
        let reached: Vec<_> = self.patterns.iter().map(Pattern::start).collect();
        if let Err(error) = self.look(root, &[], &reached) {
            let reason = format!("the working directory cannot be listed: {error}");
            self.fates.fill(Fate::Blocked(reason));
        }
        if self.entries > ENTRIES_MAX {
            let reason =
                format!("only the first {ENTRIES_MAX} files and directories were looked at");
            self.found.push((MORE.into(), Err(reason)));
        }
    }

    /// Searches `at`, whose path is `above`; returns whether anything there matches.
    fn look(&mut self, at: &OwnedFd, above: &[u8], reached: &[PrefixMatches]) -> io::Result<bool> {
        let mut is_any_wanted = false;
        for part in parts(at)? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                break;
            }
            let name =
                if above.is_empty() { part.clone() } else { [above, part.as_slice()].join(&b'/') };
            let text = String::from_utf8_lossy(&part);
            let so_far = self.patterns.iter().zip(reached);
            let reached: Vec<_> =
                so_far.map(|(pattern, reached)| pattern.step(reached, &text)).collect();
            if !reached.iter().any(|reached| reached.is_match() || reached.goes_on()) {
                continue;
            }
            is_any_wanted |= match kind(at, &part) {
                FileType::Directory => self.directory(at, &part, name, &reached),
                kind => self.file(kind, name, &reached),
            };
        }
        Ok(is_any_wanted)
    }

    /// Handles a directory: searches it, and names the directory itself if it matches and nothing
    /// in it does.
    fn directory(
        &mut self,
        at: &OwnedFd,
        part: &[u8],
        name: Vec<u8>,
        reached: &[PrefixMatches],
    ) -> bool {
        if reached.iter().any(PrefixMatches::goes_on) {
            // The limit on path length also ends the descent.
            let below = if name.len() > FILE_NAME_BYTES_MAX {
                Err(io::Error::other(format!("paths have at most {FILE_NAME_BYTES_MAX} bytes")))
            } else {
                open_directory(at, part).and_then(|below| self.look(&below, &name, reached))
            };
            match below {
                Ok(true) => {
                    self.mark(reached, PrefixMatches::is_match);
                    return true;
                }
                Ok(false) => {}
                Err(error) => {
                    let reason = format!("its content cannot be returned: {error}");
                    return self.name(name, Err(reason), reached, |reached| {
                        reached.is_match() || reached.goes_on()
                    });
                }
            }
        }
        let reason = format!("it is a directory: `{}/**` asks for what is in it", shown(&name));
        self.name(name, Err(reason), reached, PrefixMatches::is_match)
    }

    /// Handles an entry that is no directory.
    fn file(&mut self, kind: FileType, name: Vec<u8>, reached: &[PrefixMatches]) -> bool {
        if self.program.is_some_and(|program| program.as_bytes() == name) {
            let reason = "only the program itself, unchanged, has this name";
            self.block(reached, PrefixMatches::is_match, reason);
            return false;
        }
        let what = match kind {
            FileType::RegularFile => Ok(()),
            FileType::Symlink => {
                let link = shown(&name);
                let reason = format!("`{link}` is a symbolic link, and none is followed");
                self.block(reached, PrefixMatches::goes_on, &reason);
                Err("it is a symbolic link, and none is followed")
            }
            FileType::Fifo => Err("it is a named pipe, not a regular file"),
            FileType::Socket => Err("it is a socket, not a regular file"),
            _ => Err("it is not a regular file"),
        };
        self.name(name, what.map_err(str::to_owned), reached, PrefixMatches::is_match)
    }

    /// Records for the matching patterns why they may find nothing.
    fn block(
        &mut self,
        reached: &[PrefixMatches],
        asks: impl Fn(&PrefixMatches) -> bool,
        reason: &str,
    ) {
        for (fate, _) in self.fates.iter_mut().zip(reached).filter(|(_, it)| asks(it)) {
            if matches!(fate, Fate::Nothing) {
                *fate = Fate::Blocked(reason.to_owned());
            }
        }
    }

    /// Records a name for the patterns that match it; returns whether any does.
    fn name(
        &mut self,
        name: Vec<u8>,
        what: Result<(), String>,
        reached: &[PrefixMatches],
        asks: impl Fn(&PrefixMatches) -> bool,
    ) -> bool {
        let is_wanted = self.mark(reached, asks);
        if is_wanted {
            self.found.push((name, what));
        }
        is_wanted
    }

    /// Marks the matching patterns as found; returns whether there are any.
    fn mark(&mut self, reached: &[PrefixMatches], asks: impl Fn(&PrefixMatches) -> bool) -> bool {
        let mut is_any = false;
        for (fate, _) in self.fates.iter_mut().zip(reached).filter(|(_, it)| asks(it)) {
            *fate = Fate::Found;
            is_any = true;
        }
        is_any
    }
}

/// The names in a directory, sorted; a subset if there are too many.
pub(super) fn parts(at: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    for entry in Dir::read_from(at)?.take(ENTRIES_MAX + OWN_ENTRIES) {
        let part = entry?.file_name().to_bytes().to_vec();
        if part != b"." && part != b".." {
            parts.push(part);
        }
    }
    parts.sort();
    Ok(parts)
}

/// The file type, without following links.
pub(super) fn kind(at: &OwnedFd, part: &[u8]) -> FileType {
    let metadata = statat(at, part, AtFlags::SYMLINK_NOFOLLOW);
    metadata.map_or(FileType::Unknown, |metadata| FileType::from_raw_mode(metadata.st_mode))
}

/// A name for display, with escapes for bytes that are not valid or not printable text.
pub(super) fn shown(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}
