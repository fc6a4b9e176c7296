//! Vector backfill: vectors that are lost or lag far behind are rebuilt from the journal in the
//! background.
//!
//! *Promises.* Meanwhile keyword search contains everything that the journal has acknowledged, and
//! no query waits for the vectors.
//!
//! *Limits.* Only the process that runs the workers does this in the background; in others the
//! first query waits for all of it.
//!
//! *Not here.* The vectors of a remote model: [`super::vector_worker`].

use ai_factory_fold::blocking;
use ai_factory_ports::{journal::Journal, views::ViewError};

use super::{documents::DocumentBuilder, live_index::LiveIndex};

/// Makes missing vectors whenever there are any, until the journal is closed.
pub(super) async fn run(live: &LiveIndex, journal: &dyn Journal) {
    loop {
        live.has_begun_backfill().await;
        while let Err(error) = backfill(live, journal).await {
            tracing::error!(%error, "the vectors are incomplete: search uses keywords alone");
            if journal.watch().changed().await.is_err() {
                return;
            }
        }
    }
}

/// Makes missing vectors, one batch at a time.
async fn backfill(live: &LiveIndex, journal: &dyn Journal) -> Result<(), ViewError> {
    let mut builder = DocumentBuilder::default();
    while live.phase().now().is_backfilling() {
        if live.end_backfill().await {
            tracing::info!("the vectors are complete again");
            // Saves the next start from making them again.
            return live.with_files(live.flushing()).await;
        }
        backfill_batch(live, journal, &mut builder).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn backfill_batch(
    live: &LiveIndex,
    journal: &dyn Journal,
    builder: &mut DocumentBuilder,
) -> Result<(), ViewError> {
    let adding = live.begin_adding().await;
    if !live.phase().now().is_backfilling() {
        return Ok(());
    }
    let vector_index = live.index().vector_indexes().serving();
    let upto = live.index().keywords_applied().position;
    let (changes, upto) = builder.changes(journal, vector_index.applied(), upto).await?;
    // Embedding many texts takes a while: queries must not wait for this thread.
    blocking(move || vector_index.apply(&changes, upto).map_err(ViewError::from)).await?;
    drop(adding);
    live.flush_if_due().await
}
