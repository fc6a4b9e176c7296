//! Settings of the projections, and the marks that record how far they are folded.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ai_factory_schemas::envelope::ChainHash;

/// Location of the projections and limits of what may wait in memory.
#[derive(Clone, Debug)]
pub struct ProjectionSettings {
    /// The data directory, with `projections.redb`, `index/` and `snapshots/`.
    pub data_dir: PathBuf,
    /// Events whose rows may wait for a flush.
    pub flush_events_max: u64,
    /// Bytes of rows that may wait for a flush.
    pub flush_bytes_max: usize,
    /// Documents that may wait for a commit of the search index.
    pub flush_documents_max: usize,
    /// Lag, in events at opening, above which a search index is searched as far as it goes while
    /// the rest is folded in the background. Below it a search waits for the fold. More than a
    /// close leaves.
    pub served_behind_events_min: u64,
    /// Idle time, without a search or an append, before an idle merge of the search index.
    pub idle_after: Duration,
    /// Page cache of the row file, in bytes.
    pub cache_bytes_max: usize,
    /// Memory limit of a process that folds without usable files, in bytes.
    pub memory_bytes_max: usize,
}

impl ProjectionSettings {
    /// The defaults, for the data directory `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            flush_events_max: 4096,
            flush_bytes_max: 2 * 1024 * 1024,
            flush_documents_max: 512,
            served_behind_events_min: 20_000,
            idle_after: Duration::from_secs(2),
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
    /// Only reads them; folds in memory what they lack.
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

/// A position in the journal, with the hash that identifies the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The position; 0 before the first record.
    pub(crate) position: u64,
    /// Hash of the record at this position.
    pub(crate) hash: ChainHash,
}

impl Mark {
    /// The stored form.
    pub(crate) fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&self.position.to_be_bytes());
        bytes[8..].copy_from_slice(&self.hash.0);
        bytes
    }

    /// From the stored form.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (position, hash) = bytes.split_at_checked(8)?;
        Some(Self {
            position: u64::from_be_bytes(position.try_into().ok()?),
            hash: ChainHash(hash.try_into().ok()?),
        })
    }
}
