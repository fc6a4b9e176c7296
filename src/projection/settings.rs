//! What projections are opened with, and the marks that say how far they have come.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ai_factory_schemas::envelope::ChainHash;

/// Where the projections are and how much may wait in memory.
#[derive(Clone, Debug)]
pub struct ProjectionSettings {
    /// The data directory: `projections.redb`, `index/` and `snapshots/` are in it.
    pub data_dir: PathBuf,
    /// Rows of this many events may wait for a flush.
    pub flush_events_max: u64,
    /// Rows of this many bytes may wait for a flush.
    pub flush_bytes_max: usize,
    /// This many documents may wait for a commit of the search index.
    pub flush_documents_max: usize,
    /// A search index that is behind the journal by more than this many events when it is opened is searched as far as
    /// it goes while somebody folds the rest; with less to fold, a search waits for it. More than a close leaves.
    pub served_behind_events_min: u64,
    /// When nobody has searched or recorded anything for so long, the search index is put in order.
    pub rest: Duration,
    /// The page cache of the row file, in bytes.
    pub cache_bytes_max: usize,
    /// The most that a process without usable files folds in memory, in bytes.
    pub memory_bytes_max: usize,
}

impl ProjectionSettings {
    /// The defaults, for the projections in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            flush_events_max: 4096,
            flush_bytes_max: 2 * 1024 * 1024,
            flush_documents_max: 512,
            served_behind_events_min: 20_000,
            rest: Duration::from_secs(2),
            cache_bytes_max: 2 * 1024 * 1024,
            memory_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// What a process does with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Keeps them up to date; one process at a time.
    Write,
    /// Only reads them, and folds what they lack in memory.
    Read,
}

/// Why the projections cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProjectionError {
    /// Another process keeps them up to date.
    #[error("{} is in use by another ai-factory: stop it, or only read", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The files cannot be made or read.
    #[error("the projections at {} cannot be opened: {reason}; check the disk and its permissions", path.display())]
    Storage {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl ProjectionError {
    pub(crate) fn storage(path: &Path, reason: &impl ToString) -> Self {
        Self::Storage { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// A place in the journal, and the hash that says which journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The position; 0 before the first record.
    pub(crate) position: u64,
    /// The hash of the record there.
    pub(crate) hash: ChainHash,
}

impl Mark {
    /// As it is stored.
    pub(crate) fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&self.position.to_be_bytes());
        bytes[8..].copy_from_slice(&self.hash.0);
        bytes
    }

    /// As it was stored.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (position, hash) = bytes.split_at_checked(8)?;
        Some(Self {
            position: u64::from_be_bytes(position.try_into().ok()?),
            hash: ChainHash(hash.try_into().ok()?),
        })
    }
}
