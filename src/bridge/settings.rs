//! What an operator may set about the HTTP door, and how much of everything it takes.

use std::{fmt, time::Duration};

use subtle::ConstantTimeEq as _;

/// The largest body, in bytes. A goal of `GOAL_BYTES_MAX` of which every character is escaped fits in.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How much of a body that is too large is read and thrown away, in bytes, so that its sender gets to read the refusal.
pub const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest request line and headers together, in bytes.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// The longest address with its query, in bytes: a search for 4,000 escaped characters.
pub const URI_BYTES_MAX: usize = 16 * 1024;
/// The most connections. When another comes, the one that has been idle for longest is closed; when none is idle, checks of
/// health are answered on a few more.
pub const CONNECTIONS_MAX: usize = 1_024;
/// The most requests under way. Above the sessions that may be under way, so that their askers leave room for others.
pub const REQUESTS_MAX: usize = 512;
/// The most streams of events.
pub const STREAMS_MAX: usize = 64;
/// How long the head of a request may take to arrive, and an idle connection stays open.
pub const HEAD_READ_MAX: Duration = Duration::from_secs(20);
/// How long a body may take to arrive.
pub const BODY_READ_MAX: Duration = Duration::from_secs(30);
/// How long a client may take nothing of an answer that is there.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// How long an operation may take that runs no code.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long `/debugger/run` may take, waiting for its turn included.
pub const RUN_ANSWER_MAX: Duration = Duration::from_mins(3);
/// How long `/supervisor/run` may take: a session's own limit and some more.
pub const SESSION_ANSWER_MAX: Duration = Duration::from_mins(11);
/// How long a stream of events is silent before a comment says that it lives. Below the patience of common proxies.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// What an operator may change.
#[derive(Clone, Debug)]
pub struct BridgeSettings {
    /// What a client must know; needed to listen beyond loopback.
    pub token: Option<Token>,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// The longest request line and headers together, in bytes.
    pub head_bytes_max: usize,
    /// The most headers of a request; above 100 there is no difference.
    pub headers_max: usize,
    /// The longest address with its query, in bytes.
    pub uri_bytes_max: usize,
    /// The most connections.
    pub connections_max: usize,
    /// The most requests under way.
    pub requests_max: usize,
    /// The most streams of events.
    pub streams_max: usize,
    /// How long the head of a request may take to arrive, and an idle connection stays open.
    pub head_read_max: Duration,
    /// How long a body may take to arrive.
    pub body_read_max: Duration,
    /// How long a client may take nothing of an answer that is there.
    pub write_stall_max: Duration,
    /// How long an operation may take that runs no code.
    pub answer_max: Duration,
    /// How long `/debugger/run` may take.
    pub run_answer_max: Duration,
    /// How long `/supervisor/run` may take.
    pub session_answer_max: Duration,
    /// How long a stream of events is silent before a comment says that it lives.
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

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token is one or more visible ASCII characters without spaces, such as `openssl rand -hex 32` prints"
)]
pub struct ParseTokenError;

/// What a client must know. Kept as its hash: it can be compared, and not shown.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The token `text`.
    pub fn new(text: &str) -> Result<Self, ParseTokenError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ParseTokenError);
        }
        Ok(Self(*blake3::hash(text.as_bytes()).as_bytes()))
    }

    /// Whether `given` is this token. How long that takes says nothing about how much of it is right.
    pub fn is(&self, given: &[u8]) -> bool {
        blake3::hash(given).as_bytes().ct_eq(&self.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_and_never_shown() {
        let token = Token::new("open-sesame").unwrap();
        assert!(token.is(b"open-sesame"));
        for wrong in ["", "open-sesam", "open-sesame ", "OPEN-SESAME"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        for text in ["", " ", "a b", "ä", "a\n"] {
            assert_eq!(Token::new(text).err(), Some(ParseTokenError), "{text:?}");
        }
    }
}
