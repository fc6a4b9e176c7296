//! Recovery from file failures: failed files are dropped and rebuilt from the journal, failed
//! writes are retried.
//!
//! *Promises.* A query that meets failing files is answered from rebuilt ones, as are all that wait
//! meanwhile. A damaged file fails a query, never the program. A failed write is retried every
//! [`WRITE_PAUSE`] until it succeeds, whether or not there are requests.
//!
//! *Limits.* Rebuilt files that could not be written since are dropped again only after
//! [`DROP_PAUSE`]: in this case the fault is not in the files alone, and the health report names
//! it.

use std::time::Duration;

use ai_factory_fold::Access;
use ai_factory_ports::views::ViewError;

use super::{fold_state::DropEpoch, journal_fold::JournalFold, rows::RowError, store::RowsView};

/// Time after a drop within which unwritten files are not dropped again.
const DROP_PAUSE: Duration = Duration::from_mins(1);
/// Pause before a failed write is retried.
const WRITE_PAUSE: Duration = Duration::from_secs(5);
/// Rebases that a reader tries in one query when the writer keeps flushing meanwhile.
const REBASE_TRIES_MAX: usize = 64;

/// Answers a question about the rows after folding every acknowledged event.
pub(super) async fn ask<T: Send>(
    fold: &JournalFold,
    question: impl Fn(&RowsView<'_>) -> Result<T, RowError> + Send + Sync,
) -> Result<T, ViewError> {
    for _ in 0..REBASE_TRIES_MAX {
        let epoch = fold.drops().now();
        let answer = match fold.catch_up().await {
            Ok(()) => fold.rows.answer(&question),
            Err(error) => Err(error),
        };
        match answer {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => fold.begin().await.rebase_rows()?,
            Err(error) => recover(fold, error, epoch).await?,
        }
    }
    Err(ViewError::Storage("the server writes them faster than they can be read".to_owned()))
}

/// Drops the files after a query failed on them, so that the next try folds them again from the
/// journal. If files were dropped since `epoch`, from before the query, nothing is done.
pub(super) async fn recover(
    fold: &JournalFold,
    error: ViewError,
    epoch: DropEpoch,
) -> Result<(), ViewError> {
    if !matches!(error, ViewError::Storage(_)) {
        return Err(error);
    }
    let folding = fold.begin().await;
    if fold.drops().is_completed_since(epoch) {
        return Ok(());
    }
    if is_futile(fold) {
        return Err(error);
    }
    tracing::warn!(%error, "the projections failed: dropped, rebuilding them from the journal");
    folding.drop_files().await
}

/// Whether dropping the files again would not help.
fn is_futile(fold: &JournalFold) -> bool {
    let is_rebuilding =
        fold.rows.state().is_rebuilding() || fold.search.files_state().is_rebuilding();
    is_rebuilding && fold.drops().is_within(DROP_PAUSE)
}

/// Retries failed writes until they succeed. Needs a runtime with timers.
pub(super) async fn retry_writes(fold: &JournalFold) {
    if fold.access == Access::Read {
        return std::future::pending().await;
    }
    loop {
        tokio::select! {
            () = fold.rows.failed() => {}
            () = fold.search.failed() => {}
        }
        while fold.rows.failure().is_some() || fold.search.failure().is_some() {
            tokio::time::sleep(WRITE_PAUSE).await;
            if let Err(error) = write_pending(fold).await {
                tracing::debug!(%error, "the projections still cannot be written");
            }
        }
    }
}

/// Writes unflushed data.
async fn write_pending(fold: &JournalFold) -> Result<(), ViewError> {
    let written = fold.rows.flush_rest().await;
    written.and(write_pending_index(fold).await)
}

/// Writes the unflushed part of the index. If its directory was taken away, the index is rebuilt
/// first.
async fn write_pending_index(fold: &JournalFold) -> Result<(), ViewError> {
    let is_gone = fold.search.ensure_directory().await?;
    if is_gone && !is_futile(fold) {
        tracing::warn!("the search index was taken away: rebuilding it from the journal");
        fold.begin().await.drop_index().await?;
        fold.catch_up().await?;
    }
    fold.search.flush().await
}
