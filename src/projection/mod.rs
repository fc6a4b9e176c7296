//! The read side: logs, runs, sessions and the search index, all folded from the journal.
//!
//! *Promises.* A projection is disposable: dropped and rebuilt, it is equal (I-8). Every answer contains all
//! that the journal had acknowledged when the question was asked (I-13), also in a process that only reads
//! beside the one that serves: what the files do not contain yet is folded from the journal's tail.
//!
//! Vectors that are lost are made again beside the questions, which are answered by words meanwhile ([`Projections::search_ailment`]).
//! A model that takes its time makes all of them there ([`Projections::model_ailment`]).
//!
//! Rows and words that are of another version, or that somebody wants made anew, serve until new ones take their place
//! ([`Projections::remaking`]).
//!
//! *Limits.* Files are behind the journal by at most what the settings allow to wait; that much is folded
//! again at the next start, and nothing more. Records are folded a bounded number at a time.
//!
//! *Not here.* What happened is the journal's. Who may ask is the edges'.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory_actors::ports::{
    embedder::Models,
    journal::{Journal, ReadError},
    views::ViewError,
    world::World,
};
use ai_factory_schemas::envelope::Recorded;
use tokio::sync::Notify;

use crate::retry::Retry;

mod flush;
mod heal;
mod logs;
mod mend;
mod place;
mod rebuild;
mod remake;
mod rest;
mod rows;
mod runs;
mod search;
mod sessions;
mod settings;
mod slow;
mod snapshot;
mod store;
mod turns;
mod views;

pub use rebuild::{Digest, Rebuilt};
pub use settings::{Access, ProjectionError, ProjectionSettings};

use heal::{Healing, guarded};
use mend::Mend;
use remake::Remake;
use rows::RowError;
use search::{
    IndexError, SearchIndex,
    documents::{Changes, Deriver},
};
use settings::Mark;
use store::{RowStore, View};
use turns::Turns;

/// Records that are read and folded at once. Small, because a record can be a megabyte.
const FOLD_EVENTS_MAX: usize = 128;
/// How far the follower lets the projections fall behind before it catches up, in events. High enough that
/// a busy journal is folded in few large steps, low enough that a question waits for little.
const FOLLOW_EVENTS: u64 = 512;
/// The pause before the follower tries again to fold what it could not; each further one doubles it.
const FOLLOW_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a reader begins again because the writer flushed in between.
const REBASE_TRIES_MAX: usize = 64;

/// The read side. See the module for what it promises.
pub struct Projections {
    settings: ProjectionSettings,
    access: Access,
    journal: Arc<dyn Journal>,
    world: Arc<dyn World>,
    rows: Arc<RowStore>,
    index: Arc<SearchIndex>,
    turns: Turns,
    /// Held by who folds: one at a time.
    folding: tokio::sync::Mutex<Fold>,
    /// Held by who flushes: one at a time.
    flushing: Arc<tokio::sync::Mutex<()>>,
    /// How far everything is folded, to see without a lock that nothing is to do; [`UNCHECKED`] until the
    /// files were found to be made from this journal.
    applied: AtomicU64,
    /// Up to where the search index is being made anew, where it was far behind when it was opened; else 0.
    rebuilt_upto: u64,
    /// Why the follower cannot fold what is in the journal, if so.
    behind: Mutex<Option<String>>,
    /// How it is with the files.
    healing: Arc<Healing>,
    /// The vectors that are made again beside everything else, if they are.
    mend: Mend,
    /// What is made anew beside what serves, if something is.
    remake: Remake,
    /// Told when the words contain more than they did.
    is_longer: Notify,
    /// Told when more of the index is on disk.
    is_flushed: Arc<Notify>,
}

/// Nothing is known yet.
const UNCHECKED: u64 = u64::MAX;

#[derive(Default)]
struct Fold {
    deriver: Deriver,
}

impl Projections {
    /// Opens the files; a process with [`Access::Write`] makes anew what is missing, damaged or of another
    /// format, and the next question folds it from the journal. Reads no record yet.
    pub fn open(
        settings: ProjectionSettings,
        journal: Arc<dyn Journal>,
        world: Arc<dyn World>,
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
                "the search index lacks much of the journal: making it anew"
            );
        }
        let projections = Self {
            rebuilt_upto: if is_rebuilt { head } else { 0 },
            settings,
            access,
            journal,
            world,
            rows,
            index: Arc::new(index),
            turns: Turns::new(),
            folding: tokio::sync::Mutex::default(),
            flushing: Arc::default(),
            applied: AtomicU64::new(UNCHECKED),
            behind: Mutex::default(),
            healing: Arc::default(),
            mend: Mend::default(),
            remake: Remake::default(),
            is_longer: Notify::new(),
            is_flushed: Arc::default(),
        };
        if access == Access::Write {
            projections.begin_to_remake();
        }
        Ok(Arc::new(projections))
    }

    /// Keeps up with the journal until the journal is closed, so that no question has much to wait for. To
    /// be run beside everything else in the serving process, on a runtime that has timers, and dropped before [`Self::close`].
    pub async fn follow(&self) {
        self.mend.is_followed.store(true, Ordering::Release);
        tokio::select! {
            () = self.follow_journal() => {}
            () = self.keep_mended() => {}
            () = self.keep_slow_vectors() => {}
            () = self.keep_remade() => {}
            () = self.keep_tidy() => {}
            () = self.keep_written() => {}
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
                // The rest of it would wait in memory until much more is recorded.
                if let Err(error) = self.settle().await {
                    tracing::warn!(%error, "the search index that was made anew is not on disk yet");
                }
            }
            if heads.changed().await.is_err() {
                return;
            }
        }
    }

    /// Folds everything that the journal has acknowledged by now (I-13).
    pub async fn catch_up(&self) -> Result<(), ViewError> {
        let head = self.journal.head().position;
        let applied = self.applied.load(Ordering::Acquire);
        if applied >= head && applied != UNCHECKED {
            return Ok(());
        }
        let mut folding = self.folding.lock().await;
        self.fold(&mut folding, head).await
    }

    /// Why not everything is found at the moment, or what somebody should see to; `None` while all is well.
    pub fn search_ailment(&self) -> Option<String> {
        let found_in_part = || {
            self.lacks_words().then(|| {
                format!(
                    "it is being made anew from the journal, {} of {} events by now: until then not everything is found",
                    self.index.applied().position,
                    self.rebuilt_upto
                )
            })
        };
        let ailment = self.write_ailment().or_else(|| self.behind());
        let ailment = ailment.or_else(|| self.mending()).or_else(found_in_part);
        ailment.or_else(|| self.remake_ailment())
    }

    fn note_behind(&self, reason: Option<String>) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn behind(&self) -> Option<String> {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind
            .as_ref()
            .map(|reason| format!("what is new cannot be folded ({reason}); tried again"))
    }

    /// Whether the index is still being made anew after it was opened.
    fn lacks_words(&self) -> bool {
        self.index.applied().position < self.rebuilt_upto
    }

    /// Folds what a search has to contain. Where much is missing and somebody is at it, what is there has to do.
    async fn catch_up_for_search(&self) -> Result<(), ViewError> {
        // Beside vectors that are mended, the words are complete.
        let lacks_words = !self.is_mending() && self.lacks_words();
        if lacks_words && self.folding.try_lock().is_err() {
            return Ok(());
        }
        self.catch_up().await
    }

    /// Writes what waits, so that the next start has less to fold. A search index that lacks only a handful
    /// of documents is left as it is: folding them again is cheaper than a commit. So is one that cannot be written.
    pub async fn close(&self) -> Result<(), ViewError> {
        /// Fewer documents than this are not worth a commit at the end.
        const CLOSE_DOCUMENTS_MIN: usize = 64;
        /// But an index that is behind by this many events is.
        const CLOSE_EVENTS_MAX: u64 = 16 * 1024;

        if self.access == Access::Read {
            return Ok(());
        }
        let _folding = self.folding.lock().await;
        let _flushing = Arc::clone(&self.flushing).lock_owned().await;
        let (documents, events) = self.index.pending();
        let is_costly = self.index.pending_slow() > 0;
        if (documents >= CLOSE_DOCUMENTS_MIN || events >= CLOSE_EVENTS_MAX || is_costly)
            && let Err(error) = self.flush_index().await
        {
            // No reason to end otherwise than in order: it is in the journal.
            tracing::warn!(%error, "the search index could not be written at the end: the next start makes up for it");
        }
        if self.rows.has_unflushed() {
            self.flush_rows().await?;
        }
        self.tidy_at_end().await;
        Ok(())
    }

    /// How far somebody else has come, as last noted under this name; 0 where nothing was.
    pub fn checkpoint(&self, name: &str) -> Result<u64, ViewError> {
        self.rows.checkpoint(name).map_err(view_error)
    }

    /// Keeps how far somebody else has come. On disk with the next flush or [`Self::close`]: after a crash
    /// an earlier one may be found.
    pub fn note_checkpoint(&self, name: &str, position: u64) {
        self.rows.note_checkpoint(name, position);
    }

    async fn fold(&self, fold: &mut Fold, head: u64) -> Result<(), ViewError> {
        if self.applied.load(Ordering::Acquire) == UNCHECKED {
            self.check_origin().await?;
        }
        loop {
            let is_mending = self.begins_to_mend();
            let contained =
                if is_mending { self.index.words_applied() } else { self.index.applied() };
            let (rows, index) = (self.rows.applied().position, contained.position);
            let after = rows.min(index);
            self.applied.store(after, Ordering::Release);
            if after >= head {
                return Ok(());
            }
            let missing = usize::try_from(head - after).unwrap_or(FOLD_EVENTS_MAX);
            let events = self.read(after, missing.min(FOLD_EVENTS_MAX)).await?;
            if events.is_empty() {
                return Ok(());
            }
            guarded(|| self.rows.apply(events.iter()).map_err(view_error))?;
            let mut changes = Changes::default();
            let mut upto = contained;
            for event in events.iter().filter(|event| event.position > index) {
                changes.add(fold.deriver.derive(event, self.journal.as_ref()).await?);
                upto = Mark { position: event.position, hash: event.hash };
            }
            self.change(changes, upto, is_mending).await?;
            self.is_longer.notify_one();
            self.flush_if_due().await?;
            tokio::task::yield_now().await;
        }
    }

    /// Changes the search index, only by words where the vectors are made elsewhere.
    async fn change(
        &self,
        changes: Changes,
        upto: Mark,
        only_words: bool,
    ) -> Result<(), ViewError> {
        let (index, forgets) = (Arc::clone(&self.index), changes.is_forgetting());
        let change = move || {
            let done = if only_words {
                index.apply_words(&changes, upto)
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

    /// Drops what was not folded from this journal: a journal put back from a backup, or another one.
    async fn check_origin(&self) -> Result<(), ViewError> {
        if !self.is_of_this_journal(self.rows.applied()).await? {
            tracing::warn!("the row projections are not of this journal: rebuilding them");
            self.rows.reset().map_err(view_error)?;
        }
        let slow = self.index.meanings().of_wanted();
        if let Some(slow) = slow
            && !self.is_of_this_journal(slow.applied()).await?
        {
            tracing::warn!("the vectors of the embedding model are not of this journal: dropped");
            self.change_whole(|index| index.meanings().reset_wanted()).await?;
        }
        for mark in self.index.marks() {
            if !self.is_of_this_journal(mark).await? {
                tracing::warn!("the search index is not of this journal: rebuilding it");
                self.change_whole(SearchIndex::reset).await?;
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

    /// Asks the rows, which contain everything acknowledged by now.
    async fn ask<T>(
        &self,
        question: impl Fn(&View<'_>) -> Result<T, RowError> + Send + Sync,
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
                Err(error) => self.heal(error, drops).await?,
            }
        }
        Err(ViewError::Storage("the server writes them faster than they can be read".to_owned()))
    }

    fn try_ask<T>(
        &self,
        question: impl Fn(&View<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, ViewError> {
        guarded(|| {
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
