//! The journal's metrics.

use std::time::Duration;

use ai_factory_ports::metrics::{Counter, Histogram, Registry, Unit};

/// Upper bounds of the events in one commit.
const COMMIT_EVENTS_BUCKETS: [f64; 11] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];
/// Upper bounds of the time of one sync, in seconds: from a disk with a battery to one that hangs.
const SYNC_SECONDS_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Counts of appends and commits.
pub(super) struct JournalMetrics {
    /// Appends that took effect.
    appends: Counter,
    /// Appends refused because the queue was full.
    refused: Counter,
    commit_events: Histogram,
    sync: Histogram,
}

impl Default for JournalMetrics {
    fn default() -> Self {
        Self {
            appends: Counter::default(),
            refused: Counter::default(),
            commit_events: Histogram::new(COMMIT_EVENTS_BUCKETS),
            sync: Histogram::new(SYNC_SECONDS_BUCKETS),
        }
    }
}

impl JournalMetrics {
    /// Counts a commit of so many appends and events, synced in this time.
    pub(super) fn committed(&self, appends: usize, events: u64, synced_in: Duration) {
        self.appends.inc_by(appends as u64);
        #[expect(clippy::cast_precision_loss, reason = "a commit has far less than 2^52 events")]
        self.commit_events.observe(events as f64);
        self.sync.observe(synced_in.as_secs_f64());
    }

    /// Counts an append that found the queue full.
    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    /// Registers what is counted here.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("journal_appends", "Appends that took effect", self.appends.clone());
        registry.register(
            "journal_appends_refused",
            "Appends refused because the queue was full",
            self.refused.clone(),
        );
        registry.register(
            "journal_commit_events",
            "Events in one commit; the count is that of commits",
            self.commit_events.clone(),
        );
        registry.register_with_unit(
            "journal_sync",
            "Time of the sync that makes a commit durable",
            Unit::Seconds,
            self.sync.clone(),
        );
    }
}
