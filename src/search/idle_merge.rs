//! Idle merge: index segments are merged while the factory is idle.
//!
//! Each flush leaves a segment, and a search looks each term up in every segment. Under load only
//! segments of similar size are merged, which is cheap per document; in idle time most of them
//! become one.
//!
//! *Limits.* [`super::SearchSettings::idle_after`] is the idle time that a merge waits for.
//! Requests during a merge are answered concurrently; flushes wait for its end, some seconds at
//! most. Only folding beyond the backlog limit of a flush waits for it.

use ai_factory_ports::{journal::Journal, views::ViewError};

use super::{live_index::LiveIndex, search_scheduler::SearchScheduler};

/// Largest result of an idle merge, in bytes: about three seconds, as 20 MB take 0.4 s.
const IDLE_MERGE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// The same before an orderly end.
const CLOSE_MERGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Merges at idle, whenever something was written since the last merge. Needs a runtime with
/// timers.
pub(super) async fn run(live: &LiveIndex, scheduler: &SearchScheduler, journal: &dyn Journal) {
    loop {
        while is_busy(live, scheduler, journal).await {}
        report(&live.with_files(live.merging(IDLE_MERGE_BYTES_MAX)).await);
        live.has_flushed().await;
    }
}

/// Waits for the idle time; returns whether there was a search or an append meanwhile.
async fn is_busy(live: &LiveIndex, scheduler: &SearchScheduler, journal: &dyn Journal) -> bool {
    let seen = || (scheduler.searches_begun(), journal.head().position);
    let before = seen();
    tokio::time::sleep(live.settings().idle_after).await;
    seen() != before
}

/// Merges before an orderly end.
pub(super) async fn merge_before_close(live: &LiveIndex) {
    report(&live.with_files(live.merging(CLOSE_MERGE_BYTES_MAX)).await);
}

/// Logs a failed merge. Damage found by it is dealt with by the next search that meets it.
fn report(tidied: &Result<(), ViewError>) {
    if let Err(error) = tidied {
        tracing::warn!(%error, "the idle merge of the search index failed: it serves unmerged");
    }
}
