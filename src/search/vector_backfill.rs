//! Vector backfill: vectors that are lost or lag far behind are rebuilt from the journal in the
//! background.
//!
//! *Promises.* Meanwhile lists and keyword search contain everything that the journal has
//! acknowledged, and no query waits for the vectors.
//!
//! *Limits.* Only the process that follows the journal does this in the background; in others the
//! first query waits for all of it.
//!
//! *Not here.* The vectors of a remote model: [`super::slow`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ai_factory_ports::views::ViewError;
use tokio::sync::Notify;

use super::{
    FOLD_EVENTS_MAX, Mark, Projections, index_error,
    search::documents::{DocumentBuilder, IndexChanges},
};

/// State of the vector backfill.
#[derive(Default)]
pub(super) struct VectorBackfill {
    /// Whether a task runs that can do it in the background.
    pub(super) is_followed: AtomicBool,
    /// Whether vectors are behind the keyword index. Changed only while folding is locked.
    pub(super) is_under_way: AtomicBool,
    /// Notified when a backfill begins.
    begun: Notify,
    /// Number of times answers changed without a new event: the vectors were complete again, or
    /// another model's vectors began to serve.
    pub(super) revisions: AtomicU64,
    /// Held while vectors are added, so that the index is not dropped meanwhile.
    pub(super) step: tokio::sync::Mutex<()>,
}

impl Projections {
    /// Progress of the backfill and its effect on search, a sentence for people.
    pub(super) fn backfill_progress(&self) -> Option<String> {
        self.is_backfilling().then(|| {
            format!(
                "vectors are missing and being made again from the journal ({} of {} events): until then \
                 search uses keywords alone",
                self.index.vectors_applied().position,
                self.index.keywords_applied().position,
            )
        })
    }

    pub(super) fn is_backfilling(&self) -> bool {
        self.backfill.is_under_way.load(Ordering::Acquire)
    }

    /// Whether vectors are behind the keyword index and the background task makes them; begins a
    /// backfill if it is due. Called while folding is locked.
    pub(super) fn begin_backfill(&self) -> bool {
        // A flush writes vectors before the keyword index, so vectors that are behind were lost, or
        // another model's vectors served since.
        if !self.is_backfilling()
            && self.backfill.is_followed.load(Ordering::Acquire)
            && self.index.serves_built_in()
            && self.index.vectors_applied().position < self.index.keywords_applied().position
        {
            self.backfill.is_under_way.store(true, Ordering::Release);
            self.backfill.begun.notify_one();
            tracing::warn!("vectors are missing: making them again from the journal");
        }
        self.is_backfilling()
    }

    /// Makes missing vectors whenever there are any.
    pub(super) async fn run_backfill(&self) {
        loop {
            self.backfill.begun.notified().await;
            while let Err(error) = self.backfill_vectors().await {
                tracing::error!(%error, "the vectors are incomplete: search uses keywords alone");
                if self.journal.watch().changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Makes missing vectors, one batch at a time.
    async fn backfill_vectors(&self) -> Result<(), ViewError> {
        let mut builder = DocumentBuilder::default();
        while self.is_backfilling() {
            if self.end_if_complete().await {
                tracing::info!("the vectors are complete again");
                // Saves the next start from making them again.
                return self.with_files(self.index_flush()).await;
            }
            self.backfill_batch(&mut builder).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether no vector is missing; if so, the vectors serve again.
    async fn end_if_complete(&self) -> bool {
        let _folding = self.folding.lock().await;
        let (keywords, vectors) = (self.index.keywords_applied(), self.index.vectors_applied());
        if vectors.position < keywords.position {
            return false;
        }
        self.end_backfill();
        true
    }

    /// The serving vectors are complete. Called while folding is locked.
    pub(super) fn end_backfill(&self) {
        self.backfill.revisions.fetch_add(1, Ordering::AcqRel);
        self.backfill.is_under_way.store(false, Ordering::Release);
    }

    async fn backfill_batch(&self, builder: &mut DocumentBuilder) -> Result<(), ViewError> {
        let step = self.backfill.step.lock().await;
        if !self.is_backfilling() {
            return Ok(());
        }
        let vector_index = self.index.vector_indexes().serving();
        let (changes, upto) = self.missing_changes(vector_index.applied(), builder).await?;
        // Embedding many texts takes a while: queries must not wait for this thread.
        super::blocking(move || vector_index.apply(&changes, upto).map_err(index_error)).await?;
        drop(step);
        self.flush_if_due().await
    }

    /// Changes of a batch of events that the keyword index contains and vectors up to `from` do
    /// not, and the position up to which they go.
    pub(super) async fn missing_changes(
        &self,
        from: Mark,
        builder: &mut DocumentBuilder,
    ) -> Result<(IndexChanges, Mark), ViewError> {
        let missing = self.index.keywords_applied().position.saturating_sub(from.position);
        let missing = usize::try_from(missing).unwrap_or(FOLD_EVENTS_MAX);
        let (mut changes, mut upto) = (IndexChanges::default(), from);
        for event in self.read(from.position, missing.min(FOLD_EVENTS_MAX)).await? {
            changes.add(builder.derive(&event, self.journal.as_ref()).await?);
            upto = Mark { position: event.position, hash: event.hash };
        }
        Ok((changes, upto))
    }
}
