//! Idle merge: index segments are merged while the factory is idle.
//!
//! Each flush leaves a segment, and a search looks each term up in every segment. Under load only
//! segments of similar size are merged, which is cheap per document; in idle time most of them
//! become one.
//!
//! *Limits.* [`super::ProjectionSettings::idle_merge`] is the idle time that a merge waits for.
//! Requests during a merge are answered concurrently; flushes wait for its end, some seconds at
//! most. Only folding beyond the backlog limit of a flush waits for it.

use std::sync::Arc;

use ai_factory_ports::views::ViewError;

use super::{Access, Projections, blocking, file_recovery::catch_corruption, index_error};

/// Largest result of an idle merge, in bytes: about three seconds, as 20 MB take 0.4 s.
const IDLE_MERGE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// The same before an orderly end.
const CLOSE_MERGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

impl Projections {
    /// Merges at idle, whenever something was written since the last merge. Needs a runtime with
    /// timers.
    pub(super) async fn merge_when_idle(&self) {
        if self.access == Access::Read {
            return std::future::pending().await;
        }
        loop {
            while self.is_busy().await {}
            report(&self.with_files(self.merge_index(IDLE_MERGE_BYTES_MAX)).await);
            self.is_flushed.notified().await;
        }
    }

    /// Waits for the idle time; returns whether there was a search or an append meanwhile.
    async fn is_busy(&self) -> bool {
        let seen = || (self.scheduler.searches_begun(), self.journal.head().position);
        let before = seen();
        tokio::time::sleep(self.settings.idle_after).await;
        seen() != before
    }

    /// Merges before an orderly end, while nothing is written.
    pub(super) async fn merge_before_close(&self) {
        report(&blocking(self.merge_index(CLOSE_MERGE_BYTES_MAX)).await);
    }

    /// Merges segments. Blocks.
    fn merge_index(&self, bytes_max: u64) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let index = Arc::clone(&self.index);
        // Keeps the rows, and what lies beside them, from being reopened before this work ends.
        let rows = Arc::clone(&self.rows);
        move || {
            let tidied = catch_corruption(|| {
                index.keyword_index().merge_idle(bytes_max).map_err(index_error)
            });
            drop(rows);
            tidied
        }
    }
}

/// Logs a failed merge. Damage found by it is dealt with by the next search that meets it.
fn report(tidied: &Result<(), ViewError>) {
    if let Err(error) = tidied {
        tracing::warn!(%error, "the idle merge of the search index failed: it serves unmerged");
    }
}
