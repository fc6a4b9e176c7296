//! The metrics of relays.

use ai_factory_ports::metrics::{Gauge, GaugeFamily, MetricSource, Registry, gauge_of};
use ai_factory_retry::{RetryCounters, RetryMetrics};

/// The label with a relay's name.
const LABEL: &str = "relay";

/// The counts of all relays of a factory.
#[derive(Clone, Debug)]
pub struct RelayMetrics {
    retries: RetryMetrics,
    positions: GaugeFamily,
}

impl Default for RelayMetrics {
    fn default() -> Self {
        Self { retries: RetryMetrics::by(LABEL), positions: GaugeFamily::default() }
    }
}

impl RelayMetrics {
    /// The counts of one relay. Takes a lock: resolve them before it starts.
    pub fn of(&self, relay: &'static str) -> RelayCounters {
        RelayCounters {
            retry: self.retries.of(relay),
            position: gauge_of(&self.positions, LABEL, relay),
        }
    }
}

impl MetricSource for RelayMetrics {
    fn register_metrics(&self, registry: &mut Registry) {
        self.retries.register("relay", registry);
        registry.register(
            "relay_position",
            "Position of the newest event that has arrived; 0 until the relay begins",
            self.positions.clone(),
        );
    }
}

/// The counts of one relay.
#[derive(Clone, Debug, Default)]
pub struct RelayCounters {
    /// Of its retries.
    pub retry: RetryCounters,
    /// The position up to which everything has arrived.
    pub position: Gauge,
}

impl RelayCounters {
    pub(super) fn note(&self, position: u64) {
        self.position.set(i64::try_from(position).unwrap_or(i64::MAX));
    }
}
