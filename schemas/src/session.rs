//! Sessions: a goal's way to its result, and the events of the `session` category.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::{RequestId, RunId},
    plan::{Plan, TaskType},
    run::{EndedBy, RunStatus},
    text::Text,
};

/// How a session ended, as clients know it. Only steps that ran count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// No step that ran failed; or none ran.
    Success,
    /// Some steps failed and some succeeded.
    Partial,
    /// All that ran failed, or the session could not go on.
    Error,
}

impl SessionStatus {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Error => "error",
        }
    }
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionEnd {
    /// Every step was run or skipped.
    Completed,
    /// Somebody cancelled it.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// It could not go on.
    Failed,
}

/// One recalled memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recalled {
    /// The id of the memory, as search answers it.
    pub id: String,
    /// Its text, cut at [`crate::limit::CONTEXT_ITEM_BYTES_MAX`].
    pub text: String,
    /// 0 = identical with the goal, grows.
    pub distance: f64,
}

/// What to do with a step whose end is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// Run it again.
    Repeat,
    /// Count it as failed and go on.
    Skip,
}

/// Through which door a goal came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// The command line, on the journal itself.
    Cli,
    /// HTTP.
    Http,
    /// A request over NATS.
    Nats,
    /// Published over NATS, to the goals' subject.
    Goals,
    /// A prompt of the agent protocol.
    Agent,
}

impl Door {
    const ALL: [Self; 5] = [Self::Cli, Self::Http, Self::Nats, Self::Goals, Self::Agent];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Http => "http",
            Self::Nats => "nats",
            Self::Goals => "goals",
            Self::Agent => "agent",
        }
    }

    /// The door with that word on the wire.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|door| door.as_str() == word)
    }
}

/// Who submitted a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitter {
    /// Through which door it came.
    pub door: Door,
    /// Who it was, as they say themselves: nobody has checked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_to_be: Option<String>,
    /// Whose key signed the goal, as the door has found: the account's name or key, a dot, the user's key. The account is the signer's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_to_be: Option<String>,
}

/// The events of the `session` category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SessionEvent {
    /// `session.opened`
    Opened(SessionOpened),
    /// `session.planned`
    Planned(SessionPlanned),
    /// `session.recalled`
    Recalled(SessionRecalled),
    /// `session.step_dispatched`
    StepDispatched(StepDispatched),
    /// `session.step_finished`
    StepFinished(StepFinished),
    /// `session.step_skipped`
    StepSkipped(StepSkipped),
    /// `session.step_failed`
    StepFailed(StepFailed),
    /// `session.step_unknown`
    StepUnknown(StepUnknown),
    /// `session.step_resolved`
    StepResolved(StepResolved),
    /// `session.resumed`
    Resumed(SessionResumed),
    /// `session.concluded`
    Concluded(SessionConcluded),
}

/// A goal arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionOpened {
    /// The request that brought it.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// What kind of work it is.
    pub task_type: TaskType,
    /// Who submitted it; nothing in journals from before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<Submitter>,
}

/// The goal was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPlanned {
    /// The plan.
    pub plan: Plan,
}

/// Related memories were recalled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRecalled {
    /// Best first; at most [`crate::limit::CONTEXT_ITEMS_MAX`].
    pub items: Vec<Recalled>,
}

/// A step's code is about to be run: on disk before anybody runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepDispatched {
    /// Which step, from 0.
    pub step: u32,
    /// The run, the same for every attempt.
    pub run_id: RunId,
    /// From 1.
    pub attempt: u32,
}

/// A step's run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepFinished {
    /// Which step, from 0.
    pub step: u32,
    /// The run that holds the whole story.
    pub run_id: RunId,
    /// How it ended.
    pub status: RunStatus,
    /// Its exit code.
    pub exit_code: i32,
    /// What ended it.
    pub ended_by: EndedBy,
    /// What it wrote.
    pub stdout: Text,
    /// What it wrote.
    pub stderr: Text,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A step had nothing to run, or was not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepSkipped {
    /// Which step, from 0.
    pub step: u32,
    /// Why.
    pub reason: String,
}

/// A step could not be run, or ran out of its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepFailed {
    /// Which step, from 0.
    pub step: u32,
    /// Why.
    pub reason: String,
}

/// A step was found dispatched but not finished, and may not be repeated unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepUnknown {
    /// Which step, from 0.
    pub step: u32,
    /// The run whose end is unknown.
    pub run_id: RunId,
    /// The attempt whose end is unknown.
    pub attempt: u32,
}

/// Somebody decided what to do with an unknown step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepResolved {
    /// Which step, from 0.
    pub step: u32,
    /// The decision.
    pub resolution: Resolution,
}

/// The session was taken up again after its shell or its process had died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionResumed {
    /// How often it was taken up again after a crash; the same as before, perhaps 0, where the factory had ended in order.
    pub count: u32,
}

/// The session is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionConcluded {
    /// Why.
    pub end: SessionEnd,
    /// How it went.
    pub status: SessionStatus,
    /// The result cut at [`crate::limit::SUMMARY_CHARS_MAX`].
    pub summary: String,
    /// What to know about an end that was not a completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
