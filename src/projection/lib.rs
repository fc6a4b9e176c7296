//! The read side: logs, runs, sessions and the search index, all folded from the journal.
//!
//! *Promises.* A projection is disposable: dropped and rebuilt, it is equal (I-8). An answer
//! contains every event that was acknowledged before the request (I-13), also in a process that
//! only reads beside the serving one: what the files lack is folded in memory from the journal's
//! tail.
//!
//! Lost vectors are rebuilt in the background; until then search uses keywords alone
//! ([`Projections::search_problem`]). Vectors of a remote model are always made in the background
//! ([`Projections::model_problem`]).
//!
//! A keyword index of another version serves until its replacement is complete; so do rows and
//! keyword index while a requested rebuild runs ([`Projections::rebuild_progress`]).
//!
//! *Limits.* The files lag behind the journal by at most the unflushed data that the settings
//! allow; the next start folds that much again, and nothing more. Records are folded in batches of
//! bounded size.
//!
//! *Not here.* Source of truth: the journal. Access control: HTTP and NATS.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory_ports::{
    clock::Clock,
    embedder::Models,
    journal::{Journal, ReadError},
    views::ViewError,
};
use ai_factory_retry::Retry;
use ai_factory_schemas::envelope::Recorded;
use tokio::sync::Notify;

mod atomic_replace;
mod file_recovery;
mod flush;
mod idle_merge;
mod logs;
mod rebuild;
mod rows;
mod runs;
mod search;
mod search_scheduler;
mod sessions;
mod settings;
mod shadow_rebuild;
mod snapshot;
mod store;
mod vector_backfill;
mod vector_worker;
mod views;

pub use rebuild::{Digest, Rebuilt};
pub use settings::{Access, ProjectionError, ProjectionSettings};

use file_recovery::{FileRecovery, catch_corruption};
use rows::RowError;
use search::{
    IndexError, SearchIndex,
    documents::{DocumentBuilder, IndexChanges},
};
use search_scheduler::SearchScheduler;
use settings::Mark;
use shadow_rebuild::ShadowRebuild;
use store::{RowStore, RowsView};
use vector_backfill::VectorBackfill;

/// Records read and folded at once. Small, because a record can be a megabyte.
const FOLD_EVENTS_MAX: usize = 128;
/// Lag at which the follower catches up, in events. High enough that a busy journal is folded in
/// few large steps, low enough that a query waits for little.
const FOLLOW_EVENTS: u64 = 512;
/// The follower's pause after a failed fold; doubles with each further failure.
const FOLLOW_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Rebases that a reader tries in one query when the writer keeps flushing meanwhile.
const REBASE_TRIES_MAX: usize = 64;

/// The read side. Promises and limits: see the module.
pub struct Projections {
    settings: ProjectionSettings,
    access: Access,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    rows: Arc<RowStore>,
    index: Arc<SearchIndex>,
    scheduler: SearchScheduler,
    /// Serializes folding.
    folding: tokio::sync::Mutex<Fold>,
    /// Serializes flushing.
    flushing: Arc<tokio::sync::Mutex<()>>,
    /// Position up to which everything is folded, readable without a lock; [`UNCHECKED`] until the
    /// files were found to belong to this journal.
    applied: AtomicU64,
    /// End of the search index rebuild that began at opening because the index lagged far behind; 0
    /// without one.
    rebuilt_upto: u64,
    /// Why the follower cannot fold new events, if so.
    behind: Mutex<Option<String>>,
    /// State of the files.
    recovery: Arc<FileRecovery>,
    /// The background rebuild of lost vectors.
    backfill: VectorBackfill,
    /// The background rebuild of rows and keyword index.
    shadow_rebuild: ShadowRebuild,
    /// Notified when the keyword index contains more events.
    has_grown: Notify,
    /// Notified when more of the index is on disk.
    is_flushed: Arc<Notify>,
}

/// `applied` before the first check of the files.
const UNCHECKED: u64 = u64::MAX;

#[derive(Default)]
struct Fold {
    builder: DocumentBuilder,
}

impl Projections {
    /// Opens the files without reading a record. A process with [`Access::Write`] replaces files
    /// that are missing, damaged or of another format by empty ones; the next query folds them from
    /// the journal.
    pub fn open(
        settings: ProjectionSettings,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        models: impl Into<Models>,
        access: Access,
    ) -> Result<Arc<Self>, ProjectionError> {
        if access == Access::Write {
            std::fs::create_dir_all(&settings.data_dir)
                .map_err(|error| ProjectionError::storage(&settings.data_dir, &error))?;
        }
        let path = settings.data_dir.join("projections.redb");
        let rows = Arc::new(RowStore::open(&path, settings.cache_bytes_max, access)?);
        let path = settings.data_dir.join("index");
        let index = SearchIndex::open(&path, models.into(), access)
            .map_err(|error| ProjectionError::storage(&path, &error))?;
        let head = journal.head().position;
        let behind = head.saturating_sub(index.applied().position);
        let is_rebuilt = access == Access::Write && behind > settings.served_behind_events_min;
        if is_rebuilt {
            tracing::warn!(
                events = behind,
                "the search index is far behind the journal: rebuilding it"
            );
        }
        let projections = Self {
            rebuilt_upto: if is_rebuilt { head } else { 0 },
            settings,
            access,
            journal,
            clock,
            rows,
            index: Arc::new(index),
            scheduler: SearchScheduler::new(),
            folding: tokio::sync::Mutex::default(),
            flushing: Arc::default(),
            applied: AtomicU64::new(UNCHECKED),
            behind: Mutex::default(),
            recovery: Arc::default(),
            backfill: VectorBackfill::default(),
            shadow_rebuild: ShadowRebuild::default(),
            has_grown: Notify::new(),
            is_flushed: Arc::default(),
        };
        if access == Access::Write {
            projections.detect_rebuild();
        }
        Ok(Arc::new(projections))
    }

    /// Keeps up with the journal until it is closed, so that queries have little to fold. Run it
    /// beside everything else in the serving process, on a runtime with timers, and drop it before
    /// [`Self::close`].
    pub async fn follow(&self) {
        self.backfill.is_followed.store(true, Ordering::Release);
        tokio::select! {
            () = self.follow_journal() => {}
            () = self.run_backfill() => {}
            () = self.run_vector_worker() => {}
            () = self.run_rebuilds() => {}
            () = self.merge_when_idle() => {}
            () = self.retry_writes() => {}
        }
    }

    async fn follow_journal(&self) {
        let mut heads = self.journal.watch();
        let mut is_made_anew = self.rebuilt_upto > 0;
        let mut retry = Retry::new(FOLLOW_PAUSE_FIRST, FOLLOW_PAUSE_MAX);
        loop {
            let head = heads.borrow_and_update().position;
            let applied = self.applied.load(Ordering::Acquire);
            let is_far_behind = applied == UNCHECKED || head >= applied + FOLLOW_EVENTS;
            if is_far_behind {
                let failed = self.catch_up().await.err().map(|error| error.to_string());
                let failure = failed.as_deref().map(|reason| retry.failed(reason));
                self.note_behind(failed);
                if let Some(failure) = failure {
                    if failure.is_news {
                        let reason = self.behind();
                        tracing::error!(reason, "the projections are behind the journal");
                    }
                    tokio::time::sleep(failure.pause).await;
                    if heads.has_changed().is_err() {
                        return;
                    }
                    continue;
                }
                if retry.went_on() {
                    tracing::info!("the projections keep up with the journal again");
                }
            }
            if is_made_anew && self.index.applied().position >= self.rebuilt_upto {
                is_made_anew = false;
                // Otherwise the rest stays in memory until much more is recorded.
                if let Err(error) = self.settle().await {
                    tracing::warn!(%error, "the rebuilt search index could not be flushed");
                }
            }
            if heads.changed().await.is_err() {
                return;
            }
        }
    }

    /// Folds every event that the journal has acknowledged (I-13).
    pub async fn catch_up(&self) -> Result<(), ViewError> {
        let head = self.journal.head().position;
        let applied = self.applied.load(Ordering::Acquire);
        if applied >= head && applied != UNCHECKED {
            return Ok(());
        }
        let mut folding = self.folding.lock().await;
        self.fold(&mut folding, head).await
    }

    /// Health report of search: why results are incomplete, or what an operator has to do; `None`
    /// while all is well.
    pub fn search_problem(&self) -> Option<String> {
        let found_in_part = || {
            self.lacks_documents().then(|| {
                format!(
                    "it is being rebuilt from the journal ({} of {} events): until then results are incomplete",
                    self.index.applied().position,
                    self.rebuilt_upto
                )
            })
        };
        let problem = self.write_problem().or_else(|| self.behind());
        let problem = problem.or_else(|| self.backfill_progress()).or_else(found_in_part);
        problem.or_else(|| self.rebuild_problem())
    }

    fn note_behind(&self, reason: Option<String>) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn behind(&self) -> Option<String> {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.as_ref().map(|reason| format!("new events cannot be folded ({reason}); retrying"))
    }

    /// Whether the rebuild that began at opening is still under way.
    fn lacks_documents(&self) -> bool {
        self.index.applied().position < self.rebuilt_upto
    }

    /// Folds what a search must contain. While the index is being rebuilt and another task is
    /// folding, the search uses what is there.
    async fn catch_up_for_search(&self) -> Result<(), ViewError> {
        // While vectors are rebuilt in the background, the keyword index is complete.
        let lacks_documents = !self.is_backfilling() && self.lacks_documents();
        if lacks_documents && self.folding.try_lock().is_err() {
            return Ok(());
        }
        self.catch_up().await
    }

    /// Writes unflushed data, so that the next start has less to fold. A search index that lacks
    /// few documents is left alone: folding them again is cheaper than a commit. A search index
    /// that cannot be written is not an error.
    pub async fn close(&self) -> Result<(), ViewError> {
        /// Fewer documents than this are not worth a commit at the end.
        const CLOSE_DOCUMENTS_MIN: usize = 64;
        /// A lag of this many events is worth a commit all the same.
        const CLOSE_EVENTS_MAX: u64 = 16 * 1024;

        if self.access == Access::Read {
            return Ok(());
        }
        let _folding = self.folding.lock().await;
        let _flushing = Arc::clone(&self.flushing).lock_owned().await;
        let (documents, events) = self.index.pending();
        let is_costly = self.index.pending_remote() > 0;
        if (documents >= CLOSE_DOCUMENTS_MIN || events >= CLOSE_EVENTS_MAX || is_costly)
            && let Err(error) = self.flush_index().await
        {
            // Not a reason for a disorderly end: the data is in the journal.
            tracing::warn!(%error, "the search index could not be written at the end: the next start folds the rest again");
        }
        if self.rows.has_unflushed() {
            self.flush_rows().await?;
        }
        self.merge_before_close().await;
        Ok(())
    }

    /// A named checkpoint of another component (relays) as last noted; 0 if there is none.
    pub fn checkpoint(&self, name: &str) -> Result<u64, ViewError> {
        self.rows.checkpoint(name).map_err(view_error)
    }

    /// Notes a checkpoint of another component. It is on disk with the next flush or
    /// [`Self::close`]: after a crash an earlier one may be found.
    pub fn note_checkpoint(&self, name: &str, position: u64) {
        self.rows.note_checkpoint(name, position);
    }

    async fn fold(&self, fold: &mut Fold, head: u64) -> Result<(), ViewError> {
        if self.applied.load(Ordering::Acquire) == UNCHECKED {
            self.check_origin().await?;
        }
        let mut has_folded = false;
        loop {
            let is_backfilling = self.begin_backfill();
            let contained =
                if is_backfilling { self.index.keywords_applied() } else { self.index.applied() };
            let (rows, index) = (self.rows.applied().position, contained.position);
            let after = rows.min(index);
            self.applied.store(after, Ordering::Release);
            if after >= head {
                return Ok(());
            }
            if std::mem::replace(&mut has_folded, true) {
                tokio::task::yield_now().await;
            }
            let missing = usize::try_from(head - after).unwrap_or(FOLD_EVENTS_MAX);
            let events = self.read(after, missing.min(FOLD_EVENTS_MAX)).await?;
            if events.is_empty() {
                return Ok(());
            }
            catch_corruption(|| self.rows.apply(events.iter()).map_err(view_error))?;
            let mut changes = IndexChanges::default();
            let mut upto = contained;
            for event in events.iter().filter(|event| event.position > index) {
                changes.add(fold.builder.derive(event, self.journal.as_ref()).await?);
                upto = Mark { position: event.position, hash: event.hash };
            }
            self.change(changes, upto, is_backfilling).await?;
            self.has_grown.notify_one();
            self.flush_if_due().await?;
        }
    }

    /// Changes the search index; only its keywords where the vectors are made in the background.
    async fn change(
        &self,
        changes: IndexChanges,
        upto: Mark,
        only_words: bool,
    ) -> Result<(), ViewError> {
        let (index, forgets) = (Arc::clone(&self.index), changes.is_forgetting());
        let change = move || {
            let done = if only_words {
                index.apply_keywords(&changes, upto)
            } else {
                index.apply(&changes, upto)
            };
            done.map_err(index_error)
        };
        // Forgetting reads from the disk.
        if forgets { blocking(change).await } else { change() }
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Recorded>, ReadError> {
        let records = self.journal.read(after, limit).await?;
        records
            .iter()
            .map(|raw| {
                Recorded::decode(&raw.bytes).map_err(|error| ReadError::Undecodable {
                    position: raw.position,
                    reason: error.to_string(),
                })
            })
            .collect()
    }

    /// Drops files that were not folded from this journal (restored from a backup, or another one).
    async fn check_origin(&self) -> Result<(), ViewError> {
        if !self.is_of_this_journal(self.rows.applied()).await? {
            tracing::warn!("the row projections are not of this journal: rebuilding them");
            self.rows.reset().map_err(view_error)?;
        }
        let remote = self.index.vector_indexes().configured_index();
        if let Some(remote) = remote
            && !self.is_of_this_journal(remote.applied()).await?
        {
            tracing::warn!("the vectors of the embedding model are not of this journal: dropped");
            self.change_index(|index| index.vector_indexes().reset_configured()).await?;
        }
        for mark in self.index.marks() {
            if !self.is_of_this_journal(mark).await? {
                tracing::warn!("the search index is not of this journal: rebuilding it");
                self.change_index(SearchIndex::reset).await?;
                break;
            }
        }
        Ok(())
    }

    async fn is_of_this_journal(&self, mark: Mark) -> Result<bool, ViewError> {
        let Some(before) = mark.position.checked_sub(1) else { return Ok(true) };
        let records = self.journal.read(before, 1).await?;
        let Some(record) = records.first() else { return Ok(false) };
        let hash = ai_factory_schemas::envelope::unseal(&record.bytes).map(|(_, hash)| hash);
        Ok(record.position == mark.position && hash == Some(mark.hash))
    }

    /// Runs a query on the rows after folding every acknowledged event.
    async fn ask<T>(
        &self,
        question: impl Fn(&RowsView<'_>) -> Result<T, RowError> + Send + Sync,
    ) -> Result<T, ViewError>
    where
        T: Send,
    {
        for _ in 0..REBASE_TRIES_MAX {
            let drops = self.drops();
            let answer = match self.catch_up().await {
                Ok(()) => self.try_ask(&question),
                Err(error) => Err(error),
            };
            match answer {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {
                    let _folding = self.folding.lock().await;
                    self.rows.rebase().map_err(view_error)?;
                    self.applied.store(UNCHECKED, Ordering::Release);
                }
                Err(error) => self.recover_files(error, drops).await?,
            }
        }
        Err(ViewError::Storage("the server writes them faster than they can be read".to_owned()))
    }

    fn try_ask<T>(
        &self,
        question: impl Fn(&RowsView<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, ViewError> {
        catch_corruption(|| {
            let Some(view) = self.rows.view().map_err(view_error)? else { return Ok(None) };
            let answer = question(&view).map_err(view_error)?;
            Ok(view.is_current().then_some(answer))
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<T, ViewError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ViewError::Storage(error.to_string()))?
}

#[expect(clippy::needless_pass_by_value, reason = "taken by map_err")]
fn view_error(error: RowError) -> ViewError {
    ViewError::Storage(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "taken by map_err")]
fn index_error(error: IndexError) -> ViewError {
    ViewError::Storage(error.to_string())
}
