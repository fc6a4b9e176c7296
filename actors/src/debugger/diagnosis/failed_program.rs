//! The end of a program, as the readers get it.

use ai_factory_schemas::run::EndedBy;

/// The end of a program.
#[derive(Clone, Copy)]
pub(super) struct FailedProgram<'a> {
    /// The program's language, or an alias of it, in lower case.
    pub(super) language: &'a str,
    /// What ended it.
    pub(super) ended_by: EndedBy,
    /// Its exit code.
    pub(super) exit_code: i32,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
    /// Standard output.
    pub(super) stdout: &'a str,
    /// Standard error.
    pub(super) stderr: &'a str,
    /// Whether a path below the working directory is one of the run's files. Called for paths that
    /// the outputs name.
    pub(super) is_file: &'a dyn Fn(&str) -> bool,
    /// Whether it ran on a workspace.
    pub(super) has_workspace: bool,
}
