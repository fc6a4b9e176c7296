//! Errors of opening a journal, and redb's errors translated to the port's.

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_ports::journal::{AppendError, ReadError, RefusalCause};

/// Why a journal was not opened. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenJournalError {
    /// A newer program wrote it.
    #[error(
        "{} has journal format {found}, this program knows up to {known}: use a newer ai-factory",
        path.display()
    )]
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// The format in the file.
        found: u64,
        /// The newest format that this program reads.
        known: u64,
    },
    /// The file is not a journal.
    #[error(
        "{} is not a journal: move it away, or choose another data directory",
        .0.display()
    )]
    NotAJournal(PathBuf),
    /// Another process writes to it.
    #[error(
        "the journal in {} is in use by process {pid}: stop that process, or choose another data directory",
        dir.display()
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process that has it open; 0 if unknown.
        pid: u32,
    },
    /// There is no journal.
    #[error(
        "there is no journal in {}: name the data directory of a factory that has run (`--data-dir`), or make one \
         with `ai-factory run GOAL`",
        .0.display()
    )]
    Missing(PathBuf),
    /// The operating system denies access.
    #[error(
        "no permission for {}: give this user access to the data directory; for reading, the \
         group access of `data_mode = group` is enough",
        .0.display()
    )]
    Permission(PathBuf),
    /// The file system is read-only.
    #[error(
        "{} is on a read-only file system: the journal can be read; to write, remount the file \
         system, or choose another data directory",
        .0.display()
    )]
    ReadOnlySegment(PathBuf),
    /// The files do not fit together.
    #[error(
        "the journal in {} is damaged: {reason}; see `ai-factory verify`, or restore a backup",
        dir.display()
    )]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// The mismatch.
        reason: String,
    },
    /// An I/O error.
    #[error("the journal at {} cannot be opened: {reason}", path.display())]
    Storage {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system or redb.
        reason: Arc<str>,
    },
}

impl OpenJournalError {
    pub(super) fn io(path: impl Into<PathBuf>, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission(path.into()),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnlySegment(path.into()),
            _ => Self::Storage { path: path.into(), reason: describe_io(error) },
        }
    }

    pub(super) fn newer(path: impl Into<PathBuf>, found: u64, known: u64) -> Self {
        Self::NewerFormat { path: path.into(), found, known }
    }

    pub(super) fn damaged_pages(dir: &Path) -> Self {
        Self::Damaged { dir: dir.to_owned(), reason: "pages of a file are unreadable".to_owned() }
    }

    pub(super) fn redb(path: impl Into<PathBuf>, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::io(path, &error),
            error => Self::Storage { path: path.into(), reason: describe(error) },
        }
    }
}

/// An I/O error's text, with the remedy where one is known.
fn describe_io(error: &io::Error) -> Arc<str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("{error}: free some space and start again").into()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{error}: mount it for writing and start again").into()
        }
        _ => error.to_string().into(),
    }
}

/// A storage error's text. The library's error type does not leave this module.
pub(super) fn describe(error: impl Into<redb::Error>) -> Arc<str> {
    match error.into() {
        redb::Error::Io(error) => describe_io(&error),
        error => error.to_string().into(),
    }
}

thread_local! {
    /// Whether this thread is within [`catch_damage`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread reads pages that may be damaged: a panic is then reported as an error of the
/// read, not as a fault of the program.
pub fn is_panic_guarded() -> bool {
    IS_GUARDED.get()
}

/// Calls redb where a page may be damaged: a panic there is reported as a damaged file.
pub(super) fn catch_damage<T, E>(
    damaged: impl FnOnce() -> E,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let outer = IS_GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(call));
    IS_GUARDED.set(outer);
    done.unwrap_or_else(|_| Err(damaged()))
}

/// The error of a read in which redb panicked.
pub(super) fn damaged_pages() -> ReadError {
    StorageError::new("pages of a file are unreadable, see `ai-factory verify`").into()
}

/// A failure of an open journal.
#[derive(Clone, Debug)]
pub(super) struct StorageError {
    /// What the journal reports if it appends nothing after this.
    pub(super) cause: RefusalCause,
    pub(super) reason: Arc<str>,
}

impl<E: Into<redb::Error>> From<E> for StorageError {
    fn from(error: E) -> Self {
        Self::new(describe(error))
    }
}

impl From<OpenJournalError> for StorageError {
    fn from(error: OpenJournalError) -> Self {
        Self::new(error.to_string())
    }
}

impl StorageError {
    pub(super) fn new(reason: impl Into<Arc<str>>) -> Self {
        Self { cause: RefusalCause::Storage, reason: reason.into() }
    }

    pub(super) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(format!("{what}: {}", describe_io(error)))
    }

    /// The journal's files are not where they were opened.
    pub(super) fn files_taken(reason: impl Into<Arc<str>>) -> Self {
        Self { cause: RefusalCause::FilesTaken, reason: reason.into() }
    }

    pub(super) fn closed() -> Self {
        Self { cause: RefusalCause::Closed, reason: "the journal is closed".into() }
    }
}

impl std::fmt::Display for StorageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<StorageError> for ReadError {
    fn from(fault: StorageError) -> Self {
        Self::Storage(fault.reason)
    }
}

impl From<StorageError> for AppendError {
    fn from(fault: StorageError) -> Self {
        Self::Storage(fault.reason)
    }
}
