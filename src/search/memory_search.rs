//! The owner of search: the index, its workers, and what a search can contain at the moment.

use std::{path::Path, sync::Arc};

use ai_factory_fold::{
    Access, FilesInUse, FilesMetrics, FilesState, Mark, blocking, catch_corruption, is_of_journal,
};
use ai_factory_ports::{
    embedder::Models,
    journal::Journal,
    views::{ExpiredRange, RetentionPolicy, SearchOutcome, SearchQuery, ViewError},
};
use ai_factory_schemas::memory::SearchMode;

use super::{
    documents::Document,
    error::IndexError,
    idle_merge,
    keyword_shadow::{KeywordReplacement, KeywordShadow},
    live_index::{FilesLease, IndexFold, LiveIndex, SearchSettings},
    phase::Phase,
    remote_embedder::RemoteEmbedder,
    search_index::SearchIndex,
    search_scheduler::SearchScheduler,
    vector_backfill,
    vector_index::VectorIndex,
    vector_worker,
};

/// Lag of a remote model's vectors, in events, from which progress is reported.
const BEHIND_EVENTS_MIN: u64 = 1_024;

/// What a search can contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchState {
    /// Everything that is folded.
    Ready,
    /// The index was far behind the journal at opening: results are incomplete.
    Rebuilding {
        /// Events folded so far.
        folded: u64,
        /// Events up to which it is rebuilt.
        upto: u64,
    },
    /// Vectors are missing and made in the background: keywords alone serve.
    Backfilling {
        /// Events with vectors so far.
        made: u64,
        /// Events of which there are keywords.
        of: u64,
    },
    /// The index cannot be written: new data is in memory only, and the write is retried.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Search of memories.
pub struct MemorySearch {
    access: Access,
    journal: Arc<dyn Journal>,
    live: LiveIndex,
    scheduler: SearchScheduler,
}

impl MemorySearch {
    /// Opens the directory without reading a record. A process with [`Access::Write`] replaces what
    /// is missing, damaged or of another format by something empty; the next fold fills it.
    pub fn open(
        directory: &Path,
        models: Models,
        access: Access,
        settings: SearchSettings,
        journal: Arc<dyn Journal>,
        lease: FilesLease,
    ) -> Result<Self, IndexError> {
        let index = SearchIndex::open(directory, models, access)?;
        let head = journal.head().position;
        let behind = head.saturating_sub(index.applied().position);
        let is_rebuilt = access == Access::Write && behind > settings.served_behind_events_min;
        if is_rebuilt {
            tracing::warn!(
                events = behind,
                "the search index is far behind the journal: rebuilding it"
            );
        }
        let live = LiveIndex::new(index, settings, lease, is_rebuilt.then_some(head));
        Ok(Self { access, journal, live, scheduler: SearchScheduler::new() })
    }

    /// Runs the workers until the journal is closed: missing vectors, those of a remote model, idle
    /// merges. From this call on, a fold leaves missing vectors to them. Needs a runtime with
    /// timers.
    pub fn run(&self) -> impl Future<Output = ()> + Send {
        self.live.phase().start_worker();
        self.run_workers()
    }

    async fn run_workers(&self) {
        let journal = self.journal.as_ref();
        let merges = async {
            match self.access {
                Access::Write => idle_merge::run(&self.live, &self.scheduler, journal).await,
                Access::Read => std::future::pending().await,
            }
        };
        tokio::select! {
            () = vector_backfill::run(&self.live, journal) => {}
            () = vector_worker::run(&self.live, journal) => {}
            () = self.flush_rebuilt() => {}
            () = merges => {}
        }
    }

    /// Flushes the index at the end of its rebuild: otherwise the rest stays in memory until much
    /// more is recorded.
    async fn flush_rebuilt(&self) {
        loop {
            self.live.has_rebuilt().await;
            match self.flush().await {
                Ok(()) => {
                    let events = self.live.index().applied().position;
                    tracing::info!(events, "the search index is complete again");
                }
                Err(error) => {
                    tracing::warn!(%error, "the rebuilt search index could not be flushed");
                }
            }
        }
    }

    /// What a search can contain.
    pub fn state(&self) -> SearchState {
        let index = self.live.index();
        if let Some(reason) = self.live.files().failure() {
            return SearchState::Failed { reason };
        }
        match self.live.phase().now() {
            // Whoever searches waits until it is folded again.
            Phase::Ready | Phase::Refolding { .. } => SearchState::Ready,
            Phase::Rebuilding { upto } => {
                SearchState::Rebuilding { folded: index.applied().position, upto }
            }
            Phase::Backfilling { .. } => SearchState::Backfilling {
                made: index.vectors_applied().position,
                of: index.keywords_applied().position,
            },
        }
    }

    /// Whether results are incomplete: a search need not wait for a fold that is under way.
    pub fn is_rebuilding(&self) -> bool {
        matches!(self.live.phase().now(), Phase::Rebuilding { .. })
    }

    /// Whether the serving vectors lack some that are being made.
    pub fn lacks_vectors(&self) -> bool {
        let index = self.live.index();
        index.built_in_applied().is_none()
            && index.vectors_applied().position < index.keywords_applied().position
    }

    /// Number of times answers changed without a new event: the vectors were complete again, or
    /// another model's vectors began to serve, or a query got no vector.
    pub fn revision(&self) -> u64 {
        self.live.phase().revision()
    }

    /// State of the files.
    pub fn files_state(&self) -> FilesState {
        self.live.files().state()
    }

    /// Why the last write failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.live.files().failure()
    }

    /// Metrics of the files.
    pub fn files_metrics(&self) -> &FilesMetrics {
        self.live.files().metrics()
    }

    /// Waits for a failed write.
    pub async fn failed(&self) {
        self.live.files().failed().await;
    }

    /// Health report of the chosen model: why it fails and what that means, a sentence for people.
    pub fn model_problem(&self) -> Option<String> {
        let index = self.live.index();
        let model = index.vector_indexes().configured()?;
        let (reason, meanwhile) = if index.serves_built_in() {
            (model.makes_none()?, "the built-in model serves")
        } else if let Some(reason) = model.answers_none() {
            (reason, "search uses keywords alone")
        } else {
            (model.makes_none()?, "new documents are found by keywords alone")
        };
        let name = model.name();
        Some(format!(
            "the embedding model `{name}` failed: {reason}; it is retried, until then {meanwhile}"
        ))
    }

    /// Progress of the chosen model's vectors while many are missing, a sentence for people.
    pub fn model_progress(&self) -> Option<String> {
        let index = self.live.index();
        let vector_indexes = index.vector_indexes();
        let name = vector_indexes.configured()?.name();
        let words = index.keywords_applied().position;
        let made = vector_indexes.configured_index().map_or(0, |index| index.applied().position);
        let meanwhile = if index.serves_built_in() {
            "until then the built-in model serves"
        } else if words.saturating_sub(made) >= BEHIND_EVENTS_MIN {
            "the rest is found by keywords alone"
        } else {
            return None;
        };
        Some(format!(
            "the vectors of the embedding model `{name}` are being made ({made} of {words} events): {meanwhile}"
        ))
    }

    /// The best memories, best first. Whoever searches folds the journal before.
    pub async fn search(&self, query: &SearchQuery) -> Result<SearchOutcome, ViewError> {
        let mut query = query.clone();
        if self.live.phase().now().is_backfilling() {
            // If only some memories had vectors, those would come first for no other reason.
            query.mode = SearchMode::Keyword;
        }
        let vector_index = self.live.index().vector_indexes().serving();
        if let Some(model) = vector_index.remote_embedder().cloned() {
            return self.search_with_remote(query, vector_index, &model).await;
        }
        let index = Arc::clone(self.live.index());
        let documents = index.size();
        let search = move || index.search(&query).map_err(ViewError::from);
        self.scheduler.search(documents, search).await
    }

    /// Searches with the vectors of a remote model; by keywords alone if the model has no vector
    /// for the query.
    async fn search_with_remote(
        &self,
        query: SearchQuery,
        vector_index: Arc<VectorIndex>,
        model: &RemoteEmbedder,
    ) -> Result<SearchOutcome, ViewError> {
        let (index, mode) = (Arc::clone(self.live.index()), query.mode);
        let parsed = blocking(move || index.parse_query(&query).map_err(ViewError::from)).await?;
        let Some(parsed) = parsed else {
            return Ok(SearchOutcome { found: Vec::new(), mode });
        };
        let vector = match parsed.semantic_text() {
            None => None,
            Some(text) => model.query(text).await.unwrap_or_else(|_| {
                // Keeps this answer out of the cache.
                self.live.phase().revise();
                None
            }),
        };
        let index = Arc::clone(self.live.index());
        let documents = index.size();
        let answer =
            move || index.answer(parsed, &vector_index, vector.as_deref()).map_err(ViewError::from);
        self.scheduler.search(documents, answer).await
    }

    /// Position of the memory with this id.
    pub async fn position(&self, id: String) -> Result<Option<u64>, ViewError> {
        let index = Arc::clone(self.live.index());
        blocking(move || catch_corruption(|| index.position(&id).map_err(ViewError::from))).await
    }

    /// The oldest memories beyond the retention policy, at most `limit`.
    pub async fn expired_range(
        &self,
        policy: RetentionPolicy,
        limit: u64,
    ) -> Result<Option<ExpiredRange>, ViewError> {
        let index = Arc::clone(self.live.index());
        blocking(move || Ok(index.expired_range(&policy, limit))).await
    }

    /// Calls `visit` with every document, oldest first. Blocks.
    pub fn export(&self, visit: &mut dyn FnMut(&Document)) -> Result<(), IndexError> {
        self.live.index().export(visit)
    }

    /// Begins a fold of events, after the one under way.
    pub async fn begin_fold(&self) -> IndexFold<'_> {
        self.live.begin_fold().await
    }

    /// Mark of the keyword index.
    pub fn keywords_applied(&self) -> Mark {
        self.live.index().keywords_applied()
    }

    /// Drops what was not folded from this journal (restored from a backup, or another one). Not
    /// during a fold.
    pub async fn check_origin(&self) -> Result<(), ViewError> {
        let index = self.live.index();
        let journal = self.journal.as_ref();
        if let Some(remote) = index.vector_indexes().configured_index()
            && !is_of_journal(journal, remote.applied()).await?
        {
            tracing::warn!("the vectors of the embedding model are not of this journal: dropped");
            self.live.change(|index| index.vector_indexes().reset_configured()).await?;
        }
        for mark in index.marks() {
            if !is_of_journal(journal, mark).await? {
                tracing::warn!("the search index is not of this journal: rebuilding it");
                return self.live.drop_all(journal.head().position).await;
            }
        }
        Ok(())
    }

    /// Drops the index, to be folded again: everything but those vectors of a remote model that
    /// pass their checksums. Not during a fold.
    pub async fn drop_files(&self) -> Result<(), ViewError> {
        self.live.files().note_drop_started();
        self.live.drop_all(self.journal.head().position).await?;
        self.live.files().note_dropped();
        Ok(())
    }

    /// Makes the directory of the keyword index if it was taken away; returns whether its files are
    /// gone.
    pub async fn ensure_directory(&self) -> Result<bool, ViewError> {
        let index = Arc::clone(self.live.index());
        blocking(move || index.ensure_directory().map_err(ViewError::from)).await
    }

    /// Approximate memory of what waits for a flush, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.live.index().pending_bytes()
    }

    /// Flushes if that is due, concurrently with queries unless the backlog is large.
    pub async fn flush_if_due(&self) -> Result<(), ViewError> {
        self.live.flush_if_due().await
    }

    /// In a process that only reads: switches to what the writer has flushed, if much waits here.
    pub fn reload_if_due(&self) -> Result<(), IndexError> {
        if self.live.load() > 0 { self.live.index().reload() } else { Ok(()) }
    }

    /// Writes what waits.
    pub async fn flush(&self) -> Result<(), ViewError> {
        self.live.with_files(self.live.flushing()).await
    }

    /// Before an orderly end, not during a fold: writes what waits, after the write that is under
    /// way. An index that lacks few documents is left alone: folding them again is cheaper than a
    /// commit. An index that cannot be written is not an error.
    pub async fn close(&self) {
        /// Fewer documents than this are not worth a commit at the end.
        const CLOSE_DOCUMENTS_MIN: usize = 64;
        /// A lag of this many events is worth a commit all the same.
        const CLOSE_EVENTS_MAX: u64 = 16 * 1024;

        let (index, flush) = (Arc::clone(self.live.index()), self.live.flushing());
        let flush_if_worth = move || {
            let (documents, events) = index.pending();
            let is_costly = index.pending_remote() > 0;
            let is_worth =
                documents >= CLOSE_DOCUMENTS_MIN || events >= CLOSE_EVENTS_MAX || is_costly;
            if is_worth { flush() } else { Ok(()) }
        };
        if let Err(error) = self.live.with_files(flush_if_worth).await {
            // Not a reason for a disorderly end: the data is in the journal.
            tracing::warn!(%error, "the search index could not be written at the end: the next start folds the rest again");
        }
    }

    /// Merges segments before an orderly end.
    pub async fn merge_before_close(&self) {
        idle_merge::merge_before_close(&self.live).await;
    }

    /// Whether some of its documents were tokenized in another way than this program does, so that
    /// it is to be replaced.
    pub fn is_outdated(&self) -> bool {
        self.live.index().keyword_index().is_outdated()
    }

    /// Whether a replacement of the keyword index is being built, or was when the process ended.
    pub fn has_shadow(&self) -> bool {
        self.live.index().keyword_index().has_shadow()
    }

    /// Opens the replacement of the keyword index, as far as it is built.
    pub async fn open_shadow(&self) -> Result<Arc<KeywordShadow>, ViewError> {
        let (index, settings) = (Arc::clone(self.live.index()), *self.live.settings());
        let open = move || {
            let next = index.keyword_index().shadow()?;
            Ok(Arc::new(KeywordShadow::new(next, settings)))
        };
        let shadow = blocking(open).await?;
        // Files left by a crash may belong to another journal.
        if !is_of_journal(self.journal.as_ref(), shadow.applied()).await? {
            shadow.reset()?;
        }
        Ok(shadow)
    }

    /// Drops the replacement of the keyword index.
    pub fn drop_shadow(&self) -> Result<(), IndexError> {
        self.live.index().keyword_index().drop_shadow()
    }

    /// The replacement of the keyword index by a complete shadow.
    pub fn replacement(&self, shadow: Arc<KeywordShadow>) -> KeywordReplacement {
        KeywordReplacement::new(Arc::clone(self.live.index()), shadow, self.live.lease())
    }

    /// Waits for the exclusive use of the files, for a replacement.
    pub async fn files_in_use(&self) -> FilesInUse {
        self.live.files().in_use().await
    }

    /// Notes that a replacement serves.
    pub fn note_replaced(&self) {
        self.live.note_replaced();
    }
}
