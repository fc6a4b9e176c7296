//! Sessions: from a goal to its result, and the events of the `session` category.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    check::{Check, CheckDispatched, CheckFinished},
    id::{RequestId, RunId},
    model::SessionModel,
    plan::{Plan, TaskType},
    quote::quoted,
    run::{EndedBy, RunStatus},
    text::Text,
    turn::{
        BudgetChanged, Compacted, QuestionAnswered, QuestionAsked, ToolDispatched, ToolFinished,
        TurnDispatched, TurnFailed, TurnFinished,
    },
    workspace::{WorkspaceEnd, WorkspaceRef},
};
pub use crate::{
    session_status::SessionStatus,
    submitter::{Ingress, Submitter},
};

/// What a session waits for before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// A decision about a step whose end is unknown.
    Decision,
    /// A person's answer to a question of the model.
    Question,
    /// A larger budget.
    Budget,
}

/// How far a session has come. On the wire one word, or `waiting:` and the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionPhase {
    /// Its steps are worked on.
    #[default]
    Running,
    /// Somebody must do something first.
    Waiting(WaitReason),
    /// It is over.
    Concluded(SessionStatus),
}

impl SessionPhase {
    const ALL: [Self; 7] = [
        Self::Running,
        Self::Waiting(WaitReason::Decision),
        Self::Waiting(WaitReason::Question),
        Self::Waiting(WaitReason::Budget),
        Self::Concluded(SessionStatus::Success),
        Self::Concluded(SessionStatus::Partial),
        Self::Concluded(SessionStatus::Error),
    ];
    /// The word of [`WaitReason::Decision`] in rows that an earlier version stored.
    const WAITING: &str = "waiting";

    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting(WaitReason::Decision) => "waiting: decision",
            Self::Waiting(WaitReason::Question) => "waiting: question",
            Self::Waiting(WaitReason::Budget) => "waiting: budget",
            Self::Concluded(status) => status.as_str(),
        }
    }

    /// Whether somebody must do something before it goes on.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Waiting(_))
    }
}

impl fmt::Display for SessionPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not a session's phase.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not the phase of a session")]
pub struct ParsePhaseError(String);

impl FromStr for SessionPhase {
    type Err = ParsePhaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == Self::WAITING {
            return Ok(Self::Waiting(WaitReason::Decision));
        }
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| ParsePhaseError(quoted(text)))
    }
}

impl Serialize for SessionPhase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SessionPhase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SessionPhase {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SessionPhase".into()
    }

    /// Any string: a reader must not break when sessions learn to wait for something else.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
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
    /// `session.check_dispatched`
    CheckDispatched(CheckDispatched),
    /// `session.check_finished`
    CheckFinished(CheckFinished),
    /// `session.turn_dispatched`
    TurnDispatched(TurnDispatched),
    /// `session.turn_finished`
    TurnFinished(TurnFinished),
    /// `session.turn_failed`
    TurnFailed(TurnFailed),
    /// `session.tool_dispatched`
    ToolDispatched(ToolDispatched),
    /// `session.tool_finished`
    ToolFinished(ToolFinished),
    /// `session.question_asked`
    QuestionAsked(QuestionAsked),
    /// `session.question_answered`
    QuestionAnswered(QuestionAnswered),
    /// `session.budget_changed`
    BudgetChanged(BudgetChanged),
    /// `session.compacted`
    Compacted(Compacted),
    /// `session.resumed`
    Resumed(SessionResumed),
    /// `session.concluded`
    Concluded(SessionConcluded),
}

impl SessionEvent {
    /// The step that it is about, from 0, if it is about one.
    pub fn step(&self) -> Option<u32> {
        match self {
            Self::StepDispatched(event) => Some(event.step),
            Self::StepFinished(event) => Some(event.step),
            Self::StepSkipped(event) => Some(event.step),
            Self::StepFailed(event) => Some(event.step),
            Self::StepUnknown(event) => Some(event.step),
            Self::StepResolved(event) => Some(event.step),
            _ => None,
        }
    }
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
    /// The files that came in; absent if there were neither files nor a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceRef>,
    /// What decides whether the goal is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Patterns of files that are restored before the check after the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protect: Vec<String>,
    /// The model that does the work, and its terms; absent for a session whose code is in its goal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<SessionModel>>,
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
    /// What it made of the workspace; absent if it changed nothing or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceEnd>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_one_text_on_the_wire() {
        let texts = SessionPhase::ALL.map(SessionPhase::as_str);
        assert_eq!(
            texts,
            [
                "running",
                "waiting: decision",
                "waiting: question",
                "waiting: budget",
                "success",
                "partial",
                "error"
            ]
        );
        for phase in SessionPhase::ALL {
            let json = serde_json::to_string(&phase).unwrap();
            assert_eq!(json, format!("\"{phase}\""));
            assert_eq!(serde_json::from_str::<SessionPhase>(&json).unwrap(), phase);
        }
        assert!("waiting: for nothing".parse::<SessionPhase>().is_err());
        let stored = "waiting".parse::<SessionPhase>().unwrap();
        assert!(stored.is_waiting(), "rows of an earlier version are still read");
    }
}
