//! The envelope of a recorded event: a CloudEvents 1.0 JSON object.
//!
//! *Promises.* The stored bytes are the bytes on the bus: encoded once by [`EventDraft::encode`],
//! completed by [`seal`], then stored, published and served unchanged. `chainhash` is the last
//! member: it covers everything before it.
//!
//! *Limits.* `position` and `streamversion` are JSON numbers. CloudEvents calls integers above 2
//! 147 483 647 out of range; a consumer that enforces that range must treat larger ones as strings.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    event::{DecodeEventError, Event},
    id::{EventId, StreamId},
    time::Timestamp,
};

/// The prefix of every wire type (CloudEvents `type`, reverse-DNS style).
pub const TYPE_PREFIX: &str = "dev.ai-factory.";
/// The prefix of every schema name (CloudEvents `dataschema`).
pub const SCHEMA_PREFIX: &str = "urn:ai-factory:schema:";
/// The media type of an envelope.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// A hash in the chain: BLAKE3 of the predecessor's hash followed by the record's own content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// The hash before the first record.
    pub const GENESIS: Self = Self([0; 32]);

    /// The hash of the record with `content` that follows the record with this hash.
    #[must_use]
    pub fn next(self, content: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(content);
        Self(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Display for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        blake3::Hash::from_bytes(self.0).to_hex().fmt(f)
    }
}

/// Cause and correlation of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// The event or message that caused it.
    pub causation: Option<Uuid>,
    /// The session that it belongs to, if there is one.
    pub correlation: Option<Uuid>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// An event before it is appended.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// Its id, also the `Nats-Msg-Id` under which it is published.
    pub id: EventId,
    /// The time of the decision.
    pub time: Timestamp,
    /// The event.
    pub event: Event,
    /// Its cause and correlation.
    pub trail: Trail,
}

impl EventDraft {
    /// The envelope without its end, which is known to the journal's writer only.
    pub fn encode(&self, source: &str, stream: StreamId) -> Result<String, serde_json::Error> {
        use std::fmt::Write as _;

        let data = self.event.data()?;
        let (name, version) = (self.event.name(), self.event.schema_version());
        let mut json = String::with_capacity(data.len() + 640);
        // Ids, types and times need no escaping; only `source` and `traceparent` come from outside.
        let _ = write!(
            json,
            "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":{},\"type\":\"{TYPE_PREFIX}{name}.v{version}\",\
             \"subject\":\"{}\",\"time\":\"{}\",\"datacontenttype\":\"application/json\",\
             \"dataschema\":\"{SCHEMA_PREFIX}{name}.v{version}\",\"schemaversion\":{version},\"stream\":\"{stream}\"",
            self.id,
            serde_json::to_string(source)?,
            stream.id,
            self.time,
        );
        if let Some(cause) = self.trail.causation {
            let _ = write!(json, ",\"causationid\":\"{cause}\"");
        }
        if let Some(correlation) = self.trail.correlation {
            let _ = write!(json, ",\"correlationid\":\"{correlation}\"");
        }
        if let Some(traceparent) = &self.trail.traceparent {
            let _ = write!(json, ",\"traceparent\":{}", serde_json::to_string(traceparent)?);
        }
        json.push_str(",\"data\":");
        json.push_str(&data);
        Ok(json)
    }
}

/// The most bytes that [`seal`] adds: three members and the closing brace.
pub const SEAL_BYTES_MAX: usize = 160;
const HASH_MEMBER: &str = ",\"chainhash\":\"";
/// The length of the end with the hash: the member, 64 digits, a quote, a brace.
const HASH_END_BYTES: usize = HASH_MEMBER.len() + 64 + 2;

/// Completes an encoded draft with its position, its version and the hash over its predecessor.
pub fn seal(json: &mut String, position: u64, version: u64, previous: ChainHash) -> ChainHash {
    use std::fmt::Write as _;

    let _ = write!(json, ",\"streamversion\":{version},\"position\":{position}");
    let hash = previous.next(json.as_bytes());
    let _ = write!(json, "{HASH_MEMBER}{hash}\"}}");
    hash
}

/// The bytes that the hash at the end of a stored envelope covers, and that hash.
pub fn unseal(bytes: &[u8]) -> Option<(&[u8], ChainHash)> {
    let (content, end) = bytes.split_at_checked(bytes.len().checked_sub(HASH_END_BYTES)?)?;
    let digits = end.strip_prefix(HASH_MEMBER.as_bytes())?.strip_suffix(b"\"}")?;
    let hash = blake3::Hash::from_hex(digits).ok()?;
    Some((content, ChainHash(*hash.as_bytes())))
}

/// A recorded event, read back.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its position among all events, from 1, gapless (I-6).
    pub position: u64,
    /// Its stream.
    pub stream: StreamId,
    /// Its version in that stream, from 1, gapless (I-6).
    pub version: u64,
    /// Its id.
    pub id: EventId,
    /// The time of the decision.
    pub time: Timestamp,
    /// The event.
    pub event: Event,
    /// Its cause and correlation.
    pub trail: Trail,
    /// The hash that chains it to its predecessor.
    pub hash: ChainHash,
}

/// Bytes that are not a recorded event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or a member is missing or of the wrong kind.
    #[error("not a recorded event: {0}")]
    Envelope(#[from] serde_json::Error),
    /// A member has an invalid value.
    #[error("`{value}` is not a valid `{member}`")]
    Member {
        /// The member.
        member: &'static str,
        /// Its value.
        value: String,
    },
    /// The event cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeEventError),
}

#[derive(Deserialize)]
struct EnvelopeWire<'a> {
    id: EventId,
    #[serde(rename = "type")]
    kind: &'a str,
    time: Timestamp,
    schemaversion: u32,
    stream: &'a str,
    streamversion: u64,
    position: u64,
    chainhash: &'a str,
    #[serde(default)]
    causationid: Option<Uuid>,
    #[serde(default)]
    correlationid: Option<Uuid>,
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The parts of a stored envelope that publishing needs; its data stays unread.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Its id.
    pub id: EventId,
    /// Its stream.
    pub stream: StreamId,
    /// Its wire type (CloudEvents `type`), with prefix and version.
    pub kind: String,
    /// The last token of its subject.
    pub verb: String,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

#[derive(Deserialize)]
struct RoutingWire<'a> {
    id: EventId,
    #[serde(rename = "type")]
    kind: &'a str,
    stream: &'a str,
    #[serde(default)]
    traceparent: Option<String>,
}

impl Routing {
    /// Reads the routing of a stored envelope, also for event types of newer versions.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: RoutingWire<'_> = serde_json::from_slice(bytes)?;
        let member = |member, value: &str| DecodeError::Member { member, value: value.to_owned() };
        let verb = wire
            .kind
            .strip_prefix(TYPE_PREFIX)
            .and_then(|rest| rest.rsplit_once(".v"))
            .and_then(|(name, _)| name.split_once('.'))
            .map(|(_, verb)| verb.to_owned())
            .ok_or_else(|| member("type", wire.kind))?;
        let stream = wire.stream.parse().map_err(|_| member("stream", wire.stream))?;
        let kind = wire.kind.to_owned();
        Ok(Self { id: wire.id, stream, kind, verb, traceparent: wire.traceparent })
    }
}

impl Recorded {
    /// Reads a stored envelope. Unknown members are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: EnvelopeWire<'_> = serde_json::from_slice(bytes)?;
        let member = |member, value: &str| DecodeError::Member { member, value: value.to_owned() };
        let name = wire
            .kind
            .strip_prefix(TYPE_PREFIX)
            .and_then(|rest| rest.rsplit_once(".v"))
            .map(|(name, _)| name)
            .ok_or_else(|| member("type", wire.kind))?;
        let hash = blake3::Hash::from_hex(wire.chainhash)
            .map_err(|_| member("chainhash", wire.chainhash))?;
        Ok(Self {
            position: wire.position,
            stream: wire.stream.parse().map_err(|_| member("stream", wire.stream))?,
            version: wire.streamversion,
            id: wire.id,
            time: wire.time,
            event: Event::decode(name, wire.schemaversion, wire.data)?,
            trail: Trail {
                causation: wire.causationid,
                correlation: wire.correlationid,
                traceparent: wire.traceparent,
            },
            hash: ChainHash(*hash.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::MemoryId, memory::MemoryRemembered};

    #[test]
    fn an_envelope_reads_back_and_its_hash_covers_all_before_it() {
        let stream = MemoryId(Uuid::from_u128(1)).into();
        let draft = EventDraft {
            id: EventId(Uuid::from_u128(2)),
            time: Timestamp::from_micros(1),
            event: MemoryRemembered {
                request_id: Uuid::from_u128(3).into(),
                text: "\"quoted\" \u{1F600} \n".into(),
                tags: vec![],
            }
            .into(),
            trail: Trail {
                causation: None,
                correlation: Some(Uuid::from_u128(4)),
                traceparent: Some("00-a-b-01".into()),
            },
        };
        let mut json = draft.encode("/ai-factory/\"node\"", stream).unwrap();
        let hash = seal(&mut json, 7, 3, ChainHash::GENESIS);

        let (content, written) = unseal(json.as_bytes()).unwrap();
        assert_eq!(written, hash);
        assert_eq!(ChainHash::GENESIS.next(content), hash);
        let read = Recorded::decode(json.as_bytes()).unwrap();
        assert_eq!((read.position, read.version, read.stream), (7, 3, stream));
        assert_eq!(read.event, draft.event);
        assert_eq!(read.trail, draft.trail);
    }
}
