//! Answers: JSON bodies, and problems as `{"detail": …}`, without internals of the server.

use std::time::Duration;

use ai_factory_schemas::problem::{Detail, Problem, ProblemBody};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde::Serialize;

/// Replaces a file system path.
const A_PATH: &str = "(a path)";

/// An answer whose body is already JSON.
pub fn raw(status: StatusCode, body: impl Into<Bytes>) -> Response {
    typed(status, "application/json", body)
}

/// An answer of the given media type.
pub fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// An answer with `value` as its JSON body.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    raw(status, serde_json::to_vec(value).unwrap_or_default())
}

/// A problem found by the ingress itself, without field errors.
pub fn refusal(status: StatusCode, sentence: impl Into<String>) -> Problem {
    let detail = Detail::Sentence(sentence.into());
    Problem { status: status.as_u16(), detail, retry_after: None }
}

/// The answer for a problem.
pub fn problem(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let detail = match problem.detail {
        // Paths in messages of server errors are for the log, not for clients.
        Detail::Sentence(sentence) if status.is_server_error() => {
            Detail::Sentence(without_paths(&sentence))
        }
        detail => detail,
    };
    let mut response = json(status, &ProblemBody { detail });
    let headers = response.headers_mut();
    if let Some(after) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, ceil_seconds(after).into());
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Rounded up, at least 1: no client is asked to retry at once.
fn ceil_seconds(after: Duration) -> u64 {
    let up = u64::from(after.subsec_nanos() > 0);
    (after.as_secs() + up).max(1)
}

/// The sentence without file system paths. A path may contain spaces, so it is taken to extend to
/// the next punctuation mark followed by white space.
pub fn without_paths(sentence: &str) -> String {
    let mut told = String::with_capacity(sentence.len());
    let mut rest = sentence;
    while let Some(slash) = rest.find('/') {
        let begin = rest[..slash]
            .rfind(|c: char| c.is_whitespace() || "\"'`(".contains(c))
            .map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        let is_address = rest[begin..].split_whitespace().next().is_some_and(|w| w.contains("://"));
        let word_end = rest[slash..].find(char::is_whitespace).map_or(rest.len(), |at| slash + at);
        if is_address {
            told.push_str(&rest[..word_end]);
            rest = &rest[word_end..];
            continue;
        }
        told.push_str(&rest[..begin]);
        told.push_str(A_PATH);
        let ends = [": ", "; ", ", ", "` ", "' ", "\" ", ") "];
        let end = ends.iter().filter_map(|end| rest[slash..].find(end)).min();
        rest = end.map_or("", |end| &rest[slash + end..]);
    }
    told + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_whole_seconds_and_never_none() {
        for (millis, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (2500, 3)] {
            assert_eq!(ceil_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }

    #[test]
    fn paths_of_the_disk_are_not_told() {
        for (sentence, told) in [
            (
                "the journal cannot be read: /var/my data/j.redb: denied",
                "the journal cannot be read: (a path): denied",
            ),
            ("./data/x is full", "(a path)"),
            ("cannot open `data/tmp/y` for reading", "cannot open `(a path)` for reading"),
            ("a, \"/x/y\" and more; done", "a, \"(a path)\" and more; done"),
            (
                "no answer on `factory.planner.dispatch` within 5 ms",
                "no answer on `factory.planner.dispatch` within 5 ms",
            ),
            ("nats://127.0.0.1:4222 is not there", "nats://127.0.0.1:4222 is not there"),
            ("nats://h: see /etc/x", "nats://h: see (a path)"),
            ("", ""),
        ] {
            assert_eq!(without_paths(sentence), told);
        }
    }
}
