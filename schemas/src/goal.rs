//! Rejected goals, and the events of the `goal` category.

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

/// A published goal was refused. It is recorded because its publisher may not wait for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GoalRejected {
    /// The id of the request that carried it.
    pub request_id: RequestId,
    /// The key of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
    /// The status of the refusal (RFC 9110), as in the answer.
    pub status: u16,
    /// The reason, for people.
    pub reason: String,
    /// The beginning of the message, from at most [`crate::limit::REJECTED_BYTES_MAX`] bytes;
    /// invalid UTF-8 becomes replacement characters.
    pub payload: String,
    /// The length of the message, in bytes.
    pub payload_bytes: u64,
}
