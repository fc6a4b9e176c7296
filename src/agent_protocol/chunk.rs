//! The chunks of a reply stream (§6.2): pure encoding to bytes.

use ai_factory_schemas::id::SessionId;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The JSON around the text of a response chunk.
const FRAME: (&str, &str) = (r#"{"type":"response","data":""#, r#""}"#);
/// The longest JSON escape of one character, in bytes: `\u001f`.
const ESCAPE_BYTES_MAX: usize = 6;

/// A chunk with text data: a response, or a status (§6.4) with further fields.
#[derive(Serialize)]
struct TextChunk<'a, T: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a str,
    #[serde(flatten)]
    more: T,
}

/// Fields beside a status.
#[derive(Default, Serialize)]
pub struct StatusDetails<'a> {
    /// Which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The event's position in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The step, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The status of the step or the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a str>,
}

/// A recorded event: a chunk type of this agent, which other callers ignore (§6.2).
#[derive(Serialize)]
struct EventChunk<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a RawValue,
}

/// A question (§7.1).
#[derive(Serialize)]
pub struct Query<'a> {
    /// The question's id.
    pub id: Uuid,
    /// The subject for its answer.
    pub reply_subject: &'a str,
    /// The question's text.
    pub prompt: &'a str,
}

#[derive(Serialize)]
struct QueryChunk<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a Query<'a>,
}

fn encode(chunk: &impl Serialize) -> Bytes {
    // Serialising structs of texts and numbers cannot fail.
    serde_json::to_vec(chunk).unwrap_or_default().into()
}

/// A status chunk.
pub fn status(token: &str, more: impl Serialize) -> Bytes {
    encode(&TextChunk { kind: "status", data: token, more })
}

/// A question chunk.
pub fn query(data: &Query<'_>) -> Bytes {
    encode(&QueryChunk { kind: "query", data })
}

/// A chunk with a recorded event, as it is on disk; `None` if the record is not JSON.
pub fn event(record: &[u8]) -> Option<Bytes> {
    let data = serde_json::from_slice(record).ok()?;
    Some(encode(&EventChunk { kind: "event", data }))
}

/// Splits a text into response chunks (§6.3) of at most `bytes_max` bytes, each as large as
/// possible.
pub fn responses(text: &str, bytes_max: usize) -> impl Iterator<Item = Bytes> {
    let room = bytes_max.saturating_sub(FRAME.0.len() + FRAME.1.len()).max(ESCAPE_BYTES_MAX);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let end = rest.char_indices().find_map(|(at, c)| {
            bytes += escaped_bytes(c);
            (bytes > room).then_some(at)
        });
        let (piece, left) = rest.split_at(end.unwrap_or(rest.len()));
        rest = left;
        Some(encode(&TextChunk { kind: "response", data: piece, more: StatusDetails::default() }))
    })
}

/// The length of a character in a JSON string.
fn escaped_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => ESCAPE_BYTES_MAX,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(chunk: &Bytes) -> Value {
        serde_json::from_slice(chunk).unwrap()
    }

    #[test]
    fn chunks_are_objects_with_a_type_and_data() {
        let ack = status("ack", StatusDetails::default());
        assert_eq!(&ack[..], br#"{"type":"status","data":"ack"}"#);
        let about = StatusDetails { position: Some(7), step: Some(0), ..StatusDetails::default() };
        assert_eq!(
            read(&status("session.step_dispatched", about)),
            json!({ "type": "status", "data": "session.step_dispatched", "position": 7, "step": 0 })
        );
        assert_eq!(
            read(&event(b"{\"a\":1}").unwrap()),
            json!({ "type": "event", "data": { "a": 1 } })
        );
        assert_eq!(event(b"{"), None);
        let asked = Query { id: Uuid::nil(), reply_subject: "a.b", prompt: "Repeat?" };
        assert_eq!(
            read(&query(&asked)),
            json!({ "type": "query", "data": { "id": Uuid::nil(), "reply_subject": "a.b", "prompt": "Repeat?" } })
        );
    }

    #[test]
    fn no_text_is_no_chunk_and_a_short_one_is_one() {
        assert_eq!(responses("", 100).count(), 0);
        let all: Vec<_> = responses("Hello", 100).collect();
        assert_eq!(all, [&br#"{"type":"response","data":"Hello"}"#[..]]);
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_text_fit_and_are_the_text(
            text in any::<Vec<char>>(), bytes_max in 40_usize..200,
        ) {
            let text: String = text.into_iter().collect();
            let chunks: Vec<_> = responses(&text, bytes_max).collect();
            let joined: String =
                chunks.iter().map(|chunk| read(chunk)["data"].as_str().unwrap().to_owned()).collect();
            prop_assert_eq!(joined, text);
            for (number, chunk) in chunks.iter().enumerate() {
                prop_assert!(chunk.len() <= bytes_max, "{} bytes", chunk.len());
                let is_last = number + 1 == chunks.len();
                prop_assert!(is_last || chunk.len() + ESCAPE_BYTES_MAX > bytes_max, "it is too short");
            }
        }
    }
}
