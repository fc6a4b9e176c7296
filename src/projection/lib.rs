//! The read side: logs, runs, calls and sessions, and the search, all folded from the journal.
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
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

use std::{path::PathBuf, sync::Arc};

use ai_factory_ports::{
    clock::Clock,
    embedder::Models,
    metrics::{MetricSource, Registry},
    views::ViewError,
};
use ai_factory_search::{MemorySearch, SearchSettings, SearchState};
use ai_factory_tail::Tail;

mod calls;
mod file_recovery;
mod fold_state;
mod follower;
mod journal_fold;
mod logs;
mod metrics;
mod rebuild;
mod row_projections;
mod rows;
mod runs;
mod session_model;
mod sessions;
mod settings;
mod shadow_rebuild;
mod snapshot;
mod store;
mod views;

pub use ai_factory_fold::Access;
pub use rebuild::{Digest, Rebuilt};
pub use settings::{ProjectionError, ProjectionSettings};

use follower::Follower;
use journal_fold::JournalFold;
use row_projections::RowProjections;
use shadow_rebuild::ShadowRebuild;

/// The read side. Promises and limits: see the module.
pub struct Projections {
    data_dir: PathBuf,
    clock: Arc<dyn Clock>,
    fold: JournalFold,
    follower: Follower,
    shadow_rebuild: ShadowRebuild,
}

impl Projections {
    /// Opens the files without reading a record. A process with [`Access::Write`] replaces files
    /// that are missing, damaged or of another format by empty ones; the next query folds them from
    /// the journal.
    pub fn open(
        settings: ProjectionSettings,
        tail: Arc<Tail>,
        clock: Arc<dyn Clock>,
        models: impl Into<Models>,
        access: Access,
    ) -> Result<Arc<Self>, ProjectionError> {
        if access == Access::Write {
            std::fs::create_dir_all(&settings.data_dir)
                .map_err(|error| ProjectionError::storage(&settings.data_dir, &error))?;
        }
        let rows = RowProjections::open(&settings, access)?;
        let path = settings.data_dir.join("index");
        let search = MemorySearch::open(
            &path,
            models.into(),
            access,
            SearchSettings {
                flush_documents_max: settings.flush_documents_max,
                flush_bytes_max: settings.flush_bytes_max,
                served_behind_events_min: settings.served_behind_events_min,
                idle_after: settings.idle_after,
            },
            Arc::clone(tail.journal()),
            rows.lease(),
        )
        .map_err(|error| ProjectionError::storage(&path, &error))?;
        let projections = Self {
            data_dir: settings.data_dir,
            clock,
            fold: JournalFold::new(access, tail, rows, search, settings.memory_bytes_max),
            follower: Follower::default(),
            shadow_rebuild: ShadowRebuild::default(),
        };
        if access == Access::Write {
            projections.shadow_rebuild.detect(&projections.fold);
        }
        Ok(Arc::new(projections))
    }

    /// Keeps up with the journal until it is closed, so that queries have little to fold. Run it
    /// beside everything else in the serving process, on a runtime with timers, and drop it before
    /// [`Self::close`].
    pub async fn follow(&self) {
        tokio::select! {
            () = self.follower.run(&self.fold) => {}
            () = self.fold.search.run() => {}
            () = self.shadow_rebuild.run(&self.fold) => {}
            () = file_recovery::retry_writes(&self.fold) => {}
        }
    }

    /// Folds every event that the journal has acknowledged (I-13).
    pub async fn catch_up(&self) -> Result<(), ViewError> {
        self.fold.catch_up().await
    }

    /// Health report of search: why results are incomplete, or what an operator has to do; `None`
    /// while all is well.
    pub fn search_problem(&self) -> Option<String> {
        let unwritten = |name: &str, reason: &str| {
            format!(
                "{name} cannot be written ({reason}): new data is kept in memory and the write is retried; check \
                 free space and permissions of {}",
                self.data_dir.display()
            )
        };
        if let Some(reason) = self.fold.rows.failure() {
            return Some(unwritten("lists", &reason));
        }
        match self.fold.search.state() {
            SearchState::Failed { reason } => Some(unwritten("the search index", &reason)),
            state => self.follower.problem().or_else(|| incompleteness(&state)),
        }
        .or_else(|| self.shadow_rebuild.problem(&self.fold))
    }

    /// Progress of a rebuild of rows and keyword index, a sentence for people; `None` without one.
    pub fn rebuild_progress(&self) -> Option<String> {
        self.shadow_rebuild.progress(&self.fold)
    }

    /// Health report of the chosen model: why it fails and what that means, a sentence for people.
    pub fn model_problem(&self) -> Option<String> {
        self.fold.search.model_problem()
    }

    /// Progress of the chosen model's vectors while many are missing, a sentence for people.
    pub fn model_progress(&self) -> Option<String> {
        self.fold.search.model_progress()
    }

    /// Drops rows and index, folds them again from the journal and flushes them. Concurrent queries
    /// wait for it. Checkpoints of other components stay, and so do those vectors of a remote model
    /// that pass their integrity check.
    pub async fn rebuild(&self) -> Result<Rebuilt, ViewError> {
        rebuild::rebuild(&self.fold, &self.shadow_rebuild).await
    }

    /// Digest of all rows and documents, up to the last acknowledged event. Reads everything.
    pub async fn digest(&self) -> Result<Digest, ViewError> {
        rebuild::digest(&self.fold).await
    }

    /// Writes unflushed data, so that the next start has less to fold. A search index that lacks
    /// few documents is left alone: folding them again is cheaper than a commit. A search index
    /// that cannot be written is not an error.
    pub async fn close(&self) -> Result<(), ViewError> {
        if self.fold.access == Access::Read {
            return Ok(());
        }
        let folding = self.fold.begin().await;
        self.fold.search.close().await;
        self.fold.rows.flush_rest().await?;
        self.fold.search.merge_before_close().await;
        drop(folding);
        Ok(())
    }

    /// A named checkpoint of another component (relays) as last noted; 0 if there is none.
    pub fn checkpoint(&self, name: &str) -> Result<u64, ViewError> {
        self.fold.rows.checkpoint(name)
    }

    /// Notes a checkpoint of another component. It is on disk with the next flush or
    /// [`Self::close`]: after a crash an earlier one may be found.
    pub fn note_checkpoint(&self, name: &str, position: u64) {
        self.fold.rows.note_checkpoint(name, position);
    }
}

impl MetricSource for Projections {
    fn register_metrics(&self, registry: &mut Registry) {
        self.fold.register_metrics(registry);
        self.fold.rows.files_metrics().register("projection", registry);
        self.fold.search.files_metrics().register("search", registry);
    }
}

/// Why results are incomplete, a sentence for people; `None` if they are not.
fn incompleteness(state: &SearchState) -> Option<String> {
    match state {
        SearchState::Ready | SearchState::Failed { .. } => None,
        SearchState::Backfilling { made, of } => Some(format!(
            "vectors are missing and being made again from the journal ({made} of {of} events): until then \
             search uses keywords alone"
        )),
        SearchState::Rebuilding { folded, upto } => Some(format!(
            "it is being rebuilt from the journal ({folded} of {upto} events): until then results are incomplete"
        )),
    }
}
