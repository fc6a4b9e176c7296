//! Metrics: each component counts its own events, and one registry encodes all of them as
//! OpenMetrics text.
//!
//! *Promises.* Counting is one relaxed atomic operation; a histogram takes a short lock of its own,
//! so it belongs where work is already as long as a sync. The handles are cheap to clone and share
//! one value. A label's value is `'static`: no text from outside becomes a label.
//!
//! *Not here.* What is counted: each component has a struct of its metrics, and registers them
//! through [`MetricSource`].

use std::fmt;

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, text},
    metrics::MetricType,
};

pub use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The prefix of every metric's name.
pub const METRICS_PREFIX: &str = "ai_factory";

/// A label: its name and its value.
pub type MetricLabel = [(&'static str, &'static str); 1];
/// Counters of one name that differ in a label.
pub type CounterFamily = Family<MetricLabel, Counter>;
/// Gauges of one name that differ in a label.
pub type GaugeFamily = Family<MetricLabel, Gauge>;

/// The counter of a label's value; created at the first call, so that 0 is reported too. Takes a
/// lock: resolve it at construction.
pub fn counter_of(family: &CounterFamily, label: &'static str, value: &'static str) -> Counter {
    family.get_or_create_owned(&[(label, value)])
}

/// The gauge of a label's value, as [`counter_of`].
pub fn gauge_of(family: &GaugeFamily, label: &'static str, value: &'static str) -> Gauge {
    family.get_or_create_owned(&[(label, value)])
}

/// A component with metrics.
pub trait MetricSource {
    /// Registers its metrics, by names without [`METRICS_PREFIX`]. A name is a component's and its
    /// event's (`journal_appends`); the suffixes `_total` and of units are added by the type. The
    /// help is a sentence without its full stop.
    fn register_metrics(&self, registry: &mut Registry);
}

/// A gauge that is asked for its value when it is read.
pub struct ProbedGauge(Box<dyn Fn() -> u64 + Send + Sync>);

impl ProbedGauge {
    /// `probe` is called for each reading and must not block.
    pub fn new(probe: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Box::new(probe))
    }
}

impl fmt::Debug for ProbedGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProbedGauge").field(&(self.0)()).finish()
    }
}

impl EncodeMetric for ProbedGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&(self.0)())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// The metrics of all components.
#[derive(Debug)]
pub struct MetricsRegistry(Registry);

impl MetricsRegistry {
    /// The metrics of these components. Two of them must not register the same name.
    pub fn of(components: &[&dyn MetricSource]) -> Self {
        let mut registry = Registry::with_prefix(METRICS_PREFIX);
        for component in components {
            component.register_metrics(&mut registry);
        }
        Self(registry)
    }

    /// All metrics as they are now, as OpenMetrics text
    /// (`application/openmetrics-text; version=1.0.0`).
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.0)?;
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Shop {
        sold: CounterFamily,
    }

    impl MetricSource for Shop {
        fn register_metrics(&self, registry: &mut Registry) {
            registry.register("shop_sales", "Things sold", self.sold.clone());
            let waiting = ProbedGauge::new(|| 7);
            registry.register_with_unit("shop_queue", "Size of the queue", Unit::Bytes, waiting);
        }
    }

    #[test]
    fn metrics_are_read_as_they_are_at_that_moment() {
        let shop = Shop::default();
        let (bread, _milk) = ("bread", counter_of(&shop.sold, "what", "milk"));
        let bread = counter_of(&shop.sold, "what", bread);
        let metrics = MetricsRegistry::of(&[&shop]);
        bread.inc_by(2);
        let text = metrics.encode().unwrap();
        for line in [
            "# HELP ai_factory_shop_sales Things sold.",
            "ai_factory_shop_sales_total{what=\"bread\"} 2",
            "ai_factory_shop_sales_total{what=\"milk\"} 0",
            "# UNIT ai_factory_shop_queue_bytes bytes",
            "ai_factory_shop_queue_bytes 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
