//! Recovery from file failures: failed files are dropped and rebuilt from the journal, failed
//! writes are retried.
//!
//! *Promises.* A query that meets failing files is answered from rebuilt ones, as are all that wait
//! meanwhile. A damaged file fails a query, never the program. A failed write is retried every
//! [`WRITE_PAUSE`] until it succeeds, whether or not there are requests.
//!
//! *Limits.* Rebuilt files that could not be written since are dropped again only after
//! [`DROP_PAUSE`]: in this case the fault is not in the files alone, and
//! [`Projections::write_problem`] names it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory_ports::views::ViewError;
use tokio::{sync::Notify, time::Instant};

use super::{
    Access, Projections, UNCHECKED, blocking, index_error,
    search::{IndexError, SearchIndex},
    view_error,
};

/// Time after a drop within which unwritten files are not dropped again.
const DROP_PAUSE: Duration = Duration::from_mins(1);
/// Pause before a failed write is retried.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// The parts that are written separately.
#[derive(Clone, Copy)]
pub(super) enum FileSet {
    Rows,
    Index,
}

/// State of the files, and of failed writes.
#[derive(Default)]
pub(super) struct FileRecovery {
    /// Completed drops.
    drops: AtomicU64,
    /// Drops begun.
    begun: AtomicU64,
    /// Time of the last drop.
    dropped: Mutex<Option<Instant>>,
    rows: WriteState,
    index: WriteState,
    /// Notified after a failed write.
    is_failed: Notify,
}

#[derive(Default)]
struct WriteState {
    /// Whether the part was dropped and not written since.
    is_unproven: AtomicBool,
    /// Why the last write failed, if it did.
    failure: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileRecovery {
    fn of(&self, part: FileSet) -> &WriteState {
        match part {
            FileSet::Rows => &self.rows,
            FileSet::Index => &self.index,
        }
    }

    /// Writes a part and records the outcome.
    pub(super) fn record_write(
        &self,
        part: FileSet,
        write: impl FnOnce() -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        let written = catch_corruption(write);
        let writing = self.of(part);
        let failure = written.as_ref().err().map(reason);
        let before = std::mem::replace(&mut *lock(&writing.failure), failure);
        if let (Err(error), None) = (&written, before) {
            tracing::error!(%error, "the projections cannot be written: retrying");
        }
        if written.is_ok() {
            writing.is_unproven.store(false, Ordering::Release);
        } else {
            // After the reason is set: the woken task reads it.
            self.is_failed.notify_one();
        }
        written
    }

    /// Whether a part was dropped and no write was tried since.
    pub(super) fn is_unproven(&self, part: FileSet) -> bool {
        let writing = self.of(part);
        writing.is_unproven.load(Ordering::Acquire) && lock(&writing.failure).is_none()
    }

    /// Whether dropping the files again would not help.
    fn is_futile(&self) -> bool {
        let mut parts = [&self.rows, &self.index].into_iter();
        let is_unproven = parts.any(|part| part.is_unproven.load(Ordering::Acquire));
        is_unproven && lock(&self.dropped).is_some_and(|dropped| dropped.elapsed() < DROP_PAUSE)
    }

    /// Notes that parts are about to be dropped.
    fn note_drop_started(&self, parts: &[FileSet]) {
        for part in parts {
            self.of(*part).is_unproven.store(true, Ordering::Release);
        }
        *lock(&self.dropped) = Some(Instant::now());
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// Drops begun. If the number changes during a query, its answer may lack what was dropped.
    pub(super) fn drops_started(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Notes that parts were dropped. Called only after the drop: a query begun earlier may have
    /// met the old files.
    fn note_dropped(&self, parts: &[FileSet]) {
        for part in parts.iter().map(|part| self.of(*part)) {
            // The old files may have been written in between.
            part.is_unproven.store(true, Ordering::Release);
            *lock(&part.failure) = None;
        }
        self.drops.fetch_add(1, Ordering::AcqRel);
    }
}

impl Projections {
    /// Health report of writes: why new data is not on disk, a sentence for people; `None` if it
    /// is.
    pub(super) fn write_problem(&self) -> Option<String> {
        let parts = [("lists", &self.recovery.rows), ("the search index", &self.recovery.index)];
        parts.into_iter().find_map(|(name, part)| {
            let reason = lock(&part.failure).clone()?;
            Some(format!(
                "{name} cannot be written ({reason}): new data is kept in memory and the write is retried; check \
                 free space and permissions of {}",
                self.settings.data_dir.display()
            ))
        })
    }

    /// Retries failed writes until they succeed. Needs a runtime with timers.
    pub(super) async fn retry_writes(&self) {
        if self.access == Access::Read {
            return std::future::pending().await;
        }
        loop {
            self.recovery.is_failed.notified().await;
            while self.write_problem().is_some() {
                tokio::time::sleep(WRITE_PAUSE).await;
                if let Err(error) = self.write_pending().await {
                    tracing::debug!(%error, "the projections still cannot be written");
                }
            }
        }
    }

    /// Writes unflushed data.
    async fn write_pending(&self) -> Result<(), ViewError> {
        let mut written = Ok(());
        if self.rows.has_unflushed() {
            written = self.with_files(self.rows_flush()).await;
        }
        written.and(self.write_pending_index().await)
    }

    /// Writes the unflushed part of the index. If its directory was taken away, the index is
    /// rebuilt first.
    async fn write_pending_index(&self) -> Result<(), ViewError> {
        let index = Arc::clone(&self.index);
        let is_gone = blocking(move || index.ensure_directory().map_err(index_error)).await?;
        if is_gone && !self.recovery.is_futile() {
            tracing::warn!("the search index was taken away: rebuilding it from the journal");
            let folding = self.folding.lock().await;
            self.applied.store(UNCHECKED, Ordering::Release);
            self.recovery.note_drop_started(&[FileSet::Index]);
            self.drop_index().await?;
            self.recovery.note_dropped(&[FileSet::Index]);
            drop(folding);
            self.catch_up().await?;
        }
        self.with_files(self.index_flush()).await
    }

    /// Completed drops; to be read before a query that may meet failing files.
    pub(super) fn drops(&self) -> u64 {
        self.recovery.drops.load(Ordering::Acquire)
    }

    /// Drops the files after a query failed on them, so that the next try folds them again from the
    /// journal. `drops` is [`Self::drops`] from before the query: if files were dropped since,
    /// nothing is done.
    pub(super) async fn recover_files(
        &self,
        error: ViewError,
        drops: u64,
    ) -> Result<(), ViewError> {
        if !matches!(error, ViewError::Storage(_)) {
            return Err(error);
        }
        let _folding = self.folding.lock().await;
        if self.drops() > drops {
            return Ok(());
        }
        if self.recovery.is_futile() {
            return Err(error);
        }
        tracing::warn!(%error, "the projections failed: dropped, rebuilding them from the journal");
        self.drop_all().await
    }

    /// Drops rows and index. Called while folding is locked.
    pub(super) async fn drop_all(&self) -> Result<(), ViewError> {
        let flushing = Arc::clone(&self.flushing).lock_owned().await;
        // From here on queries wait until everything is folded again.
        self.applied.store(UNCHECKED, Ordering::Release);
        self.recovery.note_drop_started(&[FileSet::Rows, FileSet::Index]);
        self.rows.reset().map_err(view_error)?;
        drop(flushing);
        self.drop_index().await?;
        self.recovery.note_dropped(&[FileSet::Rows, FileSet::Index]);
        self.clear_rebuild_failure();
        Ok(())
    }

    async fn drop_index(&self) -> Result<(), ViewError> {
        self.change_index(SearchIndex::reset).await?;
        self.backfill.is_under_way.store(false, Ordering::Release);
        Ok(())
    }

    /// Changes the index while no vectors are added and nothing is flushed.
    pub(super) async fn change_index(
        &self,
        change: impl FnOnce(&SearchIndex) -> Result<(), IndexError> + Send + 'static,
    ) -> Result<(), ViewError> {
        let _mending = self.backfill.step.lock().await;
        let index = Arc::clone(&self.index);
        self.with_files(move || change(&index).map_err(index_error)).await
    }
}

/// The reason of a storage failure, without the advice in its message.
pub(super) fn reason(error: &ViewError) -> String {
    match error {
        ViewError::Storage(reason) => reason.clone(),
        error => error.to_string(),
    }
}

/// A file's content is damaged.
#[derive(Debug, thiserror::Error)]
#[error("a file is damaged")]
pub(super) struct CorruptFile;

impl From<CorruptFile> for ViewError {
    fn from(broken: CorruptFile) -> Self {
        Self::Storage(broken.to_string())
    }
}

/// Runs `work` and turns a panic into an error: libraries that read a damaged file may panic.
pub(super) fn catch_corruption<T, E: From<CorruptFile>>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(CorruptFile.into()))
}
