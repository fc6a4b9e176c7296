//! The fold: each event of the journal is read once and applied to rows and search index.
//!
//! *Promises.* One fold at a time. What needs that is a method of [`Folding`].

use std::sync::Arc;

use ai_factory_fold::{Access, FOLD_EVENTS_MAX, Mark, is_of_journal};
use ai_factory_ports::{
    journal::{Journal, ReadError},
    metrics::Registry,
    views::ViewError,
};
use ai_factory_schemas::envelope::Recorded;
use ai_factory_search::{DocumentBuilder, IndexChanges, MemorySearch};
use ai_factory_tail::{Tail, TailRecord};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    fold_state::{FileDrops, FoldCursor, FoldState},
    metrics::ProjectionMetrics,
    row_projections::RowProjections,
};

/// The two owners, and the fold of the journal into them.
pub(crate) struct JournalFold {
    pub(super) access: Access,
    /// Read by all who follow the journal; what it holds decoded is not decoded again.
    tail: Arc<Tail>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) rows: RowProjections,
    pub(super) search: MemorySearch,
    /// Memory limit of a process that only reads, in bytes.
    memory_bytes_max: usize,
    cursor: Arc<FoldCursor>,
    drops: FileDrops,
    pub(super) metrics: ProjectionMetrics,
    folding: Mutex<DocumentBuilder>,
}

/// The right to fold, or to drop what is folded, until this is dropped.
pub(crate) struct Folding<'a> {
    fold: &'a JournalFold,
    builder: MutexGuard<'a, DocumentBuilder>,
}

impl JournalFold {
    /// Nothing is read or checked yet.
    pub(crate) fn new(
        access: Access,
        tail: Arc<Tail>,
        rows: RowProjections,
        search: MemorySearch,
        memory_bytes_max: usize,
    ) -> Self {
        Self {
            access,
            journal: Arc::clone(tail.journal()),
            tail,
            rows,
            search,
            memory_bytes_max,
            cursor: Arc::default(),
            drops: FileDrops::default(),
            metrics: ProjectionMetrics::default(),
            folding: Mutex::default(),
        }
    }

    /// Registers the metrics of the fold and of searches.
    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(&self.cursor, registry);
    }

    /// How far everything is folded.
    pub(crate) fn state(&self) -> FoldState {
        self.cursor.now()
    }

    /// The drops of failed files.
    pub(crate) fn drops(&self) -> &FileDrops {
        &self.drops
    }

    /// Position of the journal's newest event.
    pub(crate) fn head(&self) -> u64 {
        self.journal.head().position
    }

    /// Folds every event that the journal has acknowledged (I-13).
    pub(crate) async fn catch_up(&self) -> Result<(), ViewError> {
        let head = self.head();
        if self.cursor.now().reaches(head) {
            return Ok(());
        }
        self.begin().await.fold_to(head).await
    }

    /// Folds what a search must contain. While the index is being rebuilt and another task is
    /// folding, the search uses what is there.
    pub(crate) async fn catch_up_for_search(&self) -> Result<(), ViewError> {
        if self.search.is_rebuilding() && self.folding.try_lock().is_err() {
            return Ok(());
        }
        self.catch_up().await
    }

    /// Waits for the right to fold.
    pub(crate) async fn begin(&self) -> Folding<'_> {
        Folding { fold: self, builder: self.folding.lock().await }
    }

    async fn flush_if_due(&self) -> Result<(), ViewError> {
        if self.access == Access::Read {
            return self.stay_within_memory();
        }
        let (rows, index) = tokio::join!(self.rows.flush_if_due(), self.search.flush_if_due());
        rows.and(index)
    }

    /// A process that may not write keeps what the files lack in memory, within a limit.
    fn stay_within_memory(&self) -> Result<(), ViewError> {
        let bytes = self.rows.pending_bytes() + self.search.pending_bytes();
        self.search.reload_if_due()?;
        if bytes > self.memory_bytes_max {
            return Err(ViewError::Storage(format!(
                "the part of the journal that they lack exceeds {} bytes of memory",
                self.memory_bytes_max
            )));
        }
        Ok(())
    }
}

impl Folding<'_> {
    /// Folds every event that the journal has acknowledged.
    pub(crate) async fn fold_all(&mut self) -> Result<(), ViewError> {
        let head = self.fold.head();
        self.fold_to(head).await
    }

    async fn fold_to(&mut self, head: u64) -> Result<(), ViewError> {
        let fold = self.fold;
        let journal = fold.journal.as_ref();
        if fold.cursor.now() == FoldState::Unchecked {
            self.check_origin().await?;
        }
        let index = fold.search.begin_fold().await;
        let mut has_folded = false;
        loop {
            let folded = index.folded();
            let after = fold.rows.applied().position.min(folded.position);
            fold.cursor.advance(after);
            if after >= head {
                return Ok(());
            }
            if std::mem::replace(&mut has_folded, true) {
                tokio::task::yield_now().await;
            }
            let missing = usize::try_from(head - after).unwrap_or(FOLD_EVENTS_MAX);
            let records = fold.tail.read(after, missing.min(FOLD_EVENTS_MAX)).await?;
            if records.is_empty() {
                return Ok(());
            }
            let events = decoded(&records)?;
            fold.rows.apply(events.iter().copied())?;
            let (mut changes, mut upto) = (IndexChanges::default(), folded);
            for event in events.into_iter().filter(|event| event.position > folded.position) {
                changes.add(self.builder.derive(event, journal).await?);
                upto = Mark { position: event.position, hash: event.hash };
            }
            index.apply(changes, upto).await?;
            fold.flush_if_due().await?;
        }
    }

    /// Drops files that were not folded from this journal (restored from a backup, or another one).
    async fn check_origin(&self) -> Result<(), ViewError> {
        let fold = self.fold;
        if !is_of_journal(fold.journal.as_ref(), fold.rows.applied()).await? {
            tracing::warn!("the row projections are not of this journal: rebuilding them");
            fold.rows.reset().await?;
        }
        fold.search.check_origin().await
    }

    /// Starts from the last commit of the row file, which has moved on.
    pub(crate) fn rebase_rows(&self) -> Result<(), ViewError> {
        self.fold.rows.rebase()?;
        self.fold.cursor.invalidate();
        Ok(())
    }

    /// Drops rows and index. From here on queries wait until everything is folded again.
    pub(crate) async fn drop_files(&self) -> Result<(), ViewError> {
        let fold = self.fold;
        fold.cursor.invalidate();
        fold.drops.begin();
        fold.rows.drop_files().await?;
        fold.search.drop_files().await?;
        fold.drops.complete();
        Ok(())
    }

    /// Drops the index alone.
    pub(crate) async fn drop_index(&self) -> Result<(), ViewError> {
        let fold = self.fold;
        fold.cursor.invalidate();
        fold.drops.begin();
        fold.search.drop_files().await?;
        fold.drops.complete();
        Ok(())
    }
}

/// The events of these records.
fn decoded(records: &[TailRecord]) -> Result<Vec<&Recorded>, ReadError> {
    records
        .iter()
        .map(|record| {
            record.event().map_err(|error| ReadError::Undecodable {
                position: record.position(),
                reason: error.to_string(),
            })
        })
        .collect()
}
