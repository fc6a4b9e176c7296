//! Model calls, and the events of the `call` category: one stream per call, with all its attempts.
//!
//! *Promises.* Events hold hashes, counts and names; every text is a blob. What a request adds to
//! its predecessor is recorded, not the whole of it, so that history grows with what is said.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    chat::{MessageRef, StopReason},
    id::{CallId, SessionId, ToolCallId},
    model::{
        Charge, ModelEndpoint, ModelErrorClass, ModelParameters, Reservation, TokenPrices,
        TokenUsage,
    },
    text::BlobHash,
};

/// The content of a model call. Its hash names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallRequest {
    /// Provider and name of the model.
    pub model: String,
    /// The parameters.
    pub parameters: ModelParameters,
    /// The tools on offer: a blob with a JSON list; never beside a schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BlobHash>,
    /// The schema of the answer: a blob with a JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<BlobHash>,
    /// The messages.
    pub messages: Vec<MessageRef>,
}

impl CallRequest {
    /// The hash of the request: of its JSON.
    pub fn hash(&self) -> BlobHash {
        // Plain data with string keys: it can always be written.
        BlobHash::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The events of the `call` category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CallEvent {
    /// `call.requested`
    Requested(CallRequested),
    /// `call.answered`
    Answered(CallAnswered),
    /// `call.failed`
    Failed(CallFailed),
    /// `call.abandoned`
    Abandoned(CallAbandoned),
}

/// An attempt begins: on disk before the request leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallRequested {
    /// The session that the call belongs to; absent for a call without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The turn, from 1; 0 without a session.
    pub turn: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Where the model is.
    pub endpoint: ModelEndpoint,
    /// The parameters.
    pub parameters: ModelParameters,
    /// The hash of the [`CallRequest`].
    pub request: BlobHash,
    /// The call before it in the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<CallId>,
    /// How many of the first messages are those of the predecessor's request.
    #[serde(default)]
    pub kept: u32,
    /// The messages after those.
    pub appended: Vec<MessageRef>,
    /// The tools on offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BlobHash>,
    /// The schema of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<BlobHash>,
    /// What is set aside.
    pub reserved: Reservation,
    /// The prices, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<TokenPrices>,
    /// The day whose budget it counts against: a date in UTC, `2026-12-01`.
    pub day: String,
}

/// The attempt was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallAnswered {
    /// The attempt.
    pub attempt: u32,
    /// The answer: a message of the role `assistant`.
    pub message: MessageRef,
    /// How it ended.
    pub stop: StopReason,
    /// The tools that it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallHead>,
    /// What the provider says that it took; absent if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// What is charged.
    pub charged: Charge,
    /// The model that answered, if the provider names another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The provider's id of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// From the request to the first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// From the request to the end of the answer, in milliseconds.
    pub duration_ms: u64,
}

/// A tool call without its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallHead {
    /// Its id.
    pub id: ToolCallId,
    /// The tool's name, as the model wrote it, cut at
    /// [`crate::limit::TOOL_NAME_CHARS_MAX`].
    pub name: String,
    /// The hash of name and arguments: equal for equal calls, whatever the order of the keys.
    pub fingerprint: BlobHash,
}

/// The attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallFailed {
    /// The attempt.
    pub attempt: u32,
    /// The class of the failure.
    pub class: ModelErrorClass,
    /// What is wrong, and what to do.
    pub reason: String,
    /// When the provider wants to be asked again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What the provider says that it took; absent if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// What is charged.
    pub charged: Charge,
    /// From the request to the failure, in milliseconds.
    pub duration_ms: u64,
}

/// Nobody waits for the call: the end of its last attempt is unknown, and charged in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallAbandoned {
    /// The attempt.
    pub attempt: u32,
    /// The reason.
    pub reason: String,
    /// What is charged.
    pub charged: Charge,
}
