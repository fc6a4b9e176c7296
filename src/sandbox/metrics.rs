//! The metrics of the pool of waiting interpreters.

use ai_factory_ports::metrics::{Counter, CounterFamily, Registry, counter_of};

/// Counts of a sandbox's pools, of all languages together.
#[derive(Clone, Debug)]
pub(super) struct PoolMetrics {
    /// Runs that got a waiting interpreter.
    pub(super) hits: Counter,
    /// Runs that found none waiting and had a jail made.
    pub(super) misses: Counter,
    /// Interpreters that were started to wait.
    pub(super) started: Counter,
    /// Interpreters that could not be started; retried.
    pub(super) failures: Counter,
    /// Interpreters that died while they waited.
    pub(super) lost: Counter,
    /// Interpreters that had waited too long.
    pub(super) expired: Counter,
    discarded: CounterFamily,
}

impl Default for PoolMetrics {
    fn default() -> Self {
        let discarded = CounterFamily::default();
        Self {
            hits: Counter::default(),
            misses: Counter::default(),
            started: Counter::default(),
            failures: Counter::default(),
            lost: counter_of(&discarded, "reason", "lost"),
            expired: counter_of(&discarded, "reason", "expired"),
            discarded,
        }
    }
}

impl PoolMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("sandbox_pool_hits", "Runs that got a waiting interpreter", &self.hits),
            ("sandbox_pool_misses", "Runs that found no interpreter waiting", &self.misses),
            ("sandbox_pool_started", "Interpreters started to wait for a run", &self.started),
            (
                "sandbox_pool_failures",
                "Interpreters that could not be started to wait",
                &self.failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "sandbox_pool_discarded",
            "Interpreters that ended without a run: died while waiting, or waited too long",
            self.discarded.clone(),
        );
    }
}
