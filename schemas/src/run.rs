//! Runs of code: what was really in force, how it ended, and the events of the `run` category.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    file::KeptFile,
    id::{RequestId, SessionId},
    text::Text,
};

/// What separates running code from everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IsolationLevel {
    /// Nothing was run.
    #[default]
    None,
    /// A process tree of its own in a private directory with an empty environment. No barrier
    /// against code that means harm: it can read what the factory's user can read.
    Process,
    /// What the kernel can refuse without namespaces: files, system calls, resources. Only where the operator
    /// allows it by name.
    Reduced,
    /// Namespaces, a root file system of its own, no privileges, and all that [`Self::Reduced`] has.
    Full,
}

/// What was in force during a run, by name. The default is a run that never started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Isolation {
    /// The level as a whole.
    pub level: IsolationLevel,
    /// The layers that were on.
    pub active: Vec<String>,
    /// The layers that were not.
    pub missing: Vec<String>,
    /// The limits in force, by name; the name's last part is the unit, or `max` for a plain count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, u64>,
}

/// How a run ended, as clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Exit code 0.
    Success,
    /// Any other end.
    Error,
    /// The wall limit passed; exit code 124.
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
    /// A signal that nobody here sent for a limit's sake.
    Signal,
    /// The wall limit.
    Wall,
    /// The limit of processor time.
    Cpu,
    /// The limit of memory, of all its processes together.
    Memory,
    /// The limit of output: it went on writing far beyond what is kept.
    Output,
    /// A cancelled session or request.
    Cancel,
    /// It never started: the language is not known here.
    Unsupported,
    /// It never started, or was lost: the sandbox itself failed.
    Sandbox,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunEnd {
    /// How it ended, as clients know it.
    pub status: RunStatus,
    /// The exit code; 128 + N for signal N, 124 for the wall limit.
    pub exit_code: i32,
    /// The signal, where one ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What ended it.
    pub ended_by: EndedBy,
    /// What it wrote; where it was cut, the text says so at its end.
    pub stdout: Text,
    /// What it wrote; where it was cut, the text says so at its end.
    pub stderr: Text,
    /// All that it wrote to stdout, in bytes, kept or not.
    pub stdout_bytes: u64,
    /// All that it wrote to stderr, in bytes, kept or not.
    pub stderr_bytes: u64,
    /// From the program's start to its end, in milliseconds.
    pub duration_ms: u64,
    /// What was really in force, seen by the sandbox once the program ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Those of the files asked for that it left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<KeptFile>,
    /// Those that it did not leave, or that could not be taken, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left_out: Vec<FileLeftOut>,
    /// Why it never started, where its language is not known here: which languages there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A file that was asked for and does not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileLeftOut {
    /// Its name, with escapes (`\xff`, `\n`) for bytes that are not UTF-8 and for control characters; or the pattern that
    /// matched nothing.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What a program gets beside its text, and what it is to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInput {
    /// Its standard input; without, an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Text>,
    /// The files in its working directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<KeptFile>,
    /// Patterns of the names of files that come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub return_files: Vec<String>,
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

/// Code was handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRequested {
    /// The request that asked.
    pub request_id: RequestId,
    /// The session whose step it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// As asked, in lower case.
    pub language: String,
    /// The program.
    pub code: String,
    /// What it gets beside that.
    #[serde(flatten)]
    pub input: RunInput,
}

/// An attempt to run it began: on disk before the program starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunDispatched {
    /// From 1; a number above 1 says that an earlier attempt's end is unknown.
    pub attempt: u32,
    /// What protects everything else during this attempt.
    pub isolation: Isolation,
    /// The wall limit in milliseconds.
    pub wall_ms_max: u64,
}

/// It ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFinished {
    /// The attempt that ended; 0 for a run that never started.
    pub attempt: u32,
    /// How.
    #[serde(flatten)]
    pub end: RunEnd,
}

/// Nobody waits for it any more, and how its last attempt ended is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunAbandoned {
    /// Why.
    pub reason: String,
}
