//! The spool's metrics.

use ai_factory_ports::metrics::{Counter, CounterFamily, Gauge, Registry, Unit, counter_of};

/// Bytes in use, and contents that were dropped.
#[derive(Clone, Debug)]
pub(crate) struct SpoolMetrics {
    bytes: Gauge,
    dropped: CounterFamily,
    expired: Counter,
    damaged: Counter,
}

impl Default for SpoolMetrics {
    fn default() -> Self {
        let dropped = CounterFamily::default();
        let (expired, damaged) =
            (counter_of(&dropped, "reason", "expired"), counter_of(&dropped, "reason", "damaged"));
        Self { bytes: Gauge::default(), dropped, expired, damaged }
    }
}

impl SpoolMetrics {
    /// Notes the bytes in use.
    pub(crate) fn in_use(&self, bytes: u64) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a content that nobody asked for in time.
    pub(crate) fn expired(&self) {
        self.expired.inc();
    }

    /// Counts a content whose bytes do not have its hash.
    pub(crate) fn damaged(&self) {
        self.damaged.inc();
    }

    /// Registers what is counted here.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "spool",
            "Uploaded contents of files that are kept for goals to come",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register(
            "spool_dropped",
            "Uploaded contents that were dropped: not asked for in time, or without their hash",
            self.dropped.clone(),
        );
    }
}
