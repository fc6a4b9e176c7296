//! Turns of a session with a model: the events of its conversation, in the stream of the session.
//!
//! *Promises.* From these events alone follow the messages of the conversation and what was spent.
//! They hold hashes, counts and names; texts are blobs, except for a question and a summary.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::ToolCallHead,
    chat::{MessageRef, StopReason},
    id::{CallId, RunId, ToolCallId},
    model::{Budget, Charge, ModelErrorClass, Reservation, TokenUsage},
    session_status::SessionStatus,
    submitter::Submitter,
    text::{BlobHash, Text},
    time::Timestamp,
    workspace::WorkspaceEnd,
};

/// What a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TurnPurpose {
    /// A plan: an answer under a schema, without tools.
    Plan,
    /// The work: an answer with tools.
    Work,
}

/// `session.turn_dispatched`: on disk before the model is asked. What it reserves counts until the
/// turn is finished or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnDispatched {
    /// The turn, from 1.
    pub turn: u32,
    /// The call, the same for every attempt.
    pub call_id: CallId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// What it is for.
    pub purpose: TurnPurpose,
    /// The hash of the request.
    pub request_hash: BlobHash,
    /// Messages that the factory adds to the conversation before it asks; none for an attempt
    /// after the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub appended: Vec<MessageRef>,
    /// What is set aside.
    pub reserved: Reservation,
}

/// `session.turn_finished`: the model answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnFinished {
    /// The turn, from 1.
    pub turn: u32,
    /// The call.
    pub call_id: CallId,
    /// The attempt that was answered.
    pub attempt: u32,
    /// The answer.
    pub message: MessageRef,
    /// How it ended. Tool calls of an answer that was cut or refused are not carried out.
    pub stop: StopReason,
    /// The tools that it calls, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallHead>,
    /// What the provider says that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// What is charged in place of the reservation.
    pub charged: Charge,
    /// The end that the answer declares: a call of `finish`, or a text without tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<FinishCall>,
    /// Why a plan that was asked for is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The end of the work as the model declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FinishCall {
    /// Whether the goal is done, in the model's words. A check decides otherwise.
    pub status: SessionStatus,
    /// The beginning of the result, cut at [`crate::limit::SUMMARY_CHARS_MAX`].
    pub summary: String,
    /// The files that it hands over, as paths of the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// `session.turn_failed`: an attempt has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnFailed {
    /// The turn, from 1.
    pub turn: u32,
    /// The call.
    pub call_id: CallId,
    /// The attempt that failed.
    pub attempt: u32,
    /// The class of the failure.
    pub class: ModelErrorClass,
    /// What is wrong, and what to do.
    pub reason: String,
    /// When the provider wants to be asked again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What is charged in place of the reservation.
    pub charged: Charge,
}

/// `session.tool_dispatched`: on disk before a tool with effects, `run`, begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolDispatched {
    /// The turn, from 1.
    pub turn: u32,
    /// The tool call in its answer, from 0.
    pub index: u32,
    /// The run, the same for every attempt.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// What became of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// It was carried out.
    Done,
    /// It was carried out and failed: a program with an exit code other than 0, a file that is not
    /// there.
    Failed,
    /// Its name or its arguments are wrong.
    Invalid,
    /// It was not carried out.
    NotExecuted,
}

/// `session.tool_finished`: a tool call has its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolFinished {
    /// The turn, from 1.
    pub turn: u32,
    /// The tool call in its answer, from 0.
    pub index: u32,
    /// What became of it.
    pub outcome: ToolOutcome,
    /// The result for the model: a message of the role `tool`.
    pub result: MessageRef,
    /// The complete result, if the message has only a part of it: a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<MessageRef>,
    /// The run, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// What names the failure: equal for the same code that fails the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<BlobHash>,
    /// What it made of the workspace; absent if it changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceEnd>,
}

/// `session.question_asked`: the model asks a person; the session waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuestionAsked {
    /// The turn, from 1.
    pub turn: u32,
    /// The tool call in its answer, from 0.
    pub index: u32,
    /// The id of the question: that of its tool call.
    pub question_id: ToolCallId,
    /// The question, cut at [`crate::limit::QUESTION_CHARS_MAX`].
    pub question: String,
    /// When nobody answers any more.
    pub expires: Timestamp,
}

/// `session.question_answered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuestionAnswered {
    /// The question.
    pub question_id: ToolCallId,
    /// The answer; absent if nobody answered in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Text>,
    /// Who answered, if the ingress named somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Submitter>,
}

/// `session.budget_changed`: other limits from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetChanged {
    /// The new limits.
    pub budget: Budget,
    /// Who changed them, if the ingress named somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Submitter>,
}

/// `session.compacted`: the conversation was shortened to fit the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compacted {
    /// The turn that follows.
    pub turn: u32,
    /// The messages that were replaced.
    pub replaced: Vec<MessageReplaced>,
}

/// A message in the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageReplaced {
    /// Its place in the conversation, from 0.
    pub at: u32,
    /// The message that is there from here on.
    pub message: MessageRef,
}
