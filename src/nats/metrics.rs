//! The metrics of a connection to a NATS server.

use ai_factory_ports::metrics::{Counter, CounterFamily, MetricSource, Registry, counter_of};
use ai_factory_retry::{RetryCounters, RetryMetrics};

/// Everything of which items can be left out.
const LEFT_OUT_OF: [&str; 3] = ["events", "states of sessions", DEAD_LETTERS];
/// The intake of goals, among the operations that are retried.
pub(super) const GOALS: &str = "goals";
/// The storing of dead letters, among them.
pub(super) const DEAD_LETTERS: &str = "dead letters";

/// Counts of a connection to a NATS server.
#[derive(Clone, Debug)]
pub struct NatsMetrics {
    /// Messages from the server that a subscriber's full queue dropped.
    pub(super) lost_messages: Counter,
    /// Times that the client library's own queue was full.
    pub(super) slow_consumers: Counter,
    /// Connections that were lost.
    pub(super) lost_connections: Counter,
    /// Errors that the server reported.
    pub(super) server_errors: Counter,
    left_out: CounterFamily,
    retries: RetryMetrics,
}

impl Default for NatsMetrics {
    fn default() -> Self {
        let (left_out, retries) = (CounterFamily::default(), RetryMetrics::by("operation"));
        for about in LEFT_OUT_OF {
            counter_of(&left_out, "content", about);
        }
        for operation in [GOALS, DEAD_LETTERS] {
            retries.of(operation);
        }
        Self {
            lost_messages: Counter::default(),
            slow_consumers: Counter::default(),
            lost_connections: Counter::default(),
            server_errors: Counter::default(),
            left_out,
            retries,
        }
    }
}

impl NatsMetrics {
    /// Counts an item that was left out for good. Rare, so it may take the family's lock.
    pub(super) fn left_out(&self, about: &'static str) {
        counter_of(&self.left_out, "content", about).inc();
    }

    /// How many items were left out.
    #[cfg(test)]
    pub(super) fn left_out_of(&self, about: &'static str) -> u64 {
        counter_of(&self.left_out, "content", about).get()
    }

    /// The counters of an operation that is retried.
    pub(super) fn retries(&self, operation: &'static str) -> RetryCounters {
        self.retries.of(operation)
    }
}

impl MetricSource for NatsMetrics {
    fn register_metrics(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "nats_messages_lost",
                "Messages from the NATS server dropped by a full queue",
                &self.lost_messages,
            ),
            (
                "nats_slow_consumers",
                "Times that the NATS client dropped messages by itself",
                &self.slow_consumers,
            ),
            (
                "nats_connections_lost",
                "Connections to the NATS server that were lost",
                &self.lost_connections,
            ),
            ("nats_server_errors", "Errors reported by the NATS server", &self.server_errors),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "nats_left_out",
            "Items of the journal that the NATS server can never accept, by content",
            self.left_out.clone(),
        );
        self.retries.register("nats", registry);
    }
}
