//! Settings of the projections.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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
