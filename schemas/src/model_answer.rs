//! Answers about sessions with a model: what they wait for, what they spent, what was said.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::{CallAnswered, CallFailed},
    chat::StopReason,
    id::{CallId, RequestId, SessionId, ToolCallId},
    model::{Charge, Reservation, TokenUsage},
    session::SessionPhase,
    text::BlobHash,
    time::Timestamp,
};

/// A session that goes on, or waits for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPending {
    /// The request's id.
    pub request_id: RequestId,
    /// The session's id.
    pub session_id: SessionId,
    /// `running`, `waiting: question`, `waiting: budget`, `waiting: decision`.
    pub status: SessionPhase,
    /// What it waits for, and what to do.
    pub waits_for: String,
    /// The question that it waits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<OpenQuestion>,
    /// What the model took so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
}

/// A question that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenQuestion {
    /// Its id.
    pub question_id: ToolCallId,
    /// The question.
    pub question: String,
    /// When nobody answers any more.
    pub expires: Timestamp,
}

/// What may be spent, and what is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetUse {
    /// Tokens spent.
    pub tokens_spent: u64,
    /// Tokens set aside for calls under way.
    pub tokens_reserved: u64,
    /// The most tokens.
    pub tokens_max: u64,
    /// Cost, in millionths of the prices' currency; absent without prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_spent: Option<u64>,
    /// Cost set aside for calls under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_reserved: Option<u64>,
    /// The most that it may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_max: Option<u64>,
}

/// What the model of a session took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelUse {
    /// Provider and name.
    pub model: String,
    /// The host that was asked.
    pub host: String,
    /// Turns begun.
    pub turns: u32,
    /// Attempts of calls, failed ones too.
    pub attempts: u32,
    /// Tokens as reported.
    pub usage: TokenUsage,
    /// Input that had been sent in an earlier call, in tokens; part of the usage.
    pub resent_tokens: u64,
    /// The budget.
    pub budget: BudgetUse,
}

/// `supervisor.budget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetAnswer {
    /// The session's id.
    pub session_id: SessionId,
    /// Its status.
    pub status: SessionPhase,
    /// The budget after the change.
    #[serde(flatten)]
    pub budget: BudgetUse,
    /// What the session waits for and what to do, in a sentence; absent if it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// `supervisor.calls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionCalls {
    /// The session's id.
    pub session_id: SessionId,
    /// Every attempt of every call, in order.
    pub calls: Vec<CallRow>,
}

/// One attempt of a model call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallRow {
    /// The call.
    pub call_id: CallId,
    /// The turn, from 1.
    pub turn: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was requested.
    pub timestamp: Timestamp,
    /// `running`, `answered`, `abandoned`, or the class of its failure.
    pub status: String,
    /// Provider and name of the model.
    pub model: String,
    /// The host that was asked.
    pub host: String,
    /// The hash of the request.
    pub request: BlobHash,
    /// The answer, a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<BlobHash>,
    /// How the answer ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopReason>,
    /// The tools that it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// What was set aside.
    pub reserved: Reservation,
    /// What the provider says that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// What is charged, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charge>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// To the first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// To the end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// `model.complete`: the attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// How long it waited for its place among the calls under way, in milliseconds.
    pub waited_ms: u64,
    /// Its end, as recorded.
    pub end: CallEnd,
}

/// `model.cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCancelAnswer {
    /// The call.
    pub call_id: CallId,
    /// Whether it was under way, or waited for its place.
    pub was_running: bool,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// It was answered.
    Answered(Box<CallAnswered>),
    /// It failed.
    Failed(CallFailed),
}

/// What a model says while it says it. Lossy: the record has the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamPart {
    /// The call.
    pub call: CallId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The part, from 0.
    pub seq: u64,
    /// The text that is new.
    pub text: String,
    /// Set on the last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StreamEnd>,
}

/// How a stream of parts ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamEnd {
    /// The answer is complete and recorded.
    End,
    /// The attempt failed: what was said does not count.
    Void,
}
