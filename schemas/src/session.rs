//! Sessions: from a goal to its result, and the events of the `session` category.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::{RequestId, RunId},
    plan::{Plan, TaskType},
    run::{EndedBy, RunStatus},
    text::Text,
};

/// The result of a session for clients. Only steps that ran count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// No step that ran failed; or none ran.
    Success,
    /// Some steps failed and some succeeded.
    Partial,
    /// All steps that ran failed, or the session could not continue.
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
    /// It was cancelled.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// It could not continue.
    Failed,
}

/// One recalled memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recalled {
    /// The memory's id, as in search results.
    pub id: String,
    /// Its text, cut at [`crate::limit::CONTEXT_ITEM_BYTES_MAX`].
    pub text: String,
    /// 0 for identical with the goal; grows with difference.
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

/// The ingress of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ingress {
    /// The command line, with direct access to the journal.
    Cli,
    /// HTTP.
    Http,
    /// A request over NATS.
    Nats,
    /// Published over NATS to the subject for goals.
    Goals,
    /// A prompt of the agent protocol.
    Agent,
}

impl Ingress {
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

    /// The ingress with this word on the wire.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ingress| ingress.as_str() == word)
    }
}

/// The submitter of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitter {
    /// The ingress.
    // Recorded as `door` by earlier versions; read for ever (I-12).
    #[serde(alias = "door")]
    pub ingress: Ingress,
    /// The submitter's name as claimed by the sender, not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_to_be: Option<String>,
    /// The signer, verified by the ingress: the account's name or key, a dot, the user's key. The
    /// account is the signer's claim.
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
    /// The id of the request.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// The kind of work.
    pub task_type: TaskType,
    /// The submitter; absent if none was recorded.
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

/// A step was dispatched: on disk before its code runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepDispatched {
    /// The step, from 0.
    pub step: u32,
    /// The run, the same for every attempt.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// A step's run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepFinished {
    /// The step, from 0.
    pub step: u32,
    /// The run, whose stream has all details.
    pub run_id: RunId,
    /// The result of the run.
    pub status: RunStatus,
    /// Its exit code.
    pub exit_code: i32,
    /// What ended it.
    pub ended_by: EndedBy,
    /// Standard output.
    pub stdout: Text,
    /// Standard error.
    pub stderr: Text,
    /// The duration in milliseconds.
    pub duration_ms: u64,
}

/// A step had no code to run, or was not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepSkipped {
    /// The step, from 0.
    pub step: u32,
    /// The reason.
    pub reason: String,
}

/// A step could not be run, or its deadline passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepFailed {
    /// The step, from 0.
    pub step: u32,
    /// The reason.
    pub reason: String,
}

/// A step was dispatched before a crash and not finished, and may not be repeated without a
/// decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepUnknown {
    /// The step, from 0.
    pub step: u32,
    /// The run whose end is unknown.
    pub run_id: RunId,
    /// The attempt whose end is unknown.
    pub attempt: u32,
}

/// It was decided what to do with an unknown step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepResolved {
    /// The step, from 0.
    pub step: u32,
    /// The decision.
    pub resolution: Resolution,
}

/// The session was resumed after its actor or its process died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionResumed {
    /// Resumptions after a crash; unchanged, possibly 0, after an orderly end of the factory.
    pub count: u32,
}

/// The session is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionConcluded {
    /// Why it is over.
    pub end: SessionEnd,
    /// The result for clients.
    pub status: SessionStatus,
    /// The result cut at [`crate::limit::SUMMARY_CHARS_MAX`].
    pub summary: String,
    /// The reason of an end other than completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
