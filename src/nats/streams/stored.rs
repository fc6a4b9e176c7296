//! Messages in a stream, read one at a time whatever their headers contain.
//!
//! *Promises.* The server returns a message as JSON with its headers in base64 (`STREAM.MSG.GET`).
//! So a message whose headers the client library cannot parse, and over whose delivery it drops the
//! connection, can be read, refused and removed.

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{quote::printable, time::Timestamp};
use async_nats::jetstream::{self, ErrorCode, response::Response, stream::RawMessage};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::ensure::{Trouble, server};

/// The first line of headers on the wire (NATS ADR-4).
const VERSION: &str = "NATS/1.0";
/// Characters of an unreadable header that are shown.
const SHOWN_CHARS_MAX: usize = 60;

/// A message in a stream.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its stream sequence.
    pub(crate) sequence: u64,
    /// When the stream stored it.
    pub(crate) time: Timestamp,
    /// The headers, as far as they can be parsed.
    pub(crate) headers: Headers,
    /// All headers, if they cannot be parsed completely: unprintable characters are escaped.
    pub(crate) unreadable: Option<Unreadable>,
    /// The payload.
    pub(crate) payload: Bytes,
}

/// Headers that a client may be unable to parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The first fault.
    pub(crate) fault: String,
    /// All of them; unprintable characters are escaped.
    pub(crate) block: String,
}

#[derive(Deserialize)]
struct StoredMessage {
    message: RawMessage,
}

/// The message at a sequence of a stream; `None` if there is none.
pub(crate) async fn stored(
    context: &jetstream::Context,
    stream: &str,
    sequence: u64,
) -> Result<Option<Stored>, Trouble> {
    request_stored(context, stream, &serde_json::json!({ "seq": sequence })).await
}

/// The first message at or after this sequence whose subject matches.
pub(crate) async fn stored_from(
    context: &jetstream::Context,
    stream: &str,
    sequence: u64,
    filter: &str,
) -> Result<Option<Stored>, Trouble> {
    request_stored(context, stream, &serde_json::json!({ "seq": sequence, "next_by_subj": filter }))
        .await
}

async fn request_stored(
    context: &jetstream::Context,
    stream: &str,
    which: &serde_json::Value,
) -> Result<Option<Stored>, Trouble> {
    let answer = context.request(format!("STREAM.MSG.GET.{stream}"), which).await;
    let message = match answer.map_err(server)? {
        Response::Ok(StoredMessage { message }) => message,
        Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
            return Ok(None);
        }
        Response::Err { error } => return Err(server(error)),
    };
    let block = message.headers.map(|block| STANDARD.decode(block)).transpose().map_err(server)?;
    let payload = STANDARD.decode(message.payload).map_err(server)?;
    let (headers, fault) = block.as_deref().map(read).unwrap_or_default();
    let unreadable = fault.map(|fault| Unreadable {
        fault,
        block: block.unwrap_or_default().escape_ascii().to_string(),
    });
    let micros = message.time.unix_timestamp_nanos() / 1_000;
    Ok(Some(Stored {
        sequence: message.sequence,
        time: Timestamp::from_micros(i64::try_from(micros).unwrap_or_default()),
        headers,
        unreadable,
        payload: payload.into(),
    }))
}

/// Parses a block of headers as far as possible, with the first value of each, and returns the
/// first fault that stops a client.
fn read(block: &[u8]) -> (Headers, Option<String>) {
    let mut fault = None;
    let mut note = |found: String| {
        fault.get_or_insert(found);
    };
    let shown = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes), SHOWN_CHARS_MAX);
    let mut lines =
        block.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    match first.strip_prefix(VERSION.as_bytes()).map(<[u8]>::trim_ascii) {
        Some(b"") => {}
        Some(status) => note(format!("they begin with the status `{}`", shown(status))),
        None => note(format!("they begin with `{}`, not with {VERSION}", shown(first))),
    }
    let mut found: Vec<(String, String)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let text = String::from_utf8_lossy(line);
        if std::str::from_utf8(line).is_err() {
            note(format!("`{}` is not UTF-8", shown(line)));
        }
        if text.starts_with(char::is_whitespace)
            && let Some((_, value)) = found.last_mut()
        {
            value.push_str(&text);
            continue;
        }
        match text.split_once(':') {
            None => note(format!("the line `{}` has no colon", shown(line))),
            Some((name, _)) if name.contains(|c: char| !c.is_ascii_graphic()) => {
                note(format!(
                    "the name `{}` has a character that is not allowed in names",
                    shown(name.as_bytes())
                ));
            }
            Some((name, value)) => found.push((name.to_owned(), value.trim_start().to_owned())),
        }
    }
    let mut headers = Headers::default();
    for (name, value) in found.into_iter().rev() {
        headers.set(name, value.trim_end());
    }
    (headers, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(block: &[u8]) -> Option<String> {
        read(block).1
    }

    #[test]
    fn what_a_client_reads_is_read_alike() {
        let block = b"NATS/1.0\r\nA: 1\r\nA: 2\r\nB:x: y \r\nC: long\r\n and longer\r\nD:\r\n\r\n";
        let (headers, fault) = read(block);
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("A", "1"), ("B", "x: y"), ("C", "long and longer"), ("D", "")]);
        assert_eq!(fault, None);
        assert_eq!(read("NATS/1.0\r\nA: Gr\u{fc}\u{df}e\r\n\r\n".as_bytes()).1, None);
        assert_eq!(read(b"NATS/1.0").1, None);
    }

    #[test]
    fn what_a_client_stumbles_over_is_named_and_the_rest_is_read() {
        for (line, expected) in [
            (&b"Bad: \xff\xfe"[..], "`Bad: "),
            (b"Two words: x", "`Two words`"),
            (b"Tab\there: x", "the name"),
            ("Gr\u{fc}\u{df}e: x".as_bytes(), "the name"),
            (b"no colon", "`no colon` has no colon"),
            (b"\x01: x", "the name"),
        ] {
            let block = [b"NATS/1.0\r\nA: 1\r\n", line, b"\r\nB: 2\r\n\r\n"].concat();
            let (headers, fault) = read(&block);
            let fault = fault.unwrap();
            assert!(fault.contains(expected) && !fault.contains(char::is_control), "{fault:?}");
            assert_eq!((headers.get("A"), headers.get("B")), (Some("1"), Some("2")), "{fault}");
        }
        for block in [
            &b"NATS/1.0 503\r\n\r\n"[..],
            b"NATS/1.0 x y\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"",
            b"A: 1\r\n\r\n",
        ] {
            assert!(fault(block).is_some(), "{block:?}");
        }
    }
}
