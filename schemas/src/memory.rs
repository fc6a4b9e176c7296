//! Memory: what it was asked to keep, and the events of the `memory` category.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::RequestId;

/// The events of the `memory` category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MemoryEvent {
    /// `memory.remembered`
    Remembered(MemoryRemembered),
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
