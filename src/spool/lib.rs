//! The spool: uploaded contents of files, outside the journal, until goals name them.
//!
//! *Promises.* Those of the port ([`ai_factory_ports::uploads`]). A content is a file named by its
//! hash; while it is incomplete its name ends in its declared size and `.part`, and its length is
//! what was received. From its first part on it takes the room of the whole. What a file holds is
//! hashed when it is complete and again when it is read: a damaged one is dropped and counts as
//! missing. Files that the spool did not name are neither counted nor removed.
//!
//! *Limits.* [`SPOOL_BYTES_MAX`] in all; a content is dropped [`SPOOL_AGE_MAX`] after it was last
//! asked for. Nothing is synced: after a loss of power a content may be missing, and is sent again.
//!
//! *Not here.* Which contents the journal has, and the limits of a workspace: the supervisor knows
//! both.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod contents;
mod directory;
mod limits;
mod metrics;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use ai_factory_ports::{
    clock::Clock,
    metrics::{MetricSource, Registry},
    uploads::{UploadError, Uploads},
};
use ai_factory_schemas::{answer::Uploaded, text::BlobHash};
use parking_lot::Mutex;

use self::{contents::Contents, directory::Directory, metrics::SpoolMetrics};

pub use limits::{SPOOL_AGE_MAX, SPOOL_BYTES_MAX, SPOOL_CONTENT_BYTES_MIN};

/// Interval at which [`Spool::expire_regularly`] looks for what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Uploads as files of one directory.
pub struct Spool {
    contents: Arc<Mutex<Contents>>,
    clock: Arc<dyn Clock>,
    metrics: SpoolMetrics,
}

impl Spool {
    /// The spool in a directory, which is created with access for its owner alone if it is missing.
    /// What an earlier process left there counts, as long as it has not expired.
    ///
    /// # Errors
    /// If the directory cannot be created or read.
    pub fn open(path: PathBuf, clock: Arc<dyn Clock>) -> io::Result<Arc<Self>> {
        let metrics = SpoolMetrics::default();
        let mut contents = Contents::open(Directory::open(path)?, metrics.clone())?;
        contents.expire(clock.now());
        Ok(Arc::new(Self { contents: Arc::new(Mutex::new(contents)), clock, metrics }))
    }

    /// Drops expired contents at intervals, forever: each other call does it as well.
    pub async fn expire_regularly(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            if let Err(error) = self.with_contents(|_| Ok(())).await {
                tracing::debug!(%error, "expired uploads were not dropped");
            }
        }
    }

    /// Does work on the files, which blocks, on a thread for it. Expired contents are dropped
    /// before.
    async fn with_contents<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Contents) -> Result<T, UploadError> + Send + 'static,
    ) -> Result<T, UploadError> {
        let (contents, now) = (Arc::clone(&self.contents), self.clock.now());
        let working = tokio::task::spawn_blocking(move || {
            let mut contents = contents.lock();
            contents.expire(now);
            work(&mut contents)
        });
        working.await.map_err(|error| UploadError::Storage(error.to_string()))?
    }
}

#[async_trait::async_trait]
impl Uploads for Spool {
    async fn has(&self, hashes: Vec<BlobHash>) -> Result<Vec<bool>, UploadError> {
        self.with_contents(move |contents| {
            Ok(hashes.into_iter().map(|hash| contents.has(hash)).collect())
        })
        .await
    }

    async fn put(
        &self,
        hash: BlobHash,
        bytes: u64,
        offset: u64,
        part: Vec<u8>,
    ) -> Result<Uploaded, UploadError> {
        self.with_contents(move |contents| contents.put(hash, bytes, offset, &part)).await
    }

    async fn content(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, UploadError> {
        self.with_contents(move |contents| contents.content(hash)).await
    }

    async fn release(&self, hashes: Vec<BlobHash>) -> Result<(), UploadError> {
        self.with_contents(move |contents| contents.release(&hashes)).await
    }
}

impl MetricSource for Spool {
    fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }
}
