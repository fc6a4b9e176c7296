//! What went wrong in a failed run, read from its outputs without a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// An exception that nothing caught.
    Exception,
    /// The program is not valid in its language.
    SyntaxError,
    /// A module or package that cannot be imported.
    MissingModule,
    /// A command that does not exist.
    CommandNotFound,
    /// A test runner reports failing tests.
    TestsFailed,
    /// The wall time or processor time limit.
    Timeout,
    /// The memory limit.
    Memory,
    /// The output limit.
    Output,
    /// A signal that no limit sent.
    Signal,
    /// An exit code other than 0, and nothing known about it.
    ExitCode,
}

/// One line of a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceLine {
    /// Its number, from 1.
    pub line: u32,
    /// Its text, cut at [`crate::limit::DIAGNOSIS_LINE_CHARS_MAX`].
    pub text: String,
}

/// Why a run failed, as far as its end and outputs tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The failure in one sentence or line, cut at
    /// [`crate::limit::DIAGNOSIS_MESSAGE_CHARS_MAX`].
    pub message: String,
    /// The exception's type, such as `ValueError`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
    /// The module that is missing, or the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// The file of the failure: a path in the workspace or working directory, or the program's own
    /// name; beside a workspace that is `<program>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The lines around it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excerpt: Vec<SourceLine>,
    /// The names of the failing tests, at most [`crate::limit::DIAGNOSIS_TESTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing_tests: Vec<String>,
}
