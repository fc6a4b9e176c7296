//! The metrics of the files of one owner.

use ai_factory_ports::metrics::{Counter, Registry};

/// Counts of the writes of the files of one owner.
#[derive(Clone, Debug, Default)]
pub struct FilesMetrics {
    /// Writes that succeeded.
    pub(crate) flushes: Counter,
    /// Writes that failed.
    pub(crate) failures: Counter,
}

impl FilesMetrics {
    /// Registers the counts as those of a component.
    pub fn register(&self, component: &str, registry: &mut Registry) {
        registry.register(
            format!("{component}_flushes"),
            "Writes of what was folded in memory to the files",
            self.flushes.clone(),
        );
        registry.register(
            format!("{component}_flush_failures"),
            "Writes to the files that failed and are retried",
            self.failures.clone(),
        );
    }
}
