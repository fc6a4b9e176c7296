//! A turn of the conversation, results of its tools, and the end that it declares.

use ai_factory_schemas::{
    chat::MessageRef,
    id::{CallId, RunId},
    model::Reservation,
    turn::{FinishCall, ToolOutcome, TurnFailed, TurnPurpose},
};

use super::answer::TurnAnswer;

/// The last turn that was begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The turn, from 1.
    pub number: u32,
    /// The call, the same for every attempt.
    pub call_id: CallId,
    /// The last attempt, from 1.
    pub attempt: u32,
    /// What it is for.
    pub purpose: TurnPurpose,
    /// What the last attempt set aside.
    pub reserved: Reservation,
    /// Failed attempts; refusals of the day's budget do not count.
    pub failures: u32,
    /// The call before it.
    pub predecessor: Option<CallId>,
    /// How many messages of that call's request its own begins with.
    pub kept: u32,
    /// How far it has come.
    pub state: TurnState,
    /// The last failure of an attempt.
    pub failed: Option<Box<TurnFailed>>,
}

/// How far a turn has come.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnState {
    /// The model is asked.
    Asked,
    /// The last attempt has no answer.
    Unanswered,
    /// The model answered.
    Answered(Box<TurnAnswer>),
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The turn, from 1.
    pub turn: u32,
    /// The tool call in its answer, from 0.
    pub index: u32,
    /// The place of the result in the conversation, from 0.
    pub at: u32,
    /// What became of the call.
    pub outcome: ToolOutcome,
    /// The result, as the model was told it first.
    pub result: MessageRef,
    /// The complete result, if the message has only a part of it.
    pub complete: Option<MessageRef>,
    /// The run, if it was one.
    pub run_id: Option<RunId>,
    /// Whether the conversation has a shortened one in its place.
    pub is_shortened: bool,
}

impl ToolResult {
    /// Whether it tells of a failure.
    pub fn is_failure(&self) -> bool {
        matches!(self.outcome, ToolOutcome::Failed | ToolOutcome::Invalid)
    }
}

/// The end of the work as the model declared it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredEnd {
    /// The turn.
    pub turn: u32,
    /// The answer that declares it.
    pub message: MessageRef,
    /// Status, beginning of the result, files.
    pub call: FinishCall,
}
