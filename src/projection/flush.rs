//! Flushes: unflushed rows and documents are written to disk, concurrently with queries unless the
//! backlog grows too large.

use std::sync::Arc;

use ai_factory_ports::views::ViewError;

use super::{
    Access, ProjectionSettings, Projections, blocking, file_recovery::FileSet, index_error,
    view_error,
};

/// Backlog, in flushes, at which folding waits for the disk: one flush being written and one being
/// gathered. Small, because the backlog is in memory and allocators return little of it.
const BACKLOG_FLUSHES_MAX: usize = 2;
/// Unflushed data in memory, in units of what makes one flush due.
#[derive(Clone, Copy)]
pub(super) struct PendingLoad {
    pub(super) rows: usize,
    pub(super) index: usize,
    bytes: usize,
}

impl PendingLoad {
    /// From the unflushed rows (bytes, events) and the unflushed documents or vectors (count,
    /// bytes).
    pub(super) fn new(
        settings: &ProjectionSettings,
        (row_bytes, events): (usize, u64),
        (documents, index_bytes): (usize, usize),
    ) -> Self {
        let by_bytes = |bytes: usize| bytes / settings.flush_bytes_max.max(1);
        let by_events = events / settings.flush_events_max.max(1);
        Self {
            rows: by_bytes(row_bytes).max(usize::try_from(by_events).unwrap_or(usize::MAX)),
            index: by_bytes(index_bytes).max(documents / settings.flush_documents_max.max(1)),
            bytes: row_bytes + index_bytes,
        }
    }
}

impl Projections {
    pub(super) async fn flush_if_due(&self) -> Result<(), ViewError> {
        let load = self.load();
        if self.access == Access::Read {
            return self.stay_within_memory(load);
        }
        if !self.is_due(FileSet::Rows, load) && !self.is_due(FileSet::Index, load) {
            return Ok(());
        }
        // A flush runs concurrently with queries until the backlog is so large that folding waits.
        let must_wait = load.rows.max(load.index) >= BACKLOG_FLUSHES_MAX;
        let flushing = match Arc::clone(&self.flushing).try_lock_owned() {
            Ok(flushing) => flushing,
            Err(_) if !must_wait => return Ok(()),
            Err(_) => Arc::clone(&self.flushing).lock_owned().await,
        };
        // The flush that was waited for may have left nothing to do.
        let load = self.load();
        let rows = self.is_due(FileSet::Rows, load).then(|| self.rows_flush());
        let index = self.is_due(FileSet::Index, load).then(|| self.index_flush());
        let flush = tokio::task::spawn_blocking(move || {
            let _flushing = flushing;
            let rows = rows.map_or(Ok(()), |flush| flush());
            let index = index.map_or(Ok(()), |flush| flush());
            rows.and(index)
        });
        if load.rows.max(load.index) < BACKLOG_FLUSHES_MAX {
            return Ok(());
        }
        flush.await.map_err(|error| ViewError::Storage(error.to_string()))?
    }

    /// Whether a part is to be flushed. One that was dropped is flushed without delay, so that a
    /// later fault counts as a new one.
    fn is_due(&self, part: FileSet, load: PendingLoad) -> bool {
        let waiting = match part {
            FileSet::Rows => load.rows,
            FileSet::Index => load.index,
        };
        waiting > 0 || self.recovery.is_unproven(part)
    }

    pub(super) fn load(&self) -> PendingLoad {
        let index = (self.index.pending().0, self.index.pending_bytes());
        PendingLoad::new(&self.settings, self.rows.pending(), index)
    }

    /// A process that may not write keeps what the files lack in memory, within a limit.
    fn stay_within_memory(&self, load: PendingLoad) -> Result<(), ViewError> {
        if load.index > 0 {
            self.index.reload().map_err(index_error)?;
        }
        if load.bytes > self.settings.memory_bytes_max {
            return Err(ViewError::Storage(format!(
                "the part of the journal that they lack exceeds {} bytes of memory",
                self.settings.memory_bytes_max
            )));
        }
        Ok(())
    }

    /// Flushes the search index at the end of its rebuild.
    pub(super) async fn settle(&self) -> Result<(), ViewError> {
        self.with_files(self.index_flush()).await?;
        tracing::info!(events = self.rebuilt_upto, "the search index is complete again");
        Ok(())
    }

    /// Runs `work` with exclusive use of the files, to its end even if the caller is dropped.
    pub(super) async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        let flushing = Arc::clone(&self.flushing).lock_owned().await;
        blocking(move || {
            let done = work();
            drop(flushing);
            done
        })
        .await
    }

    pub(super) async fn flush_rows(&self) -> Result<(), ViewError> {
        blocking(self.rows_flush()).await
    }

    pub(super) async fn flush_index(&self) -> Result<(), ViewError> {
        blocking(self.index_flush()).await
    }

    /// Writes the unflushed rows. Blocks.
    pub(super) fn rows_flush(&self) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let (rows, recovery) = (Arc::clone(&self.rows), Arc::clone(&self.recovery));
        move || recovery.record_write(FileSet::Rows, || rows.flush().map_err(view_error))
    }

    /// Writes the unflushed part of the search index. Blocks.
    pub(super) fn index_flush(&self) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let (index, recovery) = (Arc::clone(&self.index), Arc::clone(&self.recovery));
        // Keeps the rows, and what lies beside them, from being reopened before this work ends.
        let rows = Arc::clone(&self.rows);
        let is_flushed = Arc::clone(&self.is_flushed);
        move || {
            let written =
                recovery.record_write(FileSet::Index, || index.flush().map_err(index_error));
            is_flushed.notify_one();
            drop(rows);
            written
        }
    }
}
