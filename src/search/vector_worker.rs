//! Vectors of a remote model (one behind the port `AsyncEmbedder`): made in the background, behind
//! the keyword index.
//!
//! *Promises.* No write, list or search waits for the model or fails with it. New documents are
//! found by keywords at once, and by vector as soon as their vector is made. Until the model's
//! vectors are complete for the first time, those of the built-in model serve.
//!
//! *Limits.* After a crash at most [`FLUSH_VECTORS`] vectors and those of one batch are rebuilt.

use std::sync::Arc;

use ai_factory_fold::blocking;
use ai_factory_ports::{journal::Journal, views::ViewError};

use super::{
    documents::DocumentBuilder,
    live_index::{LiveIndex, Takeover},
    remote_embedder::RemoteEmbedder,
    vector_index::VectorIndex,
};

/// Unflushed vectors at which a flush is due: they may have cost time or money.
const FLUSH_VECTORS: usize = 256;
/// Events between two log lines about progress.
const PROGRESS_EVENTS: u64 = 10_000;

/// Makes the vectors of the chosen model, if there is one, as long as this future is polled.
pub(super) async fn run(live: &LiveIndex, journal: &dyn Journal) {
    let Some(model) = live.index().vector_indexes().configured().map(Arc::clone) else {
        return std::future::pending().await;
    };
    tokio::join!(model.probe_until_back(), embed_missing(live, journal, &model));
}

async fn embed_missing(live: &LiveIndex, journal: &dyn Journal, model: &RemoteEmbedder) {
    let mut builder = DocumentBuilder::default();
    loop {
        if let Some(rest) = model.backoff_left() {
            tokio::time::sleep(rest).await;
        }
        match embed_batch(live, journal, model, &mut builder).await {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => live.has_grown().await,
            Err(error) => {
                tracing::error!(%error, "new documents are found by keywords alone");
                live.has_grown().await;
            }
        }
    }
}

/// Makes a batch of vectors, if the model answers; returns whether to continue at once.
async fn embed_batch(
    live: &LiveIndex,
    journal: &dyn Journal,
    model: &RemoteEmbedder,
    builder: &mut DocumentBuilder,
) -> Result<bool, ViewError> {
    let vector_indexes = live.index().vector_indexes();
    let Some(index) = vector_indexes.configured_index() else {
        if model.probe().await.is_ok() {
            vector_indexes.open_next()?;
        }
        return Ok(true);
    };
    let (from, keywords) = (index.applied(), live.index().keywords_applied().position);
    if from.position >= keywords {
        return has_more_to_embed(live, model, index).await;
    }
    let (changes, upto) = builder.changes(journal, from, keywords).await?;
    let texts = index.texts(&changes);
    let chunks: Vec<&str> = texts.iter().map(|(_, text)| *text).collect();
    let Ok(vectors) = model.make(&chunks).await else { return Ok(true) };
    let made: Vec<_> = texts.iter().map(|(position, _)| *position).zip(vectors).collect();
    if upto.position / PROGRESS_EVENTS > from.position / PROGRESS_EVENTS {
        tracing::info!(
            model = model.name(),
            position = upto.position,
            of = live.index().keywords_applied().position,
            "vectors are made"
        );
    }
    let adding = live.begin_adding().await;
    let vectors = Arc::clone(&index);
    let is_added =
        blocking(move || Ok(vectors.apply_embedded(&changes, &made, from, upto))).await?;
    drop(adding);
    if is_added && index.pending() >= FLUSH_VECTORS {
        flush(live, index).await?;
    }
    Ok(true)
}

/// Whether vectors are still missing. If none is, the chosen model's vectors begin to serve, unless
/// they already do.
async fn has_more_to_embed(
    live: &LiveIndex,
    model: &RemoteEmbedder,
    index: Arc<VectorIndex>,
) -> Result<bool, ViewError> {
    match live.take_over().await {
        Takeover::Missing => return Ok(true),
        Takeover::Serving | Takeover::Waiting => {}
        Takeover::Begun => {
            tracing::info!(
                model = model.name(),
                "the vectors of the embedding model are complete: they serve"
            );
            flush(live, index).await?;
        }
    }
    Ok(false)
}

async fn flush(live: &LiveIndex, index: Arc<VectorIndex>) -> Result<(), ViewError> {
    live.with_files(move || index.flush().map_err(ViewError::from)).await
}
