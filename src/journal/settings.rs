//! The journal's settings, and the size limit of one append.

use std::path::{Path, PathBuf};

/// Bytes of records and blobs in one append, at most. Ten blobs of maximum size: a whole workspace
/// beside both outputs of a run, and little enough that a full queue does not exhaust memory.
pub const APPEND_BYTES_MAX: usize = 40 * 1024 * 1024;

/// Location and limits of the journal.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The data directory; created if missing.
    pub dir: PathBuf,
    /// The CloudEvents `source` of new events.
    pub source: String,
    /// Records in the active segment after which it is sealed. Bounds the repair after a crash.
    pub segment_events_max: u64,
    /// Bytes of records and blobs in the active segment after which it is sealed.
    pub segment_bytes_max: u64,
    /// Bytes of records and blobs after which a commit accepts no further append.
    pub commit_bytes_max: usize,
    /// Appends that may be queued for the writer.
    pub queue_appends_max: usize,
    /// Bytes of records and blobs that may be queued for the writer; at least
    /// [`APPEND_BYTES_MAX`].
    pub queue_bytes_max: usize,
    /// The page cache of the active segment, in bytes.
    pub cache_bytes_max: usize,
    /// Sealed segments open at the same time.
    pub sealed_open_max: usize,
}

impl JournalSettings {
    /// The defaults for the journal in `dir`.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self {
            dir: dir.as_ref().to_owned(),
            source: "/ai-factory/local".to_owned(),
            segment_events_max: 32_768,
            segment_bytes_max: 32 * 1024 * 1024,
            commit_bytes_max: 8 * 1024 * 1024,
            queue_appends_max: 8_192,
            queue_bytes_max: 64 * 1024 * 1024,
            cache_bytes_max: 4 * 1024 * 1024,
            sealed_open_max: 4,
        }
    }
}
