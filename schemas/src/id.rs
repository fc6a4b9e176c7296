//! Ids: newtypes, never bare strings.
//!
//! Stream ids are UUIDv7 (RFC 9562), so that they sort by creation; nothing else is read from them.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::quote::quoted;

/// A text that is not an id of the expected kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not {expected}")]
pub struct ParseIdError {
    /// The text, quoted.
    text: String,
    expected: &'static str,
}

impl ParseIdError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: quoted(text), expected }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| ParseIdError::new(text, $expected))
            }
        }
    };
}

uuid_id!(
    /// One session: a goal from its arrival to its summary.
    SessionId,
    "a session id (a UUID)"
);
uuid_id!(
    /// One plan requested from the planner directly.
    PlanId,
    "a plan id (a UUID)"
);
uuid_id!(
    /// One run of code, with all of its attempts.
    RunId,
    "a run id (a UUID)"
);
uuid_id!(
    /// One memory: a note, or the record of a plan, a run or a session.
    MemoryId,
    "a memory id (a UUID)"
);
uuid_id!(
    /// One refused goal.
    GoalId,
    "a goal id (a UUID)"
);
uuid_id!(
    /// One model call, with all of its attempts.
    CallId,
    "a call id (a UUID)"
);
uuid_id!(
    /// One tool call of a model's answer; of a question also its id.
    ToolCallId,
    "the id of a tool call or a question (a UUID)"
);
uuid_id!(
    /// One recorded event.
    EventId,
    "an event id (a UUID)"
);

/// The kind of thing that a stream is about. One category has one writer (I-3).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Written by the planner.
    Plan,
    /// Written by the debugger.
    Run,
    /// Written by memory.
    Memory,
    /// Written by the session actor.
    Session,
    /// Written by the supervisor.
    Goal,
    /// Written by the actor of the model.
    Call,
}

impl Category {
    /// All categories, in the order of their numbers on disk.
    pub const ALL: [Self; 6] =
        [Self::Plan, Self::Run, Self::Memory, Self::Session, Self::Goal, Self::Call];

    /// The lower-case word in stream names, subjects and types.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Run => "run",
            Self::Memory => "memory",
            Self::Session => "session",
            Self::Goal => "goal",
            Self::Call => "call",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a stream: `category-uuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The category.
    pub category: Category,
    /// The id.
    pub id: Uuid,
}

impl StreamId {
    /// The length of a stream id as a key: one byte for the category, sixteen for the UUID.
    pub const KEY_BYTES: usize = 17;

    /// The sort key of this stream: category first, then creation order.
    pub fn to_key(self) -> [u8; Self::KEY_BYTES] {
        let mut key = [0; Self::KEY_BYTES];
        key[0] = self.category as u8;
        key[1..].copy_from_slice(self.id.as_bytes());
        key
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.category, self.id)
    }
}

impl FromStr for StreamId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = || ParseIdError::new(text, "a stream name such as session-0198c0de-…");
        let (category, id) = text.split_once('-').ok_or_else(refused)?;
        let category =
            Category::ALL.into_iter().find(|c| c.as_str() == category).ok_or_else(refused)?;
        Ok(Self { category, id: Uuid::parse_str(id).map_err(|_| refused())? })
    }
}

macro_rules! stream_of {
    ($name:ident, $category:ident) => {
        impl From<$name> for StreamId {
            fn from(id: $name) -> Self {
                Self { category: Category::$category, id: id.0 }
            }
        }
    };
}
stream_of!(SessionId, Session);
stream_of!(PlanId, Plan);
stream_of!(RunId, Run);
stream_of!(MemoryId, Memory);
stream_of!(GoalId, Goal);
stream_of!(CallId, Call);

/// The place of an effect in its session: a turn, and what in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EffectPlace {
    /// The turn, from 1; its low 12 bits.
    pub turn: u32,
    /// 0 for the call of the turn, 1 + the index of a tool call, 255 for the check of its end.
    pub index: u8,
}

impl EffectPlace {
    /// The model call of a turn.
    pub const fn call(turn: u32) -> Self {
        Self { turn, index: 0 }
    }

    /// A tool call of a turn's answer, from 0.
    pub const fn tool(turn: u32, index: u8) -> Self {
        Self { turn, index: index.saturating_add(1) }
    }

    /// The check at the end that a turn declares.
    pub const fn check(turn: u32) -> Self {
        Self { turn, index: u8::MAX }
    }

    /// The id of the effect, equal for all its attempts and after every restart: a `UUIDv8` (RFC
    /// 9562, section 5.8) of the session's 48 bits of time, 12 bits of turn, 8 bits of index, and
    /// a hash.
    pub fn id(self, session: SessionId) -> Uuid {
        let mut hasher = blake3::Hasher::new();
        hasher.update(session.0.as_bytes());
        hasher.update(&self.turn.to_be_bytes());
        hasher.update(&[self.index]);
        let hash = hasher.finalize();
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&session.0.as_bytes()[..6]);
        let turn = u16::try_from(self.turn & 0xfff).unwrap_or_default().to_be_bytes();
        bytes[6..8].copy_from_slice(&turn);
        // Two bits of the variant come first, so the index begins behind them.
        bytes[8] = self.index >> 2;
        bytes[9] = (self.index << 6) | (hash.as_bytes()[0] & 0x3f);
        bytes[10..].copy_from_slice(&hash.as_bytes()[1..7]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $bytes_max:expr, $expected:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The longest accepted text, in bytes.
            pub const BYTES_MAX: usize = $bytes_max;

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() || text.len() > Self::BYTES_MAX || !text.chars().all(allowed) {
                    return Err(ParseIdError::new(text, $expected));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id.to_string())
            }
        }
    };
}

text_id!(
    /// A request's id: the caller's `X-Request-ID`, or a new UUIDv7 without one. Every record of
    /// the request carries it.
    RequestId,
    128,
    "a request id (1 to 128 of letters, digits and -_.:)",
    |c| c.is_ascii_alphanumeric() || "-_.:".contains(c)
);
text_id!(
    /// The key under which a command takes effect at most once (I-5): `Nats-Msg-Id`,
    /// `Idempotency-Key`.
    CommandId,
    256,
    "a command key (1 to 256 printable ASCII characters)",
    |c| c.is_ascii_graphic() || c == ' '
);
text_id!(
    /// The name of a session: its own id, or the id of the request or the key that opened it.
    SessionRef,
    256,
    "the name of a session: its id, or the id of the request or the key that opened it (1 to 256 printable ASCII \
     characters)",
    |c| c.is_ascii_graphic() || c == ' '
);

impl From<SessionId> for SessionRef {
    fn from(id: SessionId) -> Self {
        id.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_reads_back() {
        let stream = StreamId::from(RunId(Uuid::from_u128(7)));
        assert_eq!(stream.to_string(), "run-00000000-0000-0000-0000-000000000007");
        assert_eq!(stream.to_string().parse::<StreamId>().unwrap(), stream);
        assert!("walk-00000000-0000-0000-0000-000000000007".parse::<StreamId>().is_err());
        assert!("run".parse::<StreamId>().is_err());
    }

    #[test]
    fn the_id_of_an_effect_depends_on_session_turn_and_index_alone() {
        let session = SessionId(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0003));
        let other = SessionId(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0004));
        let place = EffectPlace::tool(0xabc, 0x7e);
        let id = place.id(session);
        assert_eq!(id, place.id(session));
        assert!(id.to_string().starts_with("0198c0de-0000-8abc-"), "{id}");
        assert_eq!((id.get_version_num(), id.as_bytes()[8] & 0xc0), (8, 0x80));
        let index = (id.as_bytes()[8] << 2) | (id.as_bytes()[9] >> 6);
        assert_eq!(index, 0x7f);
        let others =
            [EffectPlace::call(0xabc), EffectPlace::check(0xabc), EffectPlace::tool(0xabd, 0x7e)];
        assert!(others.iter().all(|place| place.id(session) != id));
        assert_ne!(place.id(other), id);
    }

    #[test]
    fn what_is_no_key_is_quoted_without_its_control_characters() {
        let refused = "k\u{1b}]0;x\u{7}\r\n".parse::<CommandId>().unwrap_err().to_string();
        assert!(refused.contains("`k\\u{1b}]0;x\\u{7}\\r\\n`"), "{refused}");
        let refused = "\u{1b}".repeat(1000).parse::<SessionId>().unwrap_err().to_string();
        assert!(refused.len() < 400 && !refused.contains('\u{1b}'), "{refused}");
    }

    #[test]
    fn request_ids_are_bounded_and_plain() {
        assert!("a-b_c.d:9".parse::<RequestId>().is_ok());
        for refused in ["", "with space", "ü", &"x".repeat(129)] {
            assert!(refused.parse::<RequestId>().is_err(), "{refused:?}");
        }
    }
}
