//! Shadow rebuild: rows and keyword index rebuilt beside the serving ones, which they replace
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
//! own checksum, and the search makes missing ones again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ai_factory_fold::{Access, Mark, blocking, is_of_journal, read_events, storage_reason};
use ai_factory_ports::views::ViewError;
use ai_factory_schemas::answer::{RebuildAnswer, RebuildStatus};
use ai_factory_search::{DocumentBuilder, IndexChanges, KeywordShadow};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{fold_state::DropEpoch, journal_fold::JournalFold, row_projections::RowShadow};

/// Lag, in events, at which the replacement happens: this many are folded while queries wait.
const LEFT_EVENTS_MAX: u64 = 256;

/// What is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShadowSubject {
    KeywordIndex,
    RowsAndKeywordIndex,
}

impl ShadowSubject {
    /// In words for a person.
    fn words(self) -> &'static str {
        match self {
            Self::KeywordIndex => "the keyword index is",
            Self::RowsAndKeywordIndex => "lists and keyword index are",
        }
    }
}

/// State of the shadow rebuild.
#[derive(Clone, Debug, Default)]
enum ShadowState {
    /// None is due.
    #[default]
    Ready,
    /// Due or under way.
    Rebuilding {
        subject: ShadowSubject,
        /// Events that the new files contain.
        folded: u64,
    },
    /// The last one was given up; another begins at the next start or on request.
    Failed {
        subject: ShadowSubject,
        reason: String,
        /// When. Files that were dropped since were rebuilt in another way.
        epoch: DropEpoch,
    },
}

/// The shadow rebuild.
#[derive(Default)]
pub(super) struct ShadowRebuild {
    state: Mutex<ShadowState>,
    /// Wakes the task that rebuilds.
    requested: Notify,
    /// Number of replacements.
    replaced: AtomicU64,
}

/// The files being built.
struct Shadow {
    /// `None` if only the keyword index is rebuilt.
    rows: Option<Arc<RowShadow>>,
    keywords: Arc<KeywordShadow>,
    builder: DocumentBuilder,
}

impl Shadow {
    /// Position up to which rows and keyword index are both folded.
    fn applied(&self) -> u64 {
        let keywords = self.keywords.applied().position;
        self.rows.as_ref().map_or(keywords, |rows| rows.applied().position.min(keywords))
    }

    fn is_flush_due(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows.load() > 0) || self.keywords.load() > 0
    }

    async fn flush(&self) -> Result<(), ViewError> {
        let (rows, keywords) = (self.rows.clone(), Arc::clone(&self.keywords));
        blocking(move || {
            rows.map_or(Ok(()), |rows| rows.flush())?;
            Ok(keywords.flush()?)
        })
        .await
    }
}

impl ShadowRebuild {
    /// Decides, when the files are opened for writing, whether a rebuild is due.
    pub(super) fn detect(&self, fold: &JournalFold) {
        let with_rows = fold.rows.has_shadow();
        let is_outdated = fold.search.is_outdated();
        if is_outdated {
            tracing::warn!(
                "the keyword index is of another version of this program: it serves until it is rebuilt"
            );
        }
        if with_rows || is_outdated || fold.search.has_shadow() {
            let subject = if with_rows {
                ShadowSubject::RowsAndKeywordIndex
            } else {
                ShadowSubject::KeywordIndex
            };
            *self.state.lock() = ShadowState::Rebuilding { subject, folded: 0 };
        }
    }

    /// Requests a rebuild of rows and keyword index from the task that follows the journal.
    pub(super) fn request(&self, fold: &JournalFold) -> Result<RebuildAnswer, ViewError> {
        if fold.access == Access::Read {
            return Err(ViewError::Storage("they are opened for reading only".to_owned()));
        }
        let mut state = self.state.lock();
        let status = if let ShadowState::Rebuilding { .. } = *state {
            RebuildStatus::UnderWay
        } else {
            let subject = ShadowSubject::RowsAndKeywordIndex;
            *state = ShadowState::Rebuilding { subject, folded: 0 };
            self.requested.notify_one();
            RebuildStatus::Begun
        };
        Ok(RebuildAnswer { status, events: fold.head() })
    }

    /// Progress of the rebuild, a sentence for people; `None` without one.
    pub(super) fn progress(&self, fold: &JournalFold) -> Option<String> {
        let ShadowState::Rebuilding { subject, folded } = *self.state.lock() else { return None };
        Some(format!(
            "{} being rebuilt from the journal, {folded} of {} events so far: the existing files serve until then",
            subject.words(),
            fold.head(),
        ))
    }

    /// Why the last rebuild was given up, if it was: a sentence for people.
    pub(super) fn problem(&self, fold: &JournalFold) -> Option<String> {
        match &*self.state.lock() {
            ShadowState::Failed { subject, reason, epoch }
                if !fold.drops().is_completed_since(*epoch) =>
            {
                Some(format!(
                    "{} not rebuilt ({reason}): the existing files serve; retry with `ai-factory rebuild \
                     --server URL`, or restart the factory",
                    subject.words(),
                ))
            }
            _ => None,
        }
    }

    /// Number of replacements: each may change answers without a new event.
    pub(super) fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }

    /// Drops the files of a rebuild that an earlier process did not complete.
    pub(super) fn drop_files(&self, fold: &JournalFold) -> Result<(), ViewError> {
        *self.state.lock() = ShadowState::Ready;
        fold.rows.drop_shadow()?;
        Ok(fold.search.drop_shadow()?)
    }

    /// Rebuilds whenever it is due. A failed rebuild is tried again at the next start or on
    /// request.
    pub(super) async fn run(&self, fold: &JournalFold) {
        loop {
            if let Some(subject) = self.due() {
                let made = self.build(fold, subject).await;
                if let Err(error) = &made {
                    tracing::error!(%error, "the rebuild failed: the existing files serve");
                }
                *self.state.lock() = match made {
                    Ok(()) => ShadowState::Ready,
                    Err(error) => {
                        let (reason, epoch) = (storage_reason(&error), fold.drops().now());
                        ShadowState::Failed { subject, reason, epoch }
                    }
                };
            }
            self.requested.notified().await;
        }
    }

    fn due(&self) -> Option<ShadowSubject> {
        match *self.state.lock() {
            ShadowState::Rebuilding { subject, .. } => Some(subject),
            ShadowState::Ready | ShadowState::Failed { .. } => None,
        }
    }

    fn note_folded(&self, shadow: &Shadow) {
        if let ShadowState::Rebuilding { folded, .. } = &mut *self.state.lock() {
            *folded = shadow.applied();
        }
    }

    async fn build(&self, fold: &JournalFold, subject: ShadowSubject) -> Result<(), ViewError> {
        let mut shadow = open(fold, subject).await?;
        self.note_folded(&shadow);
        tracing::info!(
            from = shadow.applied(),
            "rebuilding the projections beside the serving ones"
        );
        while fold.head().saturating_sub(shadow.applied()) > LEFT_EVENTS_MAX {
            self.fold_batch(fold, &mut shadow, u64::MAX).await?;
            if shadow.is_flush_due() {
                shadow.flush().await?;
            }
            tokio::task::yield_now().await;
        }
        self.replace(fold, shadow).await
    }

    /// Folds a batch of events, none behind `upto`.
    async fn fold_batch(
        &self,
        fold: &JournalFold,
        shadow: &mut Shadow,
        upto: u64,
    ) -> Result<(), ViewError> {
        let (journal, after) = (fold.journal.as_ref(), shadow.applied());
        let events = read_events(journal, after, upto.saturating_sub(after)).await?;
        let known = shadow.keywords.applied().position;
        let (mut changes, mut mark) = (IndexChanges::default(), Mark::default());
        for event in events.iter().filter(|event| event.position > known) {
            changes.add(shadow.builder.derive(event, journal).await?);
            mark = Mark { position: event.position, hash: event.hash };
        }
        let (rows, keywords) = (shadow.rows.clone(), Arc::clone(&shadow.keywords));
        blocking(move || {
            rows.map_or(Ok(()), |rows| rows.apply(&events))?;
            Ok(keywords.apply(&changes, mark)?)
        })
        .await?;
        self.note_folded(shadow);
        Ok(())
    }

    /// Folds the rest and replaces the serving files.
    async fn replace(&self, fold: &JournalFold, mut shadow: Shadow) -> Result<(), ViewError> {
        let mut folding = fold.begin().await;
        folding.fold_all().await?;
        let upto = fold.search.keywords_applied().position;
        while shadow.applied() < upto {
            self.fold_batch(fold, &mut shadow, upto).await?;
        }
        let (rows_in_use, index_in_use) =
            (fold.rows.in_use().await, fold.search.files_in_use().await);
        let Shadow { rows, keywords, .. } = shadow;
        let keywords = fold.search.replacement(keywords);
        let rows = rows.map(|rows| fold.rows.replacing(rows));
        blocking(move || {
            keywords.flush()?;
            rows.map_or(Ok(()), |replace| replace())?;
            keywords.replace()?;
            drop((rows_in_use, index_in_use));
            Ok(())
        })
        .await?;
        fold.search.note_replaced();
        self.replaced.fetch_add(1, Ordering::AcqRel);
        tracing::info!(events = upto, "the rebuilt projections serve");
        Ok(())
    }
}

async fn open(fold: &JournalFold, subject: ShadowSubject) -> Result<Shadow, ViewError> {
    let rows = match subject {
        ShadowSubject::KeywordIndex => None,
        ShadowSubject::RowsAndKeywordIndex => Some(fold.rows.open_shadow().await?),
    };
    // Files left by a crash may belong to another journal.
    if let Some(rows) = &rows
        && !is_of_journal(fold.journal.as_ref(), rows.applied()).await?
    {
        rows.reset()?;
    }
    let keywords = fold.search.open_shadow().await?;
    Ok(Shadow { rows, keywords, builder: DocumentBuilder::default() })
}
