//! Answers about the factory itself: health, liveness, readiness.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// A greeting, for people.
    pub message: String,
    /// The path of the documentation.
    pub docs: String,
}

/// The health of the factory as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All parts work.
    Ok,
    /// A part does not work.
    Degraded,
}

/// A part that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentProblem {
    /// The name of the part.
    pub part: String,
    /// What is wrong.
    pub reason: String,
    /// Whether requests can be served without it.
    pub serves: bool,
}

/// `GET /healthcheck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The health as a whole.
    pub status: HealthStatus,
    /// The name of this service: `ai-factory`.
    pub service: String,
    /// The phase of the system's construction plan that this service stands for.
    pub phase: u32,
    /// The version of the program.
    pub version: String,
    /// The journal's last position.
    pub position: u64,
    /// The parts that do not work.
    pub parts: Vec<ComponentProblem>,
    /// Rebuilds under way; they do not affect the health.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under_way: Vec<RebuildProgress>,
}

/// A rebuild under way; the present version serves meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RebuildProgress {
    /// The part of the factory that it is for.
    pub part: String,
    /// What is rebuilt, and how far it is.
    pub progress: String,
}

/// `GET /livez` and `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// `ok` or `unavailable`.
    pub status: String,
    /// The parts whose failure prevents serving.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ComponentProblem>,
}
