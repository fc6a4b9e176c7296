//! The files of one owner: who uses them, and whether what is folded can be written to them.
//!
//! *Promises.* One flush, merge or replacement at a time. The state changes here alone.

use std::sync::Arc;

use ai_factory_ports::views::ViewError;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard};

use super::{blocking::blocking, corruption::catch_corruption, metrics::FilesMetrics};

/// Backlog, in flushes, at which folding waits for the disk: one flush being written and one being
/// gathered. Small, because the backlog is in memory and allocators return little of it.
const BACKLOG_FLUSHES_MAX: usize = 2;

/// State of the files of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FilesState {
    /// The last write succeeded.
    #[default]
    Ready,
    /// Dropped, and not written since: they are folded again and then written without delay.
    Rebuilding,
    /// The last write failed: newer data is in memory only, and the write is retried.
    Failed {
        /// Why.
        reason: String,
        /// Whether they were dropped and not written since.
        is_rebuilding: bool,
    },
}

impl FilesState {
    /// Whether they were dropped and not written since: dropping them again would not help.
    pub fn is_rebuilding(&self) -> bool {
        matches!(self, Self::Rebuilding | Self::Failed { is_rebuilding: true, .. })
    }
}

/// Exclusive use of the files, until it is dropped.
pub type FilesInUse = OwnedMutexGuard<()>;

/// The files of one owner.
#[derive(Debug, Default)]
pub struct OwnedFiles {
    use_of: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<FilesState>,
    has_failed: Notify,
    metrics: FilesMetrics,
}

impl OwnedFiles {
    /// Their state.
    pub fn state(&self) -> FilesState {
        self.state.lock().clone()
    }

    /// Why the last write failed, if it did.
    pub fn failure(&self) -> Option<String> {
        match &*self.state.lock() {
            FilesState::Failed { reason, .. } => Some(reason.clone()),
            FilesState::Ready | FilesState::Rebuilding => None,
        }
    }

    /// Their metrics.
    pub fn metrics(&self) -> &FilesMetrics {
        &self.metrics
    }

    /// Waits for the exclusive use of the files.
    pub async fn in_use(&self) -> FilesInUse {
        Arc::clone(&self.use_of).lock_owned().await
    }

    /// Runs `work` with exclusive use of the files, to its end even if the caller is dropped.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        let in_use = self.in_use().await;
        blocking(move || {
            let done = work();
            drop(in_use);
            done
        })
        .await
    }

    /// Flushes if that is due, concurrently with queries unless the backlog is so large that
    /// folding waits. `load` is the unflushed data in units of what makes one flush due, `flush`
    /// makes the work of one flush.
    pub async fn flush_if_due<W: FnOnce() -> Result<(), ViewError> + Send + 'static>(
        &self,
        load: impl Fn() -> usize,
        flush: impl FnOnce() -> W,
    ) -> Result<(), ViewError> {
        let due = load();
        if !self.is_due(due) {
            return Ok(());
        }
        let in_use = match Arc::clone(&self.use_of).try_lock_owned() {
            Ok(in_use) => in_use,
            Err(_) if due < BACKLOG_FLUSHES_MAX => return Ok(()),
            Err(_) => self.in_use().await,
        };
        // The flush that was waited for may have left nothing to do.
        let due = load();
        if !self.is_due(due) {
            return Ok(());
        }
        let write = flush();
        let flush = tokio::task::spawn_blocking(move || {
            let done = write();
            drop(in_use);
            done
        });
        if due < BACKLOG_FLUSHES_MAX {
            return Ok(());
        }
        flush.await.map_err(|error| ViewError::Storage(error.to_string()))?
    }

    /// Whether files with this load are to be flushed. Files that were dropped are flushed without
    /// delay, so that a later fault counts as a new one.
    fn is_due(&self, load: usize) -> bool {
        load > 0 || *self.state.lock() == FilesState::Rebuilding
    }

    /// Writes the files and records the outcome. Blocks.
    pub fn record_write(
        &self,
        write: impl FnOnce() -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        let written = catch_corruption(write);
        match &written {
            Ok(()) => self.metrics.flushes.inc(),
            Err(_) => self.metrics.failures.inc(),
        };
        let mut state = self.state.lock();
        let next = match &written {
            Ok(()) => FilesState::Ready,
            Err(error) => FilesState::Failed {
                reason: storage_reason(error),
                is_rebuilding: state.is_rebuilding(),
            },
        };
        let before = std::mem::replace(&mut *state, next);
        drop(state);
        if let Err(error) = &written {
            if !matches!(before, FilesState::Failed { .. }) {
                tracing::error!(%error, "the projections cannot be written: retrying");
            }
            // After the reason is set: the woken task reads it.
            self.has_failed.notify_one();
        }
        written
    }

    /// Waits for a failed write.
    pub async fn failed(&self) {
        self.has_failed.notified().await;
    }

    /// Notes that the files are about to be dropped.
    pub fn note_drop_started(&self) {
        let mut state = self.state.lock();
        match &mut *state {
            FilesState::Failed { is_rebuilding, .. } => *is_rebuilding = true,
            FilesState::Ready | FilesState::Rebuilding => *state = FilesState::Rebuilding,
        }
    }

    /// Notes that the files were dropped. The old ones may have been written in between.
    pub fn note_dropped(&self) {
        *self.state.lock() = FilesState::Rebuilding;
    }
}

/// The reason of a storage failure, without the advice in its message.
pub fn storage_reason(error: &ViewError) -> String {
    match error {
        ViewError::Storage(reason) => reason.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn failing() -> Result<(), ViewError> {
        Err(ViewError::Storage("no space".to_owned()))
    }

    fn failed(is_rebuilding: bool) -> FilesState {
        FilesState::Failed { reason: "no space".to_owned(), is_rebuilding }
    }

    #[tokio::test]
    async fn a_failed_write_is_said_until_one_succeeds() {
        let files = OwnedFiles::default();
        files.record_write(failing).unwrap_err();
        files.failed().await;
        assert_eq!((files.state(), files.failure()), (failed(false), Some("no space".to_owned())));
        files.record_write(|| panic!("a damaged file")).unwrap_err();
        assert_eq!(files.failure().as_deref(), Some("a file is damaged"));
        files.record_write(|| Ok(())).unwrap();
        assert_eq!((files.state(), files.failure()), (FilesState::Ready, None));
        let counted = files.metrics();
        assert_eq!((counted.flushes.get(), counted.failures.get()), (1, 2));
    }

    #[tokio::test]
    async fn files_that_were_dropped_are_rebuilding_until_a_write_succeeds() {
        let files = OwnedFiles::default();
        files.record_write(failing).unwrap_err();
        files.note_drop_started();
        assert_eq!(files.state(), failed(true));
        files.note_dropped();
        assert_eq!(files.state(), FilesState::Rebuilding);
        files.record_write(failing).unwrap_err();
        assert!(files.state().is_rebuilding());
        files.record_write(|| Ok(())).unwrap();
        assert!(!files.state().is_rebuilding());
    }

    /// How many flushes were begun for a load, if none is under way.
    async fn flushes(files: &OwnedFiles, load: usize) -> usize {
        let (write, written) = mpsc::channel();
        let flush = || {
            move || {
                write.send(()).unwrap();
                Ok(())
            }
        };
        files.flush_if_due(|| load, flush).await.unwrap();
        drop(files.in_use().await);
        written.try_iter().count()
    }

    #[tokio::test]
    async fn a_flush_is_due_for_its_load_or_after_a_drop() {
        let files = OwnedFiles::default();
        assert_eq!((flushes(&files, 0).await, flushes(&files, 1).await), (0, 1));
        files.note_dropped();
        assert_eq!((flushes(&files, 0).await, flushes(&files, 2).await), (1, 1));
    }

    #[tokio::test]
    async fn only_a_large_backlog_waits_for_the_flush_under_way() {
        let files = Arc::new(OwnedFiles::default());
        let in_use = files.in_use().await;
        let left_to_the_next = files.flush_if_due(|| 1, || failing).await;
        left_to_the_next.unwrap();
        let (waiting, load) = (Arc::clone(&files), BACKLOG_FLUSHES_MAX);
        let waits = tokio::spawn(async move { waiting.flush_if_due(|| load, || failing).await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(in_use);
        // Folding learns of it.
        waits.await.unwrap().unwrap_err();
    }
}
