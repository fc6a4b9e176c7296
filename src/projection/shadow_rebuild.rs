//! Shadow rebuild: rows and keyword index built anew beside the serving ones, which they replace
//! once complete.
//!
//! It begins at opening if the keyword index on disk was tokenized in another way than this program
//! does, and on request. The files record that it is under way: after a crash it continues from
//! what they contain.
//!
//! *Promises.* Meanwhile the serving files contain everything that the journal has acknowledged,
//! and queries wait only for the moment of replacement.
//!
//! *Not here.* Damaged or missing files: they cannot serve. Vectors: each of their frames has its
//! own checksum, and missing ones are made again ([`super::mend`]).

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use ai_factory_actors::ports::views::ViewError;
use ai_factory_schemas::answer::{RebuildBegun, RebuildStatus};
use tokio::sync::Notify;

use super::{
    Access, FOLD_EVENTS_MAX, Mark, ProjectionError, Projections, blocking,
    flush::Load,
    heal::reason,
    index_error,
    search::{
        documents::{Changes, Deriver},
        keyword::KeywordIndex,
    },
    store::RowStore,
    view_error,
};

/// Lag, in events, at which the replacement happens: this many are folded while queries wait.
const LEFT_EVENTS_MAX: u64 = 256;

/// State of the shadow rebuild.
#[derive(Default)]
pub(super) struct Remake {
    /// Whether a rebuild is due or under way.
    is_due: AtomicBool,
    /// Whether it includes the rows.
    with_rows: AtomicBool,
    /// Wakes the task that rebuilds.
    is_asked: Notify,
    /// Events that the new files contain.
    folded: AtomicU64,
    /// Why the last one was given up, if so.
    failure: Mutex<Option<String>>,
    /// Number of replacements.
    pub(super) replaced: AtomicU64,
}

impl Remake {
    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is rebuilt, in words for a person.
    fn subject(&self) -> &'static str {
        if self.with_rows.load(Ordering::Acquire) {
            "lists and keyword index are"
        } else {
            "the keyword index is"
        }
    }
}

/// The files being built.
struct Beside {
    /// `None` if only the keyword index is rebuilt.
    rows: Option<Arc<RowStore>>,
    words: Arc<KeywordIndex>,
    deriver: Deriver,
}

impl Beside {
    /// Position up to which rows and keyword index are both folded.
    fn applied(&self) -> u64 {
        let words = self.words.applied().position;
        self.rows.as_ref().map_or(words, |rows| rows.applied().position.min(words))
    }

    /// Blocks while it writes.
    fn flush(&self) -> Result<(), ViewError> {
        self.rows.as_ref().map_or(Ok(()), |rows| rows.flush()).map_err(view_error)?;
        self.words.flush().map_err(index_error)
    }
}

impl Projections {
    /// Decides, when the files are opened for writing, whether a rebuild is due.
    pub(super) fn begin_to_remake(&self) {
        let words = self.index.words();
        let with_rows = self.rows.is_made_beside();
        self.remake.with_rows.store(with_rows, Ordering::Release);
        if words.is_outdated() {
            tracing::warn!(
                "the keyword index is of another version of this program: it serves until it is rebuilt"
            );
        }
        let is_due = with_rows || words.is_outdated() || words.is_made_beside();
        self.remake.is_due.store(is_due, Ordering::Release);
    }

    /// Requests a rebuild of rows and keyword index from the task that follows the journal.
    pub(super) fn ask_to_remake(&self) -> Result<RebuildBegun, ViewError> {
        if self.access == Access::Read {
            return Err(ViewError::Storage("they are opened for reading only".to_owned()));
        }
        let mut status = RebuildStatus::UnderWay;
        if !self.remake.is_due.load(Ordering::Acquire) {
            status = RebuildStatus::Begun;
            self.forget_remake_failure();
            self.remake.with_rows.store(true, Ordering::Release);
            self.remake.is_due.store(true, Ordering::Release);
            self.remake.is_asked.notify_one();
        }
        Ok(RebuildBegun { status, events: self.journal.head().position })
    }

    /// Progress of the rebuild, a sentence for people; `None` without one.
    pub fn remaking(&self) -> Option<String> {
        let remake = &self.remake;
        remake.is_due.load(Ordering::Acquire).then(|| {
            format!(
                "{} being rebuilt from the journal ({} of {} events): the existing files serve until then",
                remake.subject(),
                remake.folded.load(Ordering::Acquire),
                self.journal.head().position,
            )
        })
    }

    /// Why the last rebuild was given up, if it was: a sentence for people.
    pub(super) fn remake_ailment(&self) -> Option<String> {
        let reason = self.remake.failure().clone()?;
        Some(format!(
            "{} not rebuilt ({reason}): the existing files serve; retry with `ai-factory rebuild --server \
             URL`, or restart the factory",
            self.remake.subject(),
        ))
    }

    /// Clears the failure: everything was rebuilt in another way.
    pub(super) fn forget_remake_failure(&self) {
        *self.remake.failure() = None;
    }

    /// Rebuilds whenever it is due. A failed rebuild is tried again at the next start or on
    /// request.
    pub(super) async fn keep_remade(&self) {
        loop {
            if self.remake.is_due.load(Ordering::Acquire) {
                let made = self.make_beside().await;
                if let Err(error) = &made {
                    tracing::error!(%error, "the rebuild failed: the existing files serve");
                }
                *self.remake.failure() = made.as_ref().err().map(reason);
                self.remake.is_due.store(false, Ordering::Release);
            }
            self.remake.is_asked.notified().await;
        }
    }

    async fn make_beside(&self) -> Result<(), ViewError> {
        let mut beside = self.open_beside().await?;
        self.remake.folded.store(beside.applied(), Ordering::Release);
        tracing::info!(
            from = beside.applied(),
            "rebuilding the projections beside the serving ones"
        );
        while self.journal.head().position.saturating_sub(beside.applied()) > LEFT_EVENTS_MAX {
            self.fold_beside(&mut beside, u64::MAX).await?;
            if self.is_flush_due(&beside) {
                beside = blocking(move || beside.flush().map(|()| beside)).await?;
            }
            tokio::task::yield_now().await;
        }
        self.replace(beside).await
    }

    async fn open_beside(&self) -> Result<Beside, ViewError> {
        let with_rows = self.remake.with_rows.load(Ordering::Acquire);
        let (rows, index) = (Arc::clone(&self.rows), Arc::clone(&self.index));
        let storage = |error: ProjectionError| ViewError::Storage(error.to_string());
        let beside = blocking(move || {
            Ok(Beside {
                rows: with_rows
                    .then(|| rows.beside().map(Arc::new))
                    .transpose()
                    .map_err(storage)?,
                words: Arc::new(index.words().beside().map_err(index_error)?),
                deriver: Deriver::default(),
            })
        })
        .await?;
        // Files left by a crash may belong to another journal.
        if let Some(rows) = &beside.rows
            && !self.is_of_this_journal(rows.applied()).await?
        {
            rows.reset().map_err(view_error)?;
        }
        if !self.is_of_this_journal(beside.words.applied()).await? {
            beside.words.reset().map_err(index_error)?;
        }
        Ok(beside)
    }

    /// Folds a batch of events, none behind `upto`.
    async fn fold_beside(&self, beside: &mut Beside, upto: u64) -> Result<(), ViewError> {
        let after = beside.applied();
        let limit = usize::try_from(upto.saturating_sub(after))
            .unwrap_or(FOLD_EVENTS_MAX)
            .min(FOLD_EVENTS_MAX);
        let events = self.read(after, limit).await?;
        let known = beside.words.applied().position;
        let mut changes = Changes::default();
        let mut mark = Mark::default();
        for event in events.iter().filter(|event| event.position > known) {
            changes.add(beside.deriver.derive(event, self.journal.as_ref()).await?);
            mark = Mark { position: event.position, hash: event.hash };
        }
        let (rows, words) = (beside.rows.clone(), Arc::clone(&beside.words));
        blocking(move || {
            rows.map_or(Ok(()), |rows| rows.apply(events.iter())).map_err(view_error)?;
            words.apply(&changes, mark).map_err(index_error)
        })
        .await?;
        self.remake.folded.store(beside.applied(), Ordering::Release);
        Ok(())
    }

    fn is_flush_due(&self, beside: &Beside) -> bool {
        let rows = beside.rows.as_ref().map_or((0, 0), |rows| rows.pending());
        let words = (beside.words.pending().0, beside.words.pending_bytes());
        let load = Load::new(&self.settings, rows, words);
        load.rows.max(load.index) > 0
    }

    /// Folds the rest and replaces the serving files.
    async fn replace(&self, mut beside: Beside) -> Result<(), ViewError> {
        let mut folding = self.folding.lock().await;
        let head = self.journal.head().position;
        self.fold(&mut folding, head).await?;
        let upto = self.index.words_applied().position;
        while beside.applied() < upto {
            self.fold_beside(&mut beside, upto).await?;
        }
        let (rows, index) = (Arc::clone(&self.rows), Arc::clone(&self.index));
        self.with_files(move || {
            // Vectors first: on disk, they are never behind the keyword index.
            index.flush().map_err(index_error)?;
            beside.flush()?;
            // Closed before it is moved.
            let Beside { rows: next, words, .. } = beside;
            drop(words);
            if let Some(next) = next {
                rows.give_place(&next).map_err(view_error)?;
            }
            index.words().give_place().map_err(index_error)
        })
        .await?;
        self.is_flushed.notify_one();
        self.remake.replaced.fetch_add(1, Ordering::AcqRel);
        tracing::info!(events = upto, "the rebuilt projections serve");
        Ok(())
    }

    /// Drops the files of a rebuild that an earlier process did not complete.
    pub(super) fn drop_beside(&self) -> Result<(), ViewError> {
        self.remake.is_due.store(false, Ordering::Release);
        self.rows.drop_beside().map_err(view_error)?;
        self.index.words().drop_beside().map_err(index_error)
    }
}
