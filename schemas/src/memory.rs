//! Memory: what it was asked to keep, and the events of the `memory` category.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::RequestId, time::Timestamp};

/// What a memory is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// A prompt that was planned, with its plan.
    Dispatch,
    /// Code that ran, with what it wrote.
    Run,
    /// A goal, with what came of it.
    Session,
    /// A note that memory was asked to keep.
    Note,
}

impl MemoryKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Dispatch, Self::Run, Self::Session, Self::Note];
    /// Their names, in the same order.
    pub const NAMES: [&str; 4] = ["dispatch", "run", "session", "note"];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// By what memories are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// By words and by meaning together.
    #[default]
    Hybrid,
    /// By words alone.
    Keyword,
    /// By meaning alone.
    Semantic,
}

impl SearchMode {
    /// The names of all modes.
    pub const NAMES: [&str; 3] = ["hybrid", "keyword", "semantic"];

    /// The mode of that name.
    pub fn named(name: &str) -> Option<Self> {
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

/// Somebody gave memory a note to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryRemembered {
    /// The request that asked.
    pub request_id: RequestId,
    /// The note.
    pub text: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Somebody asked memory to forget: the memory whose id is that of the stream is found no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryForgotten {
    /// The request that asked.
    pub request_id: RequestId,
    /// The position of the event that completed the memory.
    pub position: u64,
}

/// Memories are older, or more, than are to be kept: they are found no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryExpired {
    /// The position up to which every memory is forgotten.
    pub upto: u64,
    /// How many were forgotten now.
    pub memories: u64,
    /// What was completed before this time was too old, where age is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// How many are kept, where their number is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memories_max: Option<u64>,
}
