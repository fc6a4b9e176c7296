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
//! own checksum, and missing ones are rebuilt ([`super::vector_backfill`]).

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use ai_factory_ports::views::ViewError;
use ai_factory_schemas::answer::{RebuildAnswer, RebuildStatus};
use tokio::sync::Notify;

use super::{
    Access, FOLD_EVENTS_MAX, Mark, ProjectionError, Projections, blocking,
    file_recovery::reason,
    flush::PendingLoad,
    index_error,
    search::{
        documents::{DocumentBuilder, IndexChanges},
        keyword_index::KeywordIndex,
    },
    store::RowStore,
    view_error,
};

/// Lag, in events, at which the replacement happens: this many are folded while queries wait.
const LEFT_EVENTS_MAX: u64 = 256;

/// State of the shadow rebuild.
#[derive(Default)]
pub(super) struct ShadowRebuild {
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

impl ShadowRebuild {
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
struct Shadow {
    /// `None` if only the keyword index is rebuilt.
    rows: Option<Arc<RowStore>>,
    keyword_index: Arc<KeywordIndex>,
    builder: DocumentBuilder,
}

impl Shadow {
    /// Position up to which rows and keyword index are both folded.
    fn applied(&self) -> u64 {
        let keyword_index = self.keyword_index.applied().position;
        self.rows.as_ref().map_or(keyword_index, |rows| rows.applied().position.min(keyword_index))
    }

    /// Blocks while it writes.
    fn flush(&self) -> Result<(), ViewError> {
        self.rows.as_ref().map_or(Ok(()), |rows| rows.flush()).map_err(view_error)?;
        self.keyword_index.flush().map_err(index_error)
    }
}

impl Projections {
    /// Decides, when the files are opened for writing, whether a rebuild is due.
    pub(super) fn detect_rebuild(&self) {
        let keyword_index = self.index.keyword_index();
        let with_rows = self.rows.has_shadow();
        self.shadow_rebuild.with_rows.store(with_rows, Ordering::Release);
        if keyword_index.is_outdated() {
            tracing::warn!(
                "the keyword index is of another version of this program: it serves until it is rebuilt"
            );
        }
        let is_due = with_rows || keyword_index.is_outdated() || keyword_index.has_shadow();
        self.shadow_rebuild.is_due.store(is_due, Ordering::Release);
    }

    /// Requests a rebuild of rows and keyword index from the task that follows the journal.
    pub(super) fn request_rebuild(&self) -> Result<RebuildAnswer, ViewError> {
        if self.access == Access::Read {
            return Err(ViewError::Storage("they are opened for reading only".to_owned()));
        }
        let mut status = RebuildStatus::UnderWay;
        if !self.shadow_rebuild.is_due.load(Ordering::Acquire) {
            status = RebuildStatus::Begun;
            self.clear_rebuild_failure();
            self.shadow_rebuild.with_rows.store(true, Ordering::Release);
            self.shadow_rebuild.is_due.store(true, Ordering::Release);
            self.shadow_rebuild.is_asked.notify_one();
        }
        Ok(RebuildAnswer { status, events: self.journal.head().position })
    }

    /// Progress of the rebuild, a sentence for people; `None` without one.
    pub fn rebuild_progress(&self) -> Option<String> {
        let shadow_rebuild = &self.shadow_rebuild;
        shadow_rebuild.is_due.load(Ordering::Acquire).then(|| {
            format!(
                "{} being rebuilt from the journal, {} of {} events so far: the existing files serve until then",
                shadow_rebuild.subject(),
                shadow_rebuild.folded.load(Ordering::Acquire),
                self.journal.head().position,
            )
        })
    }

    /// Why the last rebuild was given up, if it was: a sentence for people.
    pub(super) fn rebuild_problem(&self) -> Option<String> {
        let reason = self.shadow_rebuild.failure().clone()?;
        Some(format!(
            "{} not rebuilt ({reason}): the existing files serve; retry with `ai-factory rebuild --server \
             URL`, or restart the factory",
            self.shadow_rebuild.subject(),
        ))
    }

    /// Clears the failure: everything was rebuilt in another way.
    pub(super) fn clear_rebuild_failure(&self) {
        *self.shadow_rebuild.failure() = None;
    }

    /// Rebuilds whenever it is due. A failed rebuild is tried again at the next start or on
    /// request.
    pub(super) async fn run_rebuilds(&self) {
        loop {
            if self.shadow_rebuild.is_due.load(Ordering::Acquire) {
                let made = self.build_shadow().await;
                if let Err(error) = &made {
                    tracing::error!(%error, "the rebuild failed: the existing files serve");
                }
                *self.shadow_rebuild.failure() = made.as_ref().err().map(reason);
                self.shadow_rebuild.is_due.store(false, Ordering::Release);
            }
            self.shadow_rebuild.is_asked.notified().await;
        }
    }

    async fn build_shadow(&self) -> Result<(), ViewError> {
        let mut shadow = self.open_shadow().await?;
        self.shadow_rebuild.folded.store(shadow.applied(), Ordering::Release);
        tracing::info!(
            from = shadow.applied(),
            "rebuilding the projections beside the serving ones"
        );
        while self.journal.head().position.saturating_sub(shadow.applied()) > LEFT_EVENTS_MAX {
            self.fold_shadow(&mut shadow, u64::MAX).await?;
            if self.is_flush_due(&shadow) {
                shadow = blocking(move || shadow.flush().map(|()| shadow)).await?;
            }
            tokio::task::yield_now().await;
        }
        self.replace(shadow).await
    }

    async fn open_shadow(&self) -> Result<Shadow, ViewError> {
        let with_rows = self.shadow_rebuild.with_rows.load(Ordering::Acquire);
        let (rows, index) = (Arc::clone(&self.rows), Arc::clone(&self.index));
        let storage = |error: ProjectionError| ViewError::Storage(error.to_string());
        let shadow = blocking(move || {
            Ok(Shadow {
                rows: with_rows
                    .then(|| rows.shadow().map(Arc::new))
                    .transpose()
                    .map_err(storage)?,
                keyword_index: Arc::new(index.keyword_index().shadow().map_err(index_error)?),
                builder: DocumentBuilder::default(),
            })
        })
        .await?;
        // Files left by a crash may belong to another journal.
        if let Some(rows) = &shadow.rows
            && !self.is_of_this_journal(rows.applied()).await?
        {
            rows.reset().map_err(view_error)?;
        }
        if !self.is_of_this_journal(shadow.keyword_index.applied()).await? {
            shadow.keyword_index.reset().map_err(index_error)?;
        }
        Ok(shadow)
    }

    /// Folds a batch of events, none behind `upto`.
    async fn fold_shadow(&self, shadow: &mut Shadow, upto: u64) -> Result<(), ViewError> {
        let after = shadow.applied();
        let limit = usize::try_from(upto.saturating_sub(after))
            .unwrap_or(FOLD_EVENTS_MAX)
            .min(FOLD_EVENTS_MAX);
        let events = self.read(after, limit).await?;
        let known = shadow.keyword_index.applied().position;
        let mut changes = IndexChanges::default();
        let mut mark = Mark::default();
        for event in events.iter().filter(|event| event.position > known) {
            changes.add(shadow.builder.derive(event, self.journal.as_ref()).await?);
            mark = Mark { position: event.position, hash: event.hash };
        }
        let (rows, keyword_index) = (shadow.rows.clone(), Arc::clone(&shadow.keyword_index));
        blocking(move || {
            rows.map_or(Ok(()), |rows| rows.apply(events.iter())).map_err(view_error)?;
            keyword_index.apply(&changes, mark).map_err(index_error)
        })
        .await?;
        self.shadow_rebuild.folded.store(shadow.applied(), Ordering::Release);
        Ok(())
    }

    fn is_flush_due(&self, shadow: &Shadow) -> bool {
        let rows = shadow.rows.as_ref().map_or((0, 0), |rows| rows.pending());
        let keyword_index =
            (shadow.keyword_index.pending().0, shadow.keyword_index.pending_bytes());
        let load = PendingLoad::new(&self.settings, rows, keyword_index);
        load.rows.max(load.index) > 0
    }

    /// Folds the rest and replaces the serving files.
    async fn replace(&self, mut shadow: Shadow) -> Result<(), ViewError> {
        let mut folding = self.folding.lock().await;
        let head = self.journal.head().position;
        self.fold(&mut folding, head).await?;
        let upto = self.index.keywords_applied().position;
        while shadow.applied() < upto {
            self.fold_shadow(&mut shadow, upto).await?;
        }
        let (rows, index) = (Arc::clone(&self.rows), Arc::clone(&self.index));
        self.with_files(move || {
            // Vectors first: on disk, they are never behind the keyword index.
            index.flush().map_err(index_error)?;
            shadow.flush()?;
            // Closed before it is moved.
            let Shadow { rows: next, keyword_index, .. } = shadow;
            drop(keyword_index);
            if let Some(next) = next {
                rows.replace_with_shadow(&next).map_err(view_error)?;
            }
            index.keyword_index().replace_with_shadow().map_err(index_error)
        })
        .await?;
        self.is_flushed.notify_one();
        self.shadow_rebuild.replaced.fetch_add(1, Ordering::AcqRel);
        tracing::info!(events = upto, "the rebuilt projections serve");
        Ok(())
    }

    /// Drops the files of a rebuild that an earlier process did not complete.
    pub(super) fn drop_shadow(&self) -> Result<(), ViewError> {
        self.shadow_rebuild.is_due.store(false, Ordering::Release);
        self.rows.drop_shadow().map_err(view_error)?;
        self.index.keyword_index().drop_shadow().map_err(index_error)
    }
}
