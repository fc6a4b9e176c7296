//! The files of a journal: their names, the lock that says who writes, and renames that last.
//!
//! `journal.redb` is the active segment, `segments/journal-<first position>.redb` the sealed ones,
//! `segments/catalog.redb` the disposable index over those, `journal.lock` names the writing process.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::error::OpenError;

const ACTIVE: &str = "journal.redb";
const NEXT: &str = "journal.redb.new";
const SEGMENTS: &str = "segments";
const CATALOG: &str = "catalog.redb";
const LOCK: &str = "journal.lock";

/// How often and how long a process waits for another one that only repairs: 500 × 10 ms.
const REPAIR_WAITS_MAX: u32 = 500;
const REPAIR_WAIT: Duration = Duration::from_millis(10);

pub(super) fn active(dir: &Path) -> PathBuf {
    dir.join(ACTIVE)
}

pub(super) fn next(dir: &Path) -> PathBuf {
    dir.join(NEXT)
}

pub(super) fn segments(dir: &Path) -> PathBuf {
    dir.join(SEGMENTS)
}

pub(super) fn catalog(dir: &Path) -> PathBuf {
    dir.join(SEGMENTS).join(CATALOG)
}

pub(super) fn sealed(dir: &Path, first: u64) -> PathBuf {
    dir.join(SEGMENTS).join(format!("journal-{first:020}.redb"))
}

/// Which file a path leads to now, whatever it is called; `None` where it leads to none.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The first positions of the sealed segments, in order.
pub(super) fn list_sealed(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(segments(dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut firsts = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix("journal-"))
            .and_then(|name| name.strip_suffix(".redb"));
        if let Some(first) = digits.and_then(|digits| digits.parse().ok()) {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Makes the data directory and the one for sealed segments, and makes them last.
pub(super) fn make_dirs(dir: &Path) -> Result<(), OpenError> {
    let segments = segments(dir);
    let fresh = !segments.exists();
    fs::create_dir_all(&segments).map_err(|error| OpenError::io(&segments, &error))?;
    if fresh {
        sync_dir(dir).map_err(|error| OpenError::io(dir, &error))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The parent need not be ours to open.
            let _ = sync_dir(parent);
        }
    }
    Ok(())
}

/// A rename is on disk when its directory is.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether the first bytes of `path` are redb's.
pub(super) fn is_redb(path: &Path) -> io::Result<bool> {
    let mut magic = [0; 9];
    match File::open(path)?.read_exact(&mut magic) {
        Ok(()) => Ok(magic == *b"redb\x1A\x0A\xA9\x0D\x0A"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the holder of the lock is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It writes, for as long as it runs.
    Write,
    /// It repairs what a crash left, and is done soon.
    Repair,
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Repair => "repair",
        }
    }
}

/// The sole right to write to a journal, for as long as this lives.
#[derive(Debug)]
pub(super) struct WriteLock {
    _file: File,
}

impl WriteLock {
    /// Takes the lock. Waits only for a process that repairs.
    pub(super) fn take(dir: &Path, purpose: Purpose) -> Result<Self, OpenError> {
        let path = dir.join(LOCK);
        let refused = |error: io::Error| OpenError::io(&path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(refused)?;
        let mut waits = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(refused(error)),
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    file.rewind().map_err(refused)?;
                    // What stands there is for people; half-written text only costs the process id.
                    let _ = file.read_to_string(&mut text);
                    let (pid, word) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
                    if word == Purpose::Write.word() || waits == REPAIR_WAITS_MAX {
                        let pid = pid.parse().unwrap_or(0);
                        return Err(OpenError::InUse { dir: dir.to_owned(), pid });
                    }
                    waits += 1;
                    std::thread::sleep(REPAIR_WAIT);
                }
            }
        }
        // For people only: a disk too full for a process id may still hold a journal to read.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{} {}", std::process::id(), purpose.word()));
        Ok(Self { _file: file })
    }
}

/// The process that has the journal in `dir` open for writing, if one does.
pub fn holder(dir: &Path) -> Option<u32> {
    let mut file = File::open(dir.join(LOCK)).ok()?;
    // A lock that can be shared is held by nobody; it is given back with the file.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            text.split_whitespace().next()?.parse().ok()
        }
        _ => None,
    }
}
