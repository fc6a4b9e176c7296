//! Goals that did not become sessions, and the events of the `goal` category.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{CommandId, RequestId};

/// The events of the `goal` category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GoalEvent {
    /// `goal.rejected`
    Rejected(GoalRejected),
}

/// A goal was published that cannot be worked on. Its publisher may not wait for an answer, so it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GoalRejected {
    /// The request that carried it.
    pub request_id: RequestId,
    /// The key that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
    /// The status of the refusal (RFC 9110), as whoever waited for an answer got it.
    pub status: u16,
    /// Why, for people.
    pub reason: String,
    /// The beginning of what was published, from at most [`crate::limit::REJECTED_BYTES_MAX`] bytes; what is no
    /// UTF-8 is replaced.
    pub payload: String,
    /// How long it was, in bytes.
    pub payload_bytes: u64,
}
