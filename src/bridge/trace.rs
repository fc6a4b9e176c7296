//! The span of a request, following the OpenTelemetry conventions for HTTP servers.

use ai_factory_ports::{bus::header, trace::is_traceparent};
use ai_factory_schemas::id::RequestId;
use axum::http::{HeaderMap, Method};
use tracing::Span;

/// Creates the span of a request. Its status is recorded with the answer.
pub fn span(method: &Method, route: Option<&str>, path: &str, id: &RequestId) -> Span {
    // An unknown method must not become a span name.
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

/// A span's name: `POST /planner/dispatch`, or the method alone.
struct Name<'a>(&'a str, Option<&'a str>);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(route) => write!(f, "{} {route}", self.0),
            None => f.write_str(self.0),
        }
    }
}

/// The client's trace, if it sent exactly one valid `traceparent`.
pub fn parent(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::TRACEPARENT).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    is_traceparent(value).then_some(value)
}
