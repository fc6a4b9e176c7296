//! Vectors of a remote model (one behind the port `AsyncEmbedder`): made in the background, behind
//! the keyword index.
//!
//! *Promises.* No write, list or search waits for the model or fails with it. New documents are
//! found by keywords at once, and by vector as soon as their vector is made. Until the model's
//! vectors are complete for the first time, those of the built-in model serve.
//!
//! *Limits.* After a crash at most [`FLUSH_VECTORS`] vectors and those of one batch are rebuilt.

use std::sync::{Arc, atomic::Ordering};

use ai_factory_ports::views::{SearchOutcome, SearchQuery, ViewError};

use super::{
    Projections, blocking, index_error,
    search::{RemoteEmbedder, VectorIndex, documents::DocumentBuilder},
};

/// Unflushed vectors at which a flush is due: they may have cost time or money.
const FLUSH_VECTORS: usize = 256;
/// Lag of the vectors, in events, from which progress is reported.
const BEHIND_EVENTS_MIN: u64 = 1_024;
/// Events between two log lines about progress.
const PROGRESS_EVENTS: u64 = 10_000;

impl Projections {
    /// Health report of the chosen model: why it fails and what that means, a sentence for people.
    pub fn model_problem(&self) -> Option<String> {
        let model = self.index.vector_indexes().configured()?;
        let (reason, meanwhile) = if self.index.serves_built_in() {
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
        let vector_indexes = self.index.vector_indexes();
        let name = vector_indexes.configured()?.name();
        let words = self.index.keywords_applied().position;
        let made = vector_indexes.configured_index().map_or(0, |index| index.applied().position);
        let meanwhile = if self.index.serves_built_in() {
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

    /// Whether the serving vectors lack some that are being made.
    pub(super) fn lacks_vectors(&self) -> bool {
        !self.index.serves_built_in()
            && self.index.vectors_applied().position < self.index.keywords_applied().position
    }

    /// Searches with the vectors of a remote model; by keywords alone if the model has no vector
    /// for the query.
    pub(super) async fn search_with_remote(
        &self,
        query: &SearchQuery,
        vector_index: Arc<VectorIndex>,
        model: &RemoteEmbedder,
    ) -> Result<SearchOutcome, ViewError> {
        let (index, query, mode) = (Arc::clone(&self.index), query.clone(), query.mode);
        let parsed = blocking(move || index.parse_query(&query).map_err(index_error)).await?;
        let Some(parsed) = parsed else {
            return Ok(SearchOutcome { found: Vec::new(), mode });
        };
        let vector = match parsed.semantic_text() {
            None => None,
            Some(text) => model.query(text).await.unwrap_or_else(|_| {
                // Keeps this answer out of the cache.
                self.backfill.revisions.fetch_add(1, Ordering::AcqRel);
                None
            }),
        };
        let index = Arc::clone(&self.index);
        let answer =
            move || index.answer(parsed, &vector_index, vector.as_deref()).map_err(index_error);
        self.scheduler.search(self.index.size(), answer).await
    }

    /// Makes the vectors of the chosen model, if there is one, as long as this future is polled.
    pub(super) async fn run_vector_worker(&self) {
        let Some(model) = self.index.vector_indexes().configured().map(Arc::clone) else {
            return std::future::pending().await;
        };
        tokio::join!(model.probe_until_back(), self.embed_missing(&model));
    }

    async fn embed_missing(&self, model: &RemoteEmbedder) {
        let mut builder = DocumentBuilder::default();
        loop {
            if let Some(rest) = model.backoff_left() {
                tokio::time::sleep(rest).await;
            }
            match self.embed_batch(model, &mut builder).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => self.has_grown.notified().await,
                Err(error) => {
                    tracing::error!(%error, "new documents are found by keywords alone");
                    self.has_grown.notified().await;
                }
            }
        }
    }

    /// Makes a batch of vectors, if the model answers; returns whether to continue at once.
    async fn embed_batch(
        &self,
        model: &RemoteEmbedder,
        builder: &mut DocumentBuilder,
    ) -> Result<bool, ViewError> {
        let vector_indexes = self.index.vector_indexes();
        let Some(index) = vector_indexes.configured_index() else {
            if model.probe().await.is_ok() {
                vector_indexes.open_next().map_err(index_error)?;
            }
            return Ok(true);
        };
        let from = index.applied();
        if from.position >= self.index.keywords_applied().position {
            return self.has_more_to_embed(model).await;
        }
        let (changes, upto) = self.missing_changes(from, builder).await?;
        let texts = index.texts(&changes);
        let chunks: Vec<&str> = texts.iter().map(|(_, text)| *text).collect();
        let Ok(vectors) = model.make(&chunks).await else { return Ok(true) };
        let made: Vec<_> = texts.iter().map(|(position, _)| *position).zip(vectors).collect();
        if upto.position / PROGRESS_EVENTS > from.position / PROGRESS_EVENTS {
            tracing::info!(
                model = model.name(),
                position = upto.position,
                of = self.index.keywords_applied().position,
                "vectors are made"
            );
        }
        let step = self.backfill.step.lock().await;
        let adding = Arc::clone(&index);
        let is_added =
            blocking(move || Ok(adding.apply_embedded(&changes, &made, from, upto))).await?;
        drop(step);
        if is_added && index.pending() >= FLUSH_VECTORS {
            self.with_files(move || index.flush().map_err(index_error)).await?;
        }
        Ok(true)
    }

    /// Whether vectors are still missing. If none is, the chosen model's vectors begin to serve,
    /// unless they already do.
    async fn has_more_to_embed(&self, model: &RemoteEmbedder) -> Result<bool, ViewError> {
        let folding = self.folding.lock().await;
        let vector_indexes = self.index.vector_indexes();
        let Some(index) = vector_indexes.configured_index() else { return Ok(true) };
        if index.applied().position < self.index.keywords_applied().position {
            return Ok(true);
        }
        self.end_backfill();
        if !self.index.serves_built_in() {
            return Ok(false);
        }
        vector_indexes.swap();
        drop(folding);
        tracing::info!(
            model = model.name(),
            "the vectors of the embedding model are complete: they serve"
        );
        self.with_files(move || index.flush().map_err(index_error)).await?;
        Ok(false)
    }
}
