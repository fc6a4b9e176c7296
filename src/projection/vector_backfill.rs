//! Vector backfill: vectors that are lost or lag far behind are made again from the journal in the
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

use ai_factory_actors::ports::views::ViewError;
use tokio::sync::Notify;

use super::{
    FOLD_EVENTS_MAX, Mark, Projections, index_error,
    search::documents::{Changes, Deriver},
};

/// State of the vector backfill.
#[derive(Default)]
pub(super) struct Mend {
    /// Whether a task runs that can do it in the background.
    pub(super) is_followed: AtomicBool,
    /// Whether vectors are behind the keyword index. Changed only while folding is locked.
    pub(super) is_under_way: AtomicBool,
    /// Notified when a backfill begins.
    begun: Notify,
    /// Number of times answers changed without a new event: the vectors were complete again, or
    /// another model's vectors began to serve.
    pub(super) mended: AtomicU64,
    /// Held while vectors are added, so that the index is not dropped meanwhile.
    pub(super) step: tokio::sync::Mutex<()>,
}

impl Projections {
    /// Progress of the backfill and its effect on search, a sentence for people.
    pub(super) fn mending(&self) -> Option<String> {
        self.is_mending().then(|| {
            format!(
                "vectors are missing and being made again from the journal ({} of {} events): until then \
                 search uses keywords alone",
                self.index.meaning_applied().position,
                self.index.words_applied().position,
            )
        })
    }

    pub(super) fn is_mending(&self) -> bool {
        self.mend.is_under_way.load(Ordering::Acquire)
    }

    /// Whether vectors are behind the keyword index and the background task makes them; begins a
    /// backfill if it is due. Called while folding is locked.
    pub(super) fn begins_to_mend(&self) -> bool {
        // A flush writes vectors before the keyword index, so vectors that are behind were lost, or
        // another model's vectors served since.
        if !self.is_mending()
            && self.mend.is_followed.load(Ordering::Acquire)
            && self.index.is_at_hand()
            && self.index.meaning_applied().position < self.index.words_applied().position
        {
            self.mend.is_under_way.store(true, Ordering::Release);
            self.mend.begun.notify_one();
            tracing::warn!("vectors are missing: making them again from the journal");
        }
        self.is_mending()
    }

    /// Makes missing vectors whenever there are any.
    pub(super) async fn keep_mended(&self) {
        loop {
            self.mend.begun.notified().await;
            while let Err(error) = self.mend().await {
                tracing::error!(%error, "the vectors are incomplete: search uses keywords alone");
                if self.journal.watch().changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Makes missing vectors, one batch at a time.
    async fn mend(&self) -> Result<(), ViewError> {
        let mut deriver = Deriver::default();
        while self.is_mending() {
            if self.is_mended().await {
                tracing::info!("the vectors are complete again");
                // Saves the next start from making them again.
                return self.with_files(self.index_flush()).await;
            }
            self.mend_some(&mut deriver).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether no vector is missing; if so, the vectors serve again.
    async fn is_mended(&self) -> bool {
        let _folding = self.folding.lock().await;
        let (words, meaning) = (self.index.words_applied(), self.index.meaning_applied());
        if meaning.position < words.position {
            return false;
        }
        self.ends_to_mend();
        true
    }

    /// The serving vectors are complete. Called while folding is locked.
    pub(super) fn ends_to_mend(&self) {
        self.mend.mended.fetch_add(1, Ordering::AcqRel);
        self.mend.is_under_way.store(false, Ordering::Release);
    }

    async fn mend_some(&self, deriver: &mut Deriver) -> Result<(), ViewError> {
        let step = self.mend.step.lock().await;
        if !self.is_mending() {
            return Ok(());
        }
        let meaning = self.index.meanings().serving();
        let (changes, upto) = self.missing(meaning.applied(), deriver).await?;
        // Embedding many texts takes a while: queries must not wait for this thread.
        super::blocking(move || meaning.apply(&changes, upto).map_err(index_error)).await?;
        drop(step);
        self.flush_if_due().await
    }

    /// Changes of a batch of events that the keyword index contains and vectors up to `from` do
    /// not, and the position up to which they go.
    pub(super) async fn missing(
        &self,
        from: Mark,
        deriver: &mut Deriver,
    ) -> Result<(Changes, Mark), ViewError> {
        let missing = self.index.words_applied().position.saturating_sub(from.position);
        let missing = usize::try_from(missing).unwrap_or(FOLD_EVENTS_MAX);
        let (mut changes, mut upto) = (Changes::default(), from);
        for event in self.read(from.position, missing.min(FOLD_EVENTS_MAX)).await? {
            changes.add(deriver.derive(&event, self.journal.as_ref()).await?);
            upto = Mark { position: event.position, hash: event.hash };
        }
        Ok((changes, upto))
    }
}
