//! Memory: kinds of memories, search modes, and the events of the `memory` category.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::RequestId, time::Timestamp};

/// The kind of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// A planned prompt, with its plan.
    Dispatch,
    /// A run, with its code and outputs.
    Run,
    /// A session, with its goal and its result.
    Session,
    /// A note.
    Note,
}

impl MemoryKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Dispatch, Self::Run, Self::Session, Self::Note];
    /// Their names, in the same order.
    pub const NAMES: [&str; 4] = ["dispatch", "run", "session", "note"];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How memories are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// By keywords and by vectors.
    #[default]
    Hybrid,
    /// By keywords alone.
    Keyword,
    /// By vectors alone.
    Semantic,
}

impl SearchMode {
    /// The names of all modes.
    pub const NAMES: [&str; 3] = ["hybrid", "keyword", "semantic"];

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let modes = [Self::Hybrid, Self::Keyword, Self::Semantic];
        modes.into_iter().zip(Self::NAMES).find(|(_, other)| *other == name).map(|(mode, _)| mode)
    }
}

/// The events of the `memory` category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MemoryEvent {
    /// `memory.remembered`
    Remembered(MemoryRemembered),
    /// `memory.forgotten`
    Forgotten(MemoryForgotten),
    /// `memory.expired`
    Expired(MemoryExpired),
}

/// A note was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryRemembered {
    /// The id of the request.
    pub request_id: RequestId,
    /// The note.
    pub text: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A memory was forgotten: the one whose id is that of the stream. Searches do not find it any
/// longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryForgotten {
    /// The id of the request.
    pub request_id: RequestId,
    /// The position of the event that completed the memory.
    pub position: u64,
}

/// Memories were forgotten because of their age or number. Searches do not find them any longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryExpired {
    /// Every memory up to this position is forgotten.
    pub upto: u64,
    /// The number of memories forgotten by this event.
    pub memories: u64,
    /// Memories completed before this time were too old, if age is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// The number of memories kept, if it is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memories_max: Option<u64>,
}
