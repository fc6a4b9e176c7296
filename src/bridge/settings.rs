//! Settings of the HTTP ingress, and its limits.

use std::{fmt, time::Duration};

use subtle::ConstantTimeEq as _;

/// The largest body, in bytes. Fits a goal of `GOAL_BYTES_MAX` with every character escaped.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How much of an oversized body is read and discarded, in bytes, so that its sender can read the
/// refusal.
pub const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Request line and headers together, in bytes.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers per request.
pub const HEADERS_MAX: usize = 64;
/// The request target with its query, in bytes: fits a search for 4,000 escaped characters.
pub const URI_BYTES_MAX: usize = 16 * 1024;
/// Concurrent connections. When another arrives, the one idle for longest is closed; if none is
/// idle, a few more are accepted for health checks only.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Concurrent requests. Above the number of concurrent sessions, so that callers waiting for
/// sessions leave room for others.
pub const REQUESTS_MAX: usize = 512;
/// Concurrent event streams.
pub const STREAMS_MAX: usize = 64;
/// Timeout for a request's head, and for an idle connection.
pub const HEAD_READ_MAX: Duration = Duration::from_secs(20);
/// Timeout for a body.
pub const BODY_READ_MAX: Duration = Duration::from_secs(30);
/// Timeout for a client that reads nothing of a ready answer.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Timeout of an operation that runs no code.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Timeout of `/debugger/run`, queueing included.
pub const RUN_ANSWER_MAX: Duration = Duration::from_mins(3);
/// Timeout of `/supervisor/run`: a session's own limit, that of its check twice, and a margin.
pub const SESSION_ANSWER_MAX: Duration = Duration::from_mins(21);
/// Interval of comments on an idle event stream. Below the idle timeouts of common proxies.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// The settings.
#[derive(Clone, Debug)]
pub struct BridgeSettings {
    /// The access token; required to listen beyond loopback.
    pub token: Option<AccessToken>,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// Request line and headers together, in bytes.
    pub head_bytes_max: usize,
    /// Headers per request; values above 100 act like 100.
    pub headers_max: usize,
    /// The request target with its query, in bytes.
    pub uri_bytes_max: usize,
    /// Concurrent connections.
    pub connections_max: usize,
    /// Concurrent requests.
    pub requests_max: usize,
    /// Concurrent event streams.
    pub streams_max: usize,
    /// Timeout for a request's head, and for an idle connection.
    pub head_read_max: Duration,
    /// Timeout for a body.
    pub body_read_max: Duration,
    /// Timeout for a client that reads nothing of a ready answer.
    pub write_stall_max: Duration,
    /// Timeout of an operation that runs no code.
    pub answer_max: Duration,
    /// Timeout of `/debugger/run`.
    pub run_answer_max: Duration,
    /// Timeout of `/supervisor/run`.
    pub session_answer_max: Duration,
    /// Interval of comments on an idle event stream.
    pub heartbeat: Duration,
}

impl Default for BridgeSettings {
    fn default() -> Self {
        Self {
            token: None,
            body_bytes_max: BODY_BYTES_MAX,
            head_bytes_max: HEAD_BYTES_MAX,
            headers_max: HEADERS_MAX,
            uri_bytes_max: URI_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            requests_max: REQUESTS_MAX,
            streams_max: STREAMS_MAX,
            head_read_max: HEAD_READ_MAX,
            body_read_max: BODY_READ_MAX,
            write_stall_max: WRITE_STALL_MAX,
            answer_max: ANSWER_MAX,
            run_answer_max: RUN_ANSWER_MAX,
            session_answer_max: SESSION_ANSWER_MAX,
            heartbeat: HEARTBEAT,
        }
    }
}

/// A text that is not a valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token is one or more visible ASCII characters without spaces, such as `openssl rand -hex 32` prints"
)]
pub struct ParseTokenError;

/// The access token. Stored as its hash, so it can be compared but not displayed.
#[derive(Clone)]
pub struct AccessToken([u8; 32]);

impl AccessToken {
    /// Parses a token.
    pub fn new(text: &str) -> Result<Self, ParseTokenError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ParseTokenError);
        }
        Ok(Self(*blake3::hash(text.as_bytes()).as_bytes()))
    }

    /// Whether `given` is this token, in constant time: the duration reveals nothing about how much
    /// is right.
    pub fn is(&self, given: &[u8]) -> bool {
        blake3::hash(given).as_bytes().ct_eq(&self.0).into()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_and_never_shown() {
        let token = AccessToken::new("open-sesame").unwrap();
        assert!(token.is(b"open-sesame"));
        for wrong in ["", "open-sesam", "open-sesame ", "OPEN-SESAME"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        for text in ["", " ", "a b", "ä", "a\n"] {
            assert_eq!(AccessToken::new(text).err(), Some(ParseTokenError), "{text:?}");
        }
    }
}
