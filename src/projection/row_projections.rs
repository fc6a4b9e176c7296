//! The owner of the rows: the store, its file, and whether it can be written.

use std::sync::Arc;

use ai_factory_fold::{
    Access, FilesInUse, FilesMetrics, FilesState, Mark, OwnedFiles, blocking, catch_corruption,
};
use ai_factory_ports::views::ViewError;
use ai_factory_schemas::envelope::Recorded;

use super::{
    rows::RowError,
    settings::{ProjectionError, ProjectionSettings},
    store::{RowStore, RowsView},
};

/// The row projections.
pub(crate) struct RowProjections {
    store: Arc<RowStore>,
    files: Arc<OwnedFiles>,
    flush_bytes_max: usize,
    flush_events_max: u64,
}

/// Rows that are built beside the serving ones, which they replace once complete.
pub(crate) struct RowShadow {
    store: RowStore,
    flush_bytes_max: usize,
    flush_events_max: u64,
}

impl RowProjections {
    /// Opens the file without reading a record. A process with [`Access::Write`] replaces one that
    /// is missing, damaged or of another format by an empty one.
    pub(crate) fn open(
        settings: &ProjectionSettings,
        access: Access,
    ) -> Result<Self, ProjectionError> {
        let path = settings.data_dir.join("projections.redb");
        Ok(Self {
            store: Arc::new(RowStore::open(&path, settings.cache_bytes_max, access)?),
            files: Arc::default(),
            flush_bytes_max: settings.flush_bytes_max,
            flush_events_max: settings.flush_events_max,
        })
    }

    /// Keeps the file, and what lies beside it, from being reopened by another process.
    pub(crate) fn lease(&self) -> Arc<RowStore> {
        Arc::clone(&self.store)
    }

    /// State of the file.
    pub(crate) fn state(&self) -> FilesState {
        self.files.state()
    }

    /// Why the last write failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.files.failure()
    }

    /// Metrics of the file.
    pub(crate) fn files_metrics(&self) -> &FilesMetrics {
        self.files.metrics()
    }

    /// Waits for a failed write.
    pub(crate) async fn failed(&self) {
        self.files.failed().await;
    }

    /// Mark up to which the rows are folded.
    pub(crate) fn applied(&self) -> Mark {
        self.store.applied()
    }

    /// Folds events, consecutive and following the applied mark.
    pub(crate) fn apply<'a>(
        &self,
        events: impl Iterator<Item = &'a Recorded>,
    ) -> Result<(), ViewError> {
        catch_corruption(|| self.store.apply(events).map_err(ViewError::from))
    }

    /// Answers a question about the rows as they are folded; `None` if the file has moved on
    /// beneath them: rebase, fold, ask again.
    pub(crate) fn answer<T>(
        &self,
        question: impl Fn(&RowsView<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, ViewError> {
        catch_corruption(|| {
            let Some(view) = self.store.view()? else { return Ok(None) };
            let answer = question(&view)?;
            Ok(view.is_current().then_some(answer))
        })
    }

    /// Drops what is not in the file and starts from its last commit. Not during a fold.
    pub(crate) fn rebase(&self) -> Result<(), ViewError> {
        Ok(self.store.rebase()?)
    }

    /// Drops rows that are of another journal. Not during a fold.
    pub(crate) async fn reset(&self) -> Result<(), ViewError> {
        let _in_use = self.files.in_use().await;
        Ok(self.store.reset()?)
    }

    /// Drops rows that failed, to be folded again. Checkpoints of other components stay. Not during
    /// a fold.
    pub(crate) async fn drop_files(&self) -> Result<(), ViewError> {
        self.files.note_drop_started();
        self.reset().await?;
        self.files.note_dropped();
        Ok(())
    }

    /// Memory of what waits for a flush, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.store.pending().0
    }

    /// Flushes if that is due, concurrently with queries unless the backlog is large.
    pub(crate) async fn flush_if_due(&self) -> Result<(), ViewError> {
        let load = || load(&self.store, self.flush_bytes_max, self.flush_events_max);
        self.files.flush_if_due(load, || self.flushing()).await
    }

    /// Writes what waits.
    pub(crate) async fn flush(&self) -> Result<(), ViewError> {
        self.files.with(self.flushing()).await
    }

    /// Writes what waits, if anything does, after the write that is under way.
    pub(crate) async fn flush_rest(&self) -> Result<(), ViewError> {
        let (store, flush) = (Arc::clone(&self.store), self.flushing());
        self.files.with(move || if store.has_unflushed() { flush() } else { Ok(()) }).await
    }

    fn flushing(&self) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let (store, files) = (Arc::clone(&self.store), Arc::clone(&self.files));
        move || files.record_write(|| store.flush().map_err(ViewError::from))
    }

    /// A checkpoint of another component; 0 if there is none.
    pub(crate) fn checkpoint(&self, name: &str) -> Result<u64, ViewError> {
        Ok(self.store.checkpoint(name)?)
    }

    /// Notes a checkpoint of another component; on disk with the next flush.
    pub(crate) fn note_checkpoint(&self, name: &str, position: u64) {
        self.store.note_checkpoint(name, position);
    }

    /// Whether a replacement is being built, or was when the process ended.
    pub(crate) fn has_shadow(&self) -> bool {
        self.store.has_shadow()
    }

    /// Opens the replacement, as far as it is built.
    pub(crate) async fn open_shadow(&self) -> Result<Arc<RowShadow>, ViewError> {
        let store = Arc::clone(&self.store);
        let (flush_bytes_max, flush_events_max) = (self.flush_bytes_max, self.flush_events_max);
        blocking(move || {
            let store = store.shadow().map_err(|error| ViewError::Storage(error.to_string()))?;
            Ok(Arc::new(RowShadow { store, flush_bytes_max, flush_events_max }))
        })
        .await
    }

    /// Drops the replacement.
    pub(crate) fn drop_shadow(&self) -> Result<(), ViewError> {
        Ok(self.store.drop_shadow()?)
    }

    /// Waits for the exclusive use of the file, for a replacement.
    pub(crate) async fn in_use(&self) -> FilesInUse {
        self.files.in_use().await
    }

    /// The replacement of these rows by a complete shadow, with exclusive use of the file. Blocks.
    pub(crate) fn replacing(
        &self,
        shadow: Arc<RowShadow>,
    ) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let store = Arc::clone(&self.store);
        move || Ok(store.replace_with_shadow(&shadow.store)?)
    }
}

impl RowShadow {
    /// Mark up to which it is folded.
    pub(crate) fn applied(&self) -> Mark {
        self.store.applied()
    }

    /// Folds events, consecutive and following the applied mark.
    pub(crate) fn apply(&self, events: &[Recorded]) -> Result<(), ViewError> {
        Ok(self.store.apply(events.iter())?)
    }

    /// Unflushed data, in units of what makes one flush due.
    pub(crate) fn load(&self) -> usize {
        load(&self.store, self.flush_bytes_max, self.flush_events_max)
    }

    /// Writes what waits. Blocks.
    pub(crate) fn flush(&self) -> Result<(), ViewError> {
        Ok(self.store.flush()?)
    }

    /// Drops everything.
    pub(crate) fn reset(&self) -> Result<(), ViewError> {
        Ok(self.store.reset()?)
    }
}

/// Unflushed rows, in units of what makes one flush due.
fn load(store: &RowStore, bytes_max: usize, events_max: u64) -> usize {
    let (bytes, events) = store.pending();
    let by_events = usize::try_from(events / events_max.max(1)).unwrap_or(usize::MAX);
    (bytes / bytes_max.max(1)).max(by_events)
}
