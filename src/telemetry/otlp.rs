//! Exports traces to a collector: spans over OTLP (HTTP, protobuf), configured by the standard
//! `OTEL_*` variables.
//!
//! *Promises.* Without an endpoint nothing is created. Spans enter a bounded queue, from which a
//! thread of its own sends batches: the work never waits for a collector, and spans beyond the
//! queue are dropped. An unavailable collector causes one log line when the outage begins and one
//! when it ends. Spans of the exporter's own libraries are never exported.
//!
//! *Limits.* Queue, batches, timeouts and sampling are the SDK's: `OTEL_BSP_*`,
//! `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_TRACES_SAMPLER`. The end of the process waits at most
//! [`FLUSH_MS_MAX`] for the last batch. No TLS and no gRPC: run a collector on this machine for
//! these.

use std::{
    ffi::OsString,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ai_factory_ports::{clock::IdSource as _, metrics::Counter, trace::Traces};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{RetryPolicy, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::{Span, level_filters::LevelFilter};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::{Layer, Registry, filter::Targets};

use crate::clock::SystemIds;

use super::collector::CollectorClient;

/// Time the end of the process waits for the last export, in milliseconds: enough for one request
/// to a nearby collector.
pub const FLUSH_MS_MAX: u64 = 1_000;
/// Retries of a batch: one covers a brief failure; more would only delay the end of a command when
/// there is no collector.
const RETRIES_MAX: usize = 1;
/// Timeout of a call, unless the environment sets another.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Prefix of the targets of our own spans, in all three packages.
const OUR_TARGETS: &str = "ai_factory";
/// `service.name`, unless the environment sets another.
const SERVICE: &str = "ai-factory";
/// The header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// An environment variable with an unsupported value.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The value is invalid, or requests an unsupported feature.
    #[error("`{variable}` is `{value}`: {reason}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The error, and what to do.
        reason: String,
    },
    /// The exporter rejected its settings.
    #[error("traces cannot be exported: {0}; correct the `OTEL_*` variables, or unset them")]
    Exporter(String),
}

/// The trace exporter of the process.
pub(super) struct Otlp(SdkTracerProvider);

impl Otlp {
    /// Starts the export if the environment names an endpoint and does not disable it.
    /// Counts spans that are lost.
    pub(super) fn start(
        environment: &[(OsString, OsString)],
        lost_total: Counter,
    ) -> Result<Option<Self>, OtlpError> {
        if !is_wanted(environment)? {
            return Ok(None);
        }
        let client = CollectorClient::new(call_max(environment));
        let client = client.map_err(|error| OtlpError::Exporter(error.to_string()))?;
        // The SDK reads the same environment variables itself.
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_retry_policy(RetryPolicy::recommended().with_max_retries(RETRIES_MAX))
            .build()
            .map_err(|error| OtlpError::Exporter(error.to_string()))?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(environment))
            .with_batch_exporter(OutageReporter { exporter, lost: AtomicU64::new(0), lost_total })
            .build();
        Ok(Some(Self(provider)))
    }

    /// The layer that records spans of `level` and above.
    pub(super) fn layer(&self, level: LevelFilter) -> impl Layer<Registry> + use<> {
        OpenTelemetryLayer::<Registry, SdkTracer>::new(self.0.tracer(SERVICE))
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_threads(false)
            .with_location(false)
            .with_target(false)
            .with_filter(Targets::new().with_target(OUR_TARGETS, level))
    }

    /// Connects spans to traces.
    pub(super) fn traces() -> impl Traces {
        W3cTraces(TraceContextPropagator::new())
    }

    /// Exports the queue's remainder, within [`FLUSH_MS_MAX`].
    pub(super) fn shutdown(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_millis(FLUSH_MS_MAX)) {
            tracing::debug!(%error, "the last spans may not have been delivered");
        }
    }
}

/// The value of a variable; an empty one counts as unset.
fn value(environment: &[(OsString, OsString)], name: &str) -> Option<String> {
    let (_, value) = environment.iter().find(|(known, _)| known == name)?;
    Some(value.to_string_lossy().trim().to_owned()).filter(|value| !value.is_empty())
}

/// The first variable that is set.
fn first(
    environment: &[(OsString, OsString)],
    names: [&'static str; 2],
) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, value(environment, name)?)))
}

/// Whether traces are to be exported; fails if the environment asks for something unsupported.
fn is_wanted(environment: &[(OsString, OsString)]) -> Result<bool, OtlpError> {
    let is = |name, what: &str| {
        value(environment, name).is_some_and(|value| value.eq_ignore_ascii_case(what))
    };
    let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let Some((variable, value)) = first(environment, endpoints) else { return Ok(false) };
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(false);
    }
    let refused = |variable, value, reason: &str| {
        Err(OtlpError::Variable { variable, value, reason: reason.to_owned() })
    };
    match url::Url::parse(&value) {
        Ok(url) if url.scheme() == "http" && url.has_host() => {}
        Ok(url) if url.scheme() == "https" => {
            let reason = "TLS is not supported; name a collector on this machine, such as \
                http://localhost:4318, and let it forward the traces";
            return refused(variable, value, reason);
        }
        _ => {
            let reason = "not the address of a collector; write http://HOST:PORT, such as \
                http://localhost:4318";
            return refused(variable, value, reason);
        }
    }
    let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    match first(environment, protocols) {
        Some((variable, value)) if value != "http/protobuf" => {
            let reason = "only `http/protobuf` is supported, which collectors accept at port 4318";
            refused(variable, value, reason)
        }
        _ => Ok(true),
    }
}

/// Timeout of a call: that of the environment in milliseconds, or the default of OTLP.
fn call_max(environment: &[(OsString, OsString)]) -> Duration {
    let timeouts = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let set = timeouts.into_iter().find_map(|name| value(environment, name)?.parse().ok());
    set.map_or(CALL_MAX, Duration::from_millis)
}

/// The resource: values from the environment take precedence over ours.
fn resource(environment: &[(OsString, OsString)]) -> Resource {
    let ours = [
        ("service.name", SERVICE.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", SystemIds.new_id().to_string()),
    ];
    let resource = Resource::builder_empty()
        .with_attributes(ours.map(|(key, value)| KeyValue::new(key, value)))
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match value(environment, "OTEL_SERVICE_NAME") {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// An exporter that logs when spans begin to be lost, and when the outage ends.
#[derive(Debug)]
struct OutageReporter<E> {
    exporter: E,
    /// Spans lost since the last exported batch.
    lost: AtomicU64,
    /// Spans lost since the start.
    lost_total: Counter,
}

impl<E: SpanExporter> SpanExporter for OutageReporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exported = self.exporter.export(batch).await;
        match &exported {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(lost, "traces are exported again");
                }
            }
            Err(error) => {
                self.lost_total.inc_by(spans);
                if self.lost.fetch_add(spans, Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, "traces are lost: the collector does not accept them");
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// [`Traces`] with W3C Trace Context.
struct W3cTraces(TraceContextPropagator);

impl Traces for W3cTraces {
    fn adopt(&self, span: &Span, traceparent: &str) {
        let parent = self.0.extract_with_context(&Context::new(), &TraceCarrier(Some(traceparent)));
        if parent.span().span_context().is_valid() {
            // Fails only if the span is not exported.
            let _ = span.set_parent(parent);
        }
    }

    fn of(&self, span: &Span) -> Option<String> {
        if span.is_disabled() {
            return None;
        }
        let mut carried = TraceCarrier(None);
        self.0.inject_context(&span.context(), &mut carried);
        carried.0
    }
}

/// A carrier for the one header of a trace.
struct TraceCarrier<T>(Option<T>);

impl Extractor for TraceCarrier<&str> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

impl Injector for TraceCarrier<String> {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(variables: &[(&str, &str)]) -> Result<bool, String> {
        let environment: Vec<_> =
            variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        is_wanted(&environment).map_err(|error| error.to_string())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

    #[test]
    fn only_a_named_endpoint_has_traces_exported() {
        assert_eq!(wanted(&[]), Ok(false));
        assert_eq!(wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(false));
        assert_eq!(wanted(&[("OTEL_SERVICE_NAME", "x")]), Ok(false));
        assert_eq!(wanted(&[ENDPOINT]), Ok(true));
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:1/v1/traces");
        assert_eq!(wanted(&[of_traces]), Ok(true));
        assert_eq!(wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(false));
        assert_eq!(wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "no")]), Ok(true));
        assert_eq!(wanted(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_to_do() {
        for value in ["localhost:4318", "4318", "http://", "unix:/tmp/otel", "not a url"] {
            let refused = wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap_err();
            assert!(refused.contains(value) && refused.contains("http://HOST:PORT"), "{refused}");
        }
        let refused = wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://example.org")]);
        assert!(refused.unwrap_err().contains("TLS is not supported"));
        let refused = wanted(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(refused.contains("`grpc`") && refused.contains("http/protobuf"), "{refused}");
    }

    #[test]
    fn a_call_lasts_as_long_as_the_environment_says() {
        let set = |variables: &[(&str, &str)]| {
            let environment: Vec<_> =
                variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
            call_max(&environment).as_millis()
        };
        let (all, traces) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT");
        assert_eq!(set(&[]), 10_000);
        assert_eq!(set(&[(all, "5")]), 5);
        assert_eq!(set(&[(all, "5"), (traces, "7")]), 7);
        assert_eq!(set(&[(all, "5"), (traces, "soon")]), 5);
    }

    #[test]
    fn what_the_environment_says_of_the_service_goes_first() {
        let named = |environment: &[(OsString, OsString)]| {
            resource(environment).get(&"service.name".into()).map(|name| name.to_string())
        };
        assert_eq!(named(&[]).as_deref(), Some("ai-factory"));
        let other = [("OTEL_SERVICE_NAME".into(), "other".into())];
        assert_eq!(named(&other).as_deref(), Some("other"));
    }
}
