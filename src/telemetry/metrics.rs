//! The metrics of telemetry itself: what it loses.

use ai_factory_ports::metrics::{Counter, MetricSource, Registry};

/// Counts of what telemetry loses, of the whole process.
#[derive(Clone, Debug, Default)]
pub struct TelemetryMetrics {
    /// Spans that the collector did not accept.
    pub(super) lost_spans: Counter,
    /// Lines that could not be written to the log file.
    pub(super) lost_lines: Counter,
}

impl MetricSource for TelemetryMetrics {
    fn register_metrics(&self, registry: &mut Registry) {
        registry.register(
            "telemetry_spans_lost",
            "Exported spans that the collector did not accept",
            self.lost_spans.clone(),
        );
        registry.register(
            "telemetry_log_lines_lost",
            "Lines that could not be written to the log file",
            self.lost_lines.clone(),
        );
    }
}
