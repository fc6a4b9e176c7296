//! Vectors of a remote model (one behind the port `SlowEmbedder`: an API, or a BERT model in a
//! directory): made in the background, behind the keyword index.
//!
//! *Promises.* No write, list or search waits for the model or fails with it. New documents are
//! found by keywords at once, and by vector as soon as their vector is made. Until the model's
//! vectors are complete for the first time, those of the built-in model serve.
//!
//! *Limits.* After a crash at most [`FLUSH_VECTORS`] vectors and those of one batch are made again.

use std::sync::{Arc, atomic::Ordering};

use ai_factory_actors::ports::views::{Searched, Sought, ViewError};

use super::{
    Projections, blocking, index_error,
    search::{MeaningIndex, SlowModel, documents::Deriver},
};

/// Unflushed vectors at which a flush is due: they may have cost time or money.
const FLUSH_VECTORS: usize = 256;
/// Lag of the vectors, in events, from which progress is reported.
const BEHIND_EVENTS_TOLD: u64 = 1_024;
/// Events between two log lines about progress.
const PROGRESS_EVENTS: u64 = 10_000;

impl Projections {
    /// Health report of the chosen model: why it fails and what that means, a sentence for people.
    pub fn model_ailment(&self) -> Option<String> {
        let model = self.index.meanings().wanted()?;
        let (reason, meanwhile) = if self.index.is_at_hand() {
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
        let meanings = self.index.meanings();
        let name = meanings.wanted()?.name();
        let words = self.index.words_applied().position;
        let made = meanings.of_wanted().map_or(0, |index| index.applied().position);
        let meanwhile = if self.index.is_at_hand() {
            "until then the built-in model serves"
        } else if words.saturating_sub(made) >= BEHIND_EVENTS_TOLD {
            "the rest is found by keywords alone"
        } else {
            return None;
        };
        Some(format!(
            "the vectors of the embedding model `{name}` are being made ({made} of {words} events): {meanwhile}"
        ))
    }

    /// Whether the serving vectors lack some that are being made.
    pub(super) fn lacks_slow_vectors(&self) -> bool {
        !self.index.is_at_hand()
            && self.index.meaning_applied().position < self.index.words_applied().position
    }

    /// Searches with the vectors of a remote model; by keywords alone if the model has no vector
    /// for the query.
    pub(super) async fn search_slowly(
        &self,
        sought: &Sought,
        meaning: Arc<MeaningIndex>,
        model: &SlowModel,
    ) -> Result<Searched, ViewError> {
        let (index, sought, mode) = (Arc::clone(&self.index), sought.clone(), sought.mode);
        let question = blocking(move || index.question(&sought).map_err(index_error)).await?;
        let Some(question) = question else {
            return Ok(Searched { found: Vec::new(), mode });
        };
        let vector = match question.meant() {
            None => None,
            Some(text) => model.query(text).await.unwrap_or_else(|_| {
                // Keeps this answer out of the cache.
                self.mend.mended.fetch_add(1, Ordering::AcqRel);
                None
            }),
        };
        let index = Arc::clone(&self.index);
        let answer =
            move || index.answer(question, &meaning, vector.as_deref()).map_err(index_error);
        self.turns.search(self.index.size(), answer).await
    }

    /// Makes the vectors of the chosen model, if there is one, as long as this future is polled.
    pub(super) async fn keep_slow_vectors(&self) {
        let Some(model) = self.index.meanings().wanted().map(Arc::clone) else {
            return std::future::pending().await;
        };
        tokio::join!(model.keep_asking(), self.make_missing(&model));
    }

    async fn make_missing(&self, model: &SlowModel) {
        let mut deriver = Deriver::default();
        loop {
            if let Some(rest) = model.rest() {
                tokio::time::sleep(rest).await;
            }
            match self.make_slow_vectors(model, &mut deriver).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => self.is_longer.notified().await,
                Err(error) => {
                    tracing::error!(%error, "new documents are found by keywords alone");
                    self.is_longer.notified().await;
                }
            }
        }
    }

    /// Makes a batch of vectors, if the model answers; returns whether to continue at once.
    async fn make_slow_vectors(
        &self,
        model: &SlowModel,
        deriver: &mut Deriver,
    ) -> Result<bool, ViewError> {
        let meanings = self.index.meanings();
        let Some(index) = meanings.of_wanted() else {
            if model.probe().await.is_ok() {
                meanings.open_next().map_err(index_error)?;
            }
            return Ok(true);
        };
        let from = index.applied();
        if from.position >= self.index.words_applied().position {
            return self.is_not_complete(model).await;
        }
        let (changes, upto) = self.missing(from, deriver).await?;
        let texts = index.texts(&changes);
        let pieces: Vec<&str> = texts.iter().map(|(_, text)| *text).collect();
        let Ok(vectors) = model.make(&pieces).await else { return Ok(true) };
        let made: Vec<_> = texts.iter().map(|(position, _)| *position).zip(vectors).collect();
        if upto.position / PROGRESS_EVENTS > from.position / PROGRESS_EVENTS {
            tracing::info!(
                model = model.name(),
                position = upto.position,
                of = self.index.words_applied().position,
                "vectors are made"
            );
        }
        let step = self.mend.step.lock().await;
        let adding = Arc::clone(&index);
        let is_added = blocking(move || Ok(adding.apply_made(&changes, &made, from, upto))).await?;
        drop(step);
        if is_added && index.pending() >= FLUSH_VECTORS {
            self.with_files(move || index.flush().map_err(index_error)).await?;
        }
        Ok(true)
    }

    /// Whether vectors are still missing. If none is, the chosen model's vectors begin to serve,
    /// unless they already do.
    async fn is_not_complete(&self, model: &SlowModel) -> Result<bool, ViewError> {
        let folding = self.folding.lock().await;
        let meanings = self.index.meanings();
        let Some(index) = meanings.of_wanted() else { return Ok(true) };
        if index.applied().position < self.index.words_applied().position {
            return Ok(true);
        }
        self.ends_to_mend();
        if !self.index.is_at_hand() {
            return Ok(false);
        }
        meanings.swap();
        drop(folding);
        tracing::info!(
            model = model.name(),
            "the vectors of the embedding model are complete: they serve"
        );
        self.with_files(move || index.flush().map_err(index_error)).await?;
        Ok(false)
    }
}
