//! What the HTTP door says about the factory itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// A greeting, for people.
    pub message: String,
    /// Where the routes are described.
    pub docs: String,
}

/// How the factory is as a whole.
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
pub struct AilingPart {
    /// Which.
    pub part: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether requests can be served without it.
    pub serves: bool,
}

/// `GET /healthcheck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// How it is as a whole.
    pub status: HealthStatus,
    /// Which service this is: `ai-factory`.
    pub service: String,
    /// The phase of the system's plan of construction that this service stands for.
    pub phase: u32,
    /// The version of the program.
    pub version: String,
    /// The journal's last position.
    pub position: u64,
    /// The parts that do not work.
    pub parts: Vec<AilingPart>,
    /// What is made anew while everything works.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under_way: Vec<UnderWay>,
}

/// Something that is made anew, while what there is serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnderWay {
    /// Which part of the factory it is for.
    pub part: String,
    /// What it is, and how far.
    pub progress: String,
}

/// `GET /livez` and `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// `ok`, or `unavailable`.
    pub status: String,
    /// The parts for which requests cannot be served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<AilingPart>,
}
