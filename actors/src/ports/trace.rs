//! Traces: how one goal stays one trace across messages, actors and processes (W3C Trace Context).
//!
//! What travels is a `traceparent`. Where nothing is exported, it is passed on as it came.

use tracing::Span;

/// Joins spans to traces that began elsewhere, and names them for what they cause.
pub trait Traces: Send + Sync + 'static {
    /// Makes `span` continue the trace that `traceparent` names. What cannot be read is ignored.
    fn adopt(&self, span: &Span, traceparent: &str);

    /// The `traceparent` of `span`; `None` where nothing is exported.
    fn of(&self, span: &Span) -> Option<String>;
}

/// Nothing is exported.
pub struct Untraced;

impl Traces for Untraced {
    fn adopt(&self, _: &Span, _: &str) {}

    fn of(&self, _: &Span) -> Option<String> {
        None
    }
}
