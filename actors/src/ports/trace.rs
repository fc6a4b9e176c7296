//! Traces: how one goal stays one trace across messages, actors and processes (W3C Trace Context).
//!
//! What travels is a `traceparent`. Where nothing is exported, it is passed on as it came. `tracestate` does not
//! travel.

use tracing::Span;

/// Joins spans to traces that began elsewhere, and names them for what they cause.
pub trait Traces: Send + Sync + 'static {
    /// Makes `span` continue the trace that `traceparent` names. What cannot be read is ignored.
    fn adopt(&self, span: &Span, traceparent: &str);

    /// The `traceparent` of `span`; `None` where nothing is exported.
    fn of(&self, span: &Span) -> Option<String>;

    /// Whether spans are told to anybody: where they are not, what costs nothing else need not make any.
    fn are_exported(&self) -> bool {
        true
    }
}

/// The length of a `traceparent`, in bytes.
const TRACEPARENT_BYTES: usize = 55;

/// Whether a text is a `traceparent` as W3C Trace Context has it: version, trace, parent and flags in lower-case
/// hexadecimal digits with dashes between. What later versions append is not understood.
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

/// Nothing is exported.
pub struct Untraced;

impl Traces for Untraced {
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
