//! A finding in the outputs of a run.

use ai_factory_schemas::diagnosis::FailureKind;

use super::place::SourcePlace;

/// What one reader found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FailureFinding {
    /// The number of the line where it ends; the later of two findings ended the run.
    pub(super) at: usize,
    /// The kind of failure.
    pub(super) kind: FailureKind,
    /// The failure in one line.
    pub(super) message: String,
    /// The exception's type.
    pub(super) exception: Option<String>,
    /// The missing module or command.
    pub(super) missing: Option<String>,
    /// Where it happened.
    pub(super) place: Option<SourcePlace>,
    /// The names of failing tests.
    pub(super) tests: Vec<String>,
}

impl FailureFinding {
    /// A finding without details.
    pub(super) fn new(at: usize, kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            at,
            kind,
            message: message.into(),
            exception: None,
            missing: None,
            place: None,
            tests: Vec::new(),
        }
    }
}
