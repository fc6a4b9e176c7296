//! Traces: one goal is one trace across messages, actors and processes (W3C Trace Context).
//!
//! The context travels as `traceparent`. Without an exporter it is passed on unchanged.
//! `tracestate` is not propagated.

use tracing::Span;

/// Joins spans to traces from elsewhere, and gives the trace context of spans.
pub trait Traces: Send + Sync + 'static {
    /// Makes `span` continue the trace that `traceparent` names. An invalid one is ignored.
    fn adopt(&self, span: &Span, traceparent: &str);

    /// The `traceparent` of `span`; `None` without an exporter.
    fn of(&self, span: &Span) -> Option<String>;

    /// Whether spans are exported: if not, spans that serve only traces need not be made.
    fn are_exported(&self) -> bool {
        true
    }
}

/// The length of a `traceparent`, in bytes.
const TRACEPARENT_BYTES: usize = 55;

/// Whether a text is a `traceparent` of W3C Trace Context: version, trace, parent and flags in
/// lower-case hexadecimal digits, separated by dashes. Fields added by later versions are not
/// accepted.
pub fn is_traceparent(text: &str) -> bool {
    let digits = |part: &str, count| {
        part.len() == count && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let names = |part: &str, count| digits(part, count) && part.bytes().any(|b| b != b'0');
    let parts: Vec<_> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    text.len() == TRACEPARENT_BYTES
        && digits(version, 2)
        && version != "ff"
        && names(trace, 32)
        && names(parent, 16)
        && digits(flags, 2)
}

/// No exporter.
pub struct NoTraces;

impl Traces for NoTraces {
    fn adopt(&self, _: &Span, _: &str) {}

    fn of(&self, _: &Span) -> Option<String> {
        None
    }

    fn are_exported(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_told_from_other_texts() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let parent = "b7ad6b7169203331";
        for (text, expected) in [
            (format!("00-{trace}-{parent}-01"), true),
            (format!("cc-{trace}-{parent}-00"), true),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{trace}-{parent}-01-"), false),
            (format!("00-{trace}-{parent}-1"), false),
            (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (format!("00-{trace}-{parent}-0\0"), false),
            ("00-a-b-01".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_traceparent(&text), expected, "{text}");
        }
    }
}
