//! The metrics of the projections.

use std::sync::Arc;

use ai_factory_ports::metrics::{Counter, ProbedGauge, Registry};
use ai_factory_retry::{RetryCounters, RetryMetrics};

use super::fold_state::{FoldCursor, FoldState};

/// The operation of following the journal, among those that are retried.
const FOLLOW: &str = "follow";

/// Counts of folds and searches.
#[derive(Clone, Debug)]
pub(super) struct ProjectionMetrics {
    /// Searches of memories.
    pub(super) searches: Counter,
    /// Of the follower.
    pub(super) follow: RetryCounters,
    retries: RetryMetrics,
}

impl Default for ProjectionMetrics {
    fn default() -> Self {
        let retries = RetryMetrics::by("operation");
        Self { searches: Counter::default(), follow: retries.of(FOLLOW), retries }
    }
}

impl ProjectionMetrics {
    /// Registers what is counted here, and how far everything is folded.
    pub(super) fn register(&self, cursor: &Arc<FoldCursor>, registry: &mut Registry) {
        let cursor = Arc::clone(cursor);
        let position = ProbedGauge::new(move || match cursor.now() {
            FoldState::Unchecked => 0,
            FoldState::Folded(position) => position,
        });
        registry.register(
            "projection_position",
            "Position up to which the journal is folded; 0 until the files are checked",
            position,
        );
        self.retries.register("projection", registry);
        registry.register("searches", "Searches of memories", self.searches.clone());
    }
}
