//! The span of a request, after OpenTelemetry's conventions for HTTP servers.

use ai_factory_schemas::id::RequestId;
use axum::http::{HeaderMap, Method};
use tracing::Span;

/// The header of a trace that began elsewhere (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";
/// The length of a `traceparent` of version 00, in bytes.
const TRACEPARENT_BYTES: usize = 55;

/// The span of a request. Its status is recorded once there is an answer.
pub fn span(method: &Method, route: Option<&str>, path: &str, id: &RequestId) -> Span {
    // A method that nobody knows must not become a name of its own.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE"
        | "PATCH") => known,
        _ => "_OTHER",
    };
    tracing::info_span!(
        "http",
        otel.name = %Name(method, route),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        url.scheme = "http",
        url.path = path,
        request_id = %id,
    )
}

/// The name of a span: `POST /planner/dispatch`, or the method alone.
struct Name<'a>(&'a str, Option<&'a str>);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(route) => write!(f, "{} {route}", self.0),
            None => f.write_str(self.0),
        }
    }
}

/// The trace that the client says the request belongs to, if it says so in one valid header.
pub fn parent(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    is_valid(value).then_some(value)
}

/// Version, trace, span and flags, in lower-case hexadecimal digits; a later version may say more.
fn is_valid(text: &str) -> bool {
    let Some(known) = text.get(..TRACEPARENT_BYTES) else { return false };
    let more = &text[TRACEPARENT_BYTES..];
    let parts: Vec<_> = known.split('-').collect();
    let is_hex =
        |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    let is_nothing = |part: &str| part.bytes().all(|byte| byte == b'0');
    lengths == [2, 32, 16, 2]
        && parts.iter().all(is_hex)
        && parts[0] != "ff"
        && !is_nothing(parts[1])
        && !is_nothing(parts[2])
        && (more.is_empty() || (parts[0] != "00" && more.starts_with('-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_valid_or_ignored() {
        let right = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_valid(right));
        assert!(is_valid(&right.replacen("00", "01", 1)));
        assert!(is_valid(&(right.replacen("00", "01", 1) + "-more")));
        for wrong in [
            String::new(),
            right[..54].to_owned(),
            right.to_owned() + "-more",
            right.to_uppercase(),
            right.replacen("00", "ff", 1),
            right.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            right.replace("b7ad6b7169203331", &"0".repeat(16)),
            right.replace('-', "_"),
            "ä".repeat(40),
        ] {
            assert!(!is_valid(&wrong), "{wrong}");
        }
    }
}
