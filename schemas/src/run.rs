//! Runs of code: isolation, end, and the events of the `run` category.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::file::FileLeftOut;
use crate::{
    diagnosis::Diagnosis,
    file::KeptFile,
    id::{RequestId, SessionId},
    text::Text,
    workspace::{RunTree, WorkspaceEnd},
};

/// How running code is isolated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IsolationLevel {
    /// Nothing was run.
    #[default]
    None,
    /// A process tree of its own in a private directory with an empty environment. No barrier
    /// against malicious code: it can read what the factory's user can read.
    Process,
    /// What the kernel can restrict without namespaces: files, system calls, resources. Only if the
    /// operator allows it by name.
    Reduced,
    /// Namespaces, a root file system of its own, no privileges, and all of [`Self::Reduced`].
    Full,
}

/// The isolation during a run, by name. The default belongs to a run that never started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Isolation {
    /// The level as a whole.
    pub level: IsolationLevel,
    /// Active layers.
    pub active: Vec<String>,
    /// Missing layers.
    pub missing: Vec<String>,
    /// The limits in force, by name; the name's last part is the unit, or `max` for a plain count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, u64>,
}

/// The result of a run for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Exit code 0.
    Success,
    /// Any other end.
    Error,
    /// The wall time limit passed; exit code 124.
    Timeout,
}

impl RunStatus {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The program itself.
    Exit,
    /// A signal that was not sent because of a limit.
    Signal,
    /// The wall time limit.
    Wall,
    /// The processor time limit.
    Cpu,
    /// The memory limit of all its processes together.
    Memory,
    /// The output limit: it wrote far more than is kept.
    Output,
    /// A cancelled session or request.
    Cancel,
    /// It never started: the language is not supported.
    Unsupported,
    /// It never started, or was lost: the sandbox itself failed.
    Sandbox,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunEnd {
    /// The result for clients.
    pub status: RunStatus,
    /// The exit code; 128 + N for signal N, 124 for the wall time limit.
    pub exit_code: i32,
    /// The signal that ended the program, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What ended it.
    pub ended_by: EndedBy,
    /// Standard output; a text that was cut says so at its end.
    pub stdout: Text,
    /// Standard error; a text that was cut says so at its end.
    pub stderr: Text,
    /// Bytes written to standard output, kept or not.
    pub stdout_bytes: u64,
    /// Bytes written to standard error, kept or not.
    pub stderr_bytes: u64,
    /// From the program's start to its end, in milliseconds.
    pub duration_ms: u64,
    /// The isolation observed while the program ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The requested files that the program left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<KeptFile>,
    /// The requested files that were not there, or could not be taken, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left_out: Vec<FileLeftOut>,
    /// Why the run never started, for an unsupported language: the languages that are supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it made of its session's workspace; absent if it changed nothing or had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceEnd>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Box<Diagnosis>>,
}

/// The input of a program beside its text, and the files to return.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInput {
    /// Standard input; without it, an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Text>,
    /// The files in its working directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<KeptFile>,
    /// Patterns of the files to return.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub return_files: Vec<String>,
    /// The files of its session's workspace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<RunTree>,
}

/// The events of the `run` category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RunEvent {
    /// `run.requested`
    Requested(RunRequested),
    /// `run.dispatched`
    Dispatched(RunDispatched),
    /// `run.finished`
    Finished(RunFinished),
    /// `run.abandoned`
    Abandoned(RunAbandoned),
}

/// A run was requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRequested {
    /// The id of the request.
    pub request_id: RequestId,
    /// The session that the run is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The language, in lower case.
    pub language: String,
    /// The program.
    pub code: String,
    /// Input beside the program.
    #[serde(flatten)]
    pub input: RunInput,
}

/// An attempt began: on disk before the program starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunDispatched {
    /// The attempt, from 1; above 1, the end of an earlier one is unknown.
    pub attempt: u32,
    /// The isolation in force for this attempt.
    pub isolation: Isolation,
    /// The wall time limit in milliseconds.
    pub wall_ms_max: u64,
}

/// The run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFinished {
    /// The attempt that ended; 0 for a run that never started.
    pub attempt: u32,
    /// The end.
    #[serde(flatten)]
    pub end: RunEnd,
}

/// The run was abandoned: the end of its last attempt is unknown, and nobody waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunAbandoned {
    /// The reason.
    pub reason: String,
}
