//! Plans, and the events of the `plan` category.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::RequestId, quote::quoted};

/// The kind of work that a prompt asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// Anything.
    #[default]
    General,
    /// Writing software; the plan begins with a scaffold.
    Coding,
    /// Finding something out; the plan begins with a question and ends with its sources.
    Research,
    /// Planning itself; the plan begins with aims and ends with a review.
    Planning,
}

impl TaskType {
    /// Every task type.
    pub const ALL: [Self; 4] = [Self::General, Self::Coding, Self::Research, Self::Planning];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Coding => "coding",
            Self::Research => "research",
            Self::Planning => "planning",
        }
    }
}

impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is not a task type.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a task type: use general, coding, research or planning")]
pub struct ParseTaskTypeError(String);

impl FromStr for TaskType {
    type Err = ParseTaskTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| ParseTaskTypeError(quoted(text)))
    }
}

/// The code of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Code {
    /// The language as named in the goal, in lower case (`python`, `bash`); it may be unsupported.
    pub language: String,
    /// The program.
    pub source: String,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The index, from 0.
    pub index: u32,
    /// What to do.
    pub action: String,
    /// Why the step exists.
    pub rationale: String,
    /// The code to run; a step without code is for a person or a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// A plan of the planner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The kind of work.
    pub task_type: TaskType,
    /// At least one, at most [`crate::limit::STEPS_MAX`].
    pub steps: Vec<Step>,
    /// A rough count of a model's tokens for the prompt and the plan; at least 32.
    pub estimated_tokens: u32,
    /// The planner: a model's name, or that of the built-in heuristic.
    pub model_name: String,
    /// Remarks for the reader.
    pub notes: String,
}

/// The events of the `plan` category: prompts sent to the planner directly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PlanEvent {
    /// `plan.proposed`
    Proposed(PlanProposed),
}

/// A prompt was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanProposed {
    /// The id of the request.
    pub request_id: RequestId,
    /// The prompt.
    pub prompt: String,
    /// The plan.
    pub plan: Plan,
}
