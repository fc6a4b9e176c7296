//! The files of a journal: names, the write lock, and durable renames.
//!
//! `journal.redb` is the active segment, `segments/journal-<first position>.redb` the sealed ones,
//! `segments/catalog.redb` the disposable index over the sealed ones, `journal.lock` names the
//! writing process.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::error::OpenJournalError;

const ACTIVE: &str = "journal.redb";
const NEXT: &str = "journal.redb.new";
const SEGMENTS: &str = "segments";
const CATALOG: &str = "catalog.redb";
const LOCK: &str = "journal.lock";

/// Attempts and interval for taking the write lock: 10 × 10 ms. A process that queries the holder
/// holds the lock for a moment, and so does one that was just killed.
const LOCK_TRIES_MAX: u32 = 10;
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// The widest mode of a file or directory that the journal creates; the umask narrows it.
pub(super) const FILE_MODE_MAX: u32 = 0o640;
const DIRECTORY_MODE_MAX: u32 = 0o750;

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

pub(super) fn lock(dir: &Path) -> PathBuf {
    dir.join(LOCK)
}

pub(super) fn sealed(dir: &Path, first: u64) -> PathBuf {
    dir.join(SEGMENTS).join(format!("journal-{first:020}.redb"))
}

/// Device and inode of a file: constant while a process has it open, whatever its name.
pub(super) type Identity = (u64, u64);

/// The file a path leads to; `None` if it does not exist.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| identity_of(&file))
}

/// What every write to a file changes, and every replacement of it: identity, length, and the times
/// of the last modification and status change, in seconds and nanoseconds.
pub(super) type Stamp = (Identity, u64, (i64, i64), (i64, i64));

/// The stamp of a file; `None` where it is missing.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    let (modified, changed) =
        ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    Some((identity_of(&file), file.len(), modified, changed))
}

pub(super) fn identity_of(file: &fs::Metadata) -> Identity {
    (file.dev(), file.ino())
}

/// Refuses a directory without a journal; creates nothing.
pub fn require(dir: &Path) -> Result<(), OpenJournalError> {
    let path = active(dir);
    // In this order: a file that a writer moves to the sealed ones meanwhile is found there.
    let is_there = path.try_exists().map_err(|error| OpenJournalError::io(&path, &error))?;
    let sealed = || list_sealed(dir).map_err(|error| OpenJournalError::io(dir, &error));
    if is_there || !sealed()?.is_empty() {
        Ok(())
    } else {
        Err(OpenJournalError::Missing(dir.to_owned()))
    }
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

/// Creates the data directory and the one for sealed segments, durably.
pub(super) fn make_dirs(dir: &Path) -> Result<(), OpenJournalError> {
    let segments = segments(dir);
    let fresh = !segments.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE_MAX)
        .create(&segments)
        .map_err(|error| OpenJournalError::io(&segments, &error))?;
    if fresh {
        sync_dir(dir).map_err(|error| OpenJournalError::io(dir, &error))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // There may be no permission to open the parent.
            let _ = sync_dir(parent);
        }
    }
    Ok(())
}

/// Makes a rename durable: it is on disk once its directory is synced.
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

/// The exclusive right to write to a journal, until dropped.
#[derive(Debug)]
pub(super) struct WriteLock {
    file: File,
}

impl WriteLock {
    /// Takes the lock.
    pub(super) fn acquire(dir: &Path) -> Result<Self, OpenJournalError> {
        let path = lock(dir);
        let refused = |error: io::Error| OpenJournalError::io(&path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE_MAX)
            .open(&path)
            .map_err(refused)?;
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(refused(error)),
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES_MAX => {
                    tries += 1;
                    std::thread::sleep(LOCK_AGAIN);
                }
                Err(TryLockError::WouldBlock) => {
                    let pid = named_in(&mut file).unwrap_or(0);
                    return Err(OpenJournalError::InUse { dir: dir.to_owned(), pid });
                }
            }
        }
        // Informational. Overwriting needs no space on a full disk; another process's id must not
        // stay.
        let text = format!("{}\n", std::process::id());
        let named = file
            .rewind()
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.set_len(text.len() as u64));
        let _ = named.or_else(|_| file.set_len(0));
        Ok(Self { file })
    }

    /// The locked file.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        Ok(identity_of(&self.file.metadata()?))
    }
}

/// The process id in a lock file.
fn named_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The lock file, if another process holds its lock. Read access suffices.
fn held(dir: &Path) -> Option<File> {
    let file = File::open(lock(dir)).ok()?;
    // If a shared lock succeeds, no process holds it; the shared lock is released with the file.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(file)
}

/// Whether a process has the journal in `dir` open for writing.
pub(super) fn is_held(dir: &Path) -> bool {
    held(dir).is_some()
}

/// The process that has the journal in `dir` open for writing, if one does.
pub fn holder(dir: &Path) -> Option<u32> {
    named_in(&mut held(dir)?)
}
