//! The index in use: what changes it, and in which order.
//!
//! *Promises.* Nothing is added to an index while it is dropped. What a fold applies is complete up
//! to one mark: vectors that are behind the keywords are left to the background or made by the same
//! fold, never both. Work on the files runs to its end, one at a time.

use std::{any::Any, sync::Arc, time::Duration};

use ai_factory_fold::{Mark, OwnedFiles, blocking, catch_corruption};
use ai_factory_ports::views::ViewError;
use tokio::sync::{MutexGuard, Notify};

use super::{
    documents::IndexChanges,
    error::IndexError,
    phase::{IndexPhase, Phase},
    search_index::SearchIndex,
};

/// Limits of what may wait in memory, and when idle work begins.
#[derive(Clone, Copy, Debug)]
pub struct SearchSettings {
    /// Documents that may wait for a commit.
    pub flush_documents_max: usize,
    /// Bytes of documents that may wait for a commit.
    pub flush_bytes_max: usize,
    /// Lag, in events at opening, above which the index serves as far as it goes while the rest is
    /// folded. Below it a search waits for the fold.
    pub served_behind_events_min: u64,
    /// Idle time, without a search or an append, before an idle merge.
    pub idle_after: Duration,
}

impl SearchSettings {
    /// Unflushed documents or vectors and their bytes, in units of what makes one flush due.
    pub(super) fn load(&self, documents: usize, bytes: usize) -> usize {
        let by_bytes = bytes / self.flush_bytes_max.max(1);
        by_bytes.max(documents / self.flush_documents_max.max(1))
    }
}

/// Kept as long as work on the files goes on: whoever reopens the directory waits for its end.
pub type FilesLease = Arc<dyn Any + Send + Sync>;

/// The index in use.
pub(crate) struct LiveIndex {
    index: Arc<SearchIndex>,
    files: Arc<OwnedFiles>,
    settings: SearchSettings,
    lease: FilesLease,
    phase: IndexPhase,
    /// Held while events are folded into the index, and while another part of it begins to serve.
    folding: tokio::sync::Mutex<()>,
    /// Held while the background adds vectors. Taken before `folding`.
    adding: tokio::sync::Mutex<()>,
    /// Notified when the keyword index contains more events.
    grown: Notify,
    /// Notified when a backfill begins.
    backfill: Notify,
    /// Notified when a rebuild is complete.
    rebuilt: Notify,
    /// Notified when more of the index is on disk.
    flushed: Arc<Notify>,
}

/// Whether the chosen model's vectors serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// Some are missing.
    Missing,
    /// Not known before the index is complete.
    Waiting,
    /// They serve from now on.
    Begun,
    /// They served already.
    Serving,
}

/// A fold of events into the index. Until it is dropped nothing else folds, and no other part of
/// the index begins to serve.
pub struct IndexFold<'a> {
    live: &'a LiveIndex,
    _folding: MutexGuard<'a, ()>,
}

impl IndexFold<'_> {
    /// Mark up to which the index is folded; vectors that the background makes do not count.
    pub fn folded(&self) -> Mark {
        let keywords = self.live.index.keywords_applied();
        match self.live.index.built_in_applied() {
            // A flush writes vectors before the keyword index, so vectors that are behind were
            // lost, or another model's vectors served since.
            Some(vectors)
                if vectors.position < keywords.position && !self.live.backfills_vectors() =>
            {
                vectors
            }
            _ => keywords,
        }
    }

    /// Applies the changes of the events between [`Self::folded`] and `upto`, in order: a search
    /// sees them from now on.
    pub async fn apply(&self, changes: IndexChanges, upto: Mark) -> Result<(), ViewError> {
        let live = self.live;
        let (index, forgets) = (Arc::clone(&live.index), changes.is_forgetting());
        let phase = live.phase.now();
        let change = move || {
            let done = if phase.is_backfilling() {
                index.apply_keywords(&changes, upto)
            } else {
                index.apply(&changes, upto)
            };
            done.map_err(ViewError::from)
        };
        // Forgetting reads from the disk.
        if forgets {
            blocking(change).await?;
        } else {
            change()?;
        }
        if let Phase::Rebuilding { .. } | Phase::Refolding { .. } = phase
            && live.phase.complete(live.index.applied().position)
        {
            live.rebuilt.notify_one();
        }
        live.grown.notify_one();
        Ok(())
    }
}

impl LiveIndex {
    /// Takes over an open index; `rebuilding_upto` is the end of the journal if it is far behind.
    pub(super) fn new(
        index: SearchIndex,
        settings: SearchSettings,
        lease: FilesLease,
        rebuilding_upto: Option<u64>,
    ) -> Self {
        Self {
            index: Arc::new(index),
            files: Arc::default(),
            settings,
            lease,
            phase: IndexPhase::new(rebuilding_upto),
            folding: tokio::sync::Mutex::default(),
            adding: tokio::sync::Mutex::default(),
            grown: Notify::new(),
            backfill: Notify::new(),
            rebuilt: Notify::new(),
            flushed: Arc::default(),
        }
    }

    /// The index, to read from.
    pub(super) fn index(&self) -> &Arc<SearchIndex> {
        &self.index
    }

    /// Its files.
    pub(super) fn files(&self) -> &OwnedFiles {
        &self.files
    }

    /// Keeps its directory from being reopened.
    pub(super) fn lease(&self) -> FilesLease {
        Arc::clone(&self.lease)
    }

    /// Its limits.
    pub(super) fn settings(&self) -> &SearchSettings {
        &self.settings
    }

    /// Its phase.
    pub(super) fn phase(&self) -> &IndexPhase {
        &self.phase
    }

    /// Waits until the keyword index contains more events.
    pub(super) async fn has_grown(&self) {
        self.grown.notified().await;
    }

    /// Waits until a backfill begins.
    pub(super) async fn has_begun_backfill(&self) {
        self.backfill.notified().await;
    }

    /// Waits until a rebuild is complete.
    pub(super) async fn has_rebuilt(&self) {
        self.rebuilt.notified().await;
    }

    /// Waits until more of the index is on disk.
    pub(super) async fn has_flushed(&self) {
        self.flushed.notified().await;
    }

    /// Begins a fold, after the one under way.
    pub(super) async fn begin_fold(&self) -> IndexFold<'_> {
        IndexFold { live: self, _folding: self.folding.lock().await }
    }

    /// Whether the background makes vectors that are behind the keyword index. Begins a backfill if
    /// it can.
    fn backfills_vectors(&self) -> bool {
        if self.phase.begin_backfill() {
            self.backfill.notify_one();
            tracing::warn!("vectors are missing: making them again from the journal");
        }
        self.phase.now().is_backfilling()
    }

    /// Ends a backfill if no vector is missing: the vectors serve again. Returns whether it did.
    pub(super) async fn end_backfill(&self) -> bool {
        let _folding = self.folding.lock().await;
        let keywords = self.index.keywords_applied().position;
        let is_complete = self.index.vectors_applied().position >= keywords;
        if !is_complete || !self.phase.now().is_backfilling() {
            return false;
        }
        self.phase.end_backfill(keywords);
        true
    }

    /// Lets the chosen model's vectors serve, if none of them is missing.
    pub(super) async fn take_over(&self) -> Takeover {
        let _folding = self.folding.lock().await;
        if let Phase::Rebuilding { .. } | Phase::Refolding { .. } = self.phase.now() {
            return Takeover::Waiting;
        }
        let vector_indexes = self.index.vector_indexes();
        let made = vector_indexes.configured_index().map(|index| index.applied().position);
        let keywords = self.index.keywords_applied().position;
        if made.is_none_or(|made| made < keywords) {
            return Takeover::Missing;
        }
        let is_serving = !self.index.serves_built_in();
        if !is_serving {
            vector_indexes.swap();
        }
        self.phase.end_backfill(keywords);
        if is_serving { Takeover::Serving } else { Takeover::Begun }
    }

    /// Keeps the index from being dropped until the guard is: who adds vectors outside the fold
    /// holds it.
    pub(super) async fn begin_adding(&self) -> MutexGuard<'_, ()> {
        self.adding.lock().await
    }

    /// Changes the index while nothing is added and nothing is flushed.
    pub(super) async fn change(
        &self,
        change: impl FnOnce(&SearchIndex) -> Result<(), IndexError> + Send + 'static,
    ) -> Result<(), ViewError> {
        let _adding = self.adding.lock().await;
        let _folding = self.folding.lock().await;
        let index = Arc::clone(&self.index);
        self.with_files(move || change(&index).map_err(ViewError::from)).await
    }

    /// Drops everything but those vectors of a remote model that pass their checksums, to be folded
    /// again up to `upto`.
    pub(super) async fn drop_all(&self, upto: u64) -> Result<(), ViewError> {
        let _adding = self.adding.lock().await;
        let _folding = self.folding.lock().await;
        let index = Arc::clone(&self.index);
        self.with_files(move || index.reset().map_err(ViewError::from)).await?;
        self.phase.note_dropped(upto);
        Ok(())
    }

    /// Runs `work` with exclusive use of the files, to its end even if the caller is dropped.
    pub(super) async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        let lease = Arc::clone(&self.lease);
        let work = move || {
            let done = work();
            drop(lease);
            done
        };
        self.files.with(work).await
    }

    /// Unflushed data, in units of what makes one flush due.
    pub(super) fn load(&self) -> usize {
        self.settings.load(self.index.pending().0, self.index.pending_bytes())
    }

    /// Flushes if that is due.
    pub(super) async fn flush_if_due(&self) -> Result<(), ViewError> {
        self.files.flush_if_due(|| self.load(), || self.flushing()).await
    }

    /// Writes what waits. Blocks; with exclusive use of the files.
    pub(super) fn flushing(&self) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let (index, files) = (Arc::clone(&self.index), Arc::clone(&self.files));
        let (flushed, lease) = (Arc::clone(&self.flushed), Arc::clone(&self.lease));
        move || {
            let written = files.record_write(|| index.flush().map_err(ViewError::from));
            flushed.notify_one();
            drop(lease);
            written
        }
    }

    /// Merges segments into at most `bytes_max` bytes. Blocks; with exclusive use of the files.
    pub(super) fn merging(
        &self,
        bytes_max: u64,
    ) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let (index, lease) = (Arc::clone(&self.index), Arc::clone(&self.lease));
        move || {
            let merged = catch_corruption(|| {
                index.keyword_index().merge_idle(bytes_max).map_err(ViewError::from)
            });
            drop(lease);
            merged
        }
    }

    /// Notes that other files of the keyword index are in place, for an idle merge.
    pub(super) fn note_replaced(&self) {
        self.flushed.notify_one();
    }
}
