//! The sandbox: the only place where code from a goal runs (I-10).
//!
//! An implementation promises: when [`Sandbox::run`] returns, or its future is dropped, no process
//! of the run is left and nothing it wrote is left on disk; soon after the death of this process
//! the same holds.

use std::{path::PathBuf, time::Duration};

use ai_factory_schemas::run::{EndedBy, FileLeftOut, Isolation};

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In lower case.
    pub language: String,
    /// The program text.
    pub source: String,
    /// Its standard input; `None` for an empty one.
    pub stdin: Option<String>,
    /// Files in its working directory at the start.
    pub files: Vec<ProgramFile>,
    /// Patterns of the files to return: `*` and `?` match within one part of a path, `**` any
    /// number of parts. Only regular files are returned, reached without following links.
    pub return_files: Vec<String>,
    /// Wall time limit, from the program's start.
    pub wall_max: Duration,
    /// The trace context for its environment variable `TRACEPARENT`.
    pub traceparent: Option<String>,
}

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFile {
    /// Its path below the working directory; see [`ai_factory_schemas::file::check_name`].
    pub name: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// One captured output stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    /// The kept text; invalid UTF-8 becomes replacement characters. A cut stream is marked in the
    /// text.
    pub text: String,
    /// The bytes written, kept or not.
    pub bytes_total: u64,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramOutcome {
    /// The exit code; 128 + N for signal N, 124 for the wall time limit.
    pub exit_code: i32,
    /// The signal that ended the program, if one did.
    pub signal: Option<i32>,
    /// What ended it: the program itself, a signal, or a limit.
    pub ended_by: EndedBy,
    /// Standard output.
    pub stdout: CapturedOutput,
    /// Standard error.
    pub stderr: CapturedOutput,
    /// From the program's start to its end.
    pub duration: Duration,
    /// The isolation observed while the program ran, as far as the sandbox could see it.
    pub isolation: Option<Isolation>,
    /// The requested files that the program left.
    pub files: Vec<ProgramFile>,
    /// The requested files that were not there, or could not be taken.
    pub files_left_out: Vec<FileLeftOut>,
}

/// A language whose programs can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// The name that plans and records use.
    pub name: &'static str,
    /// Further accepted names.
    pub aliases: &'static [&'static str],
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The version that the interpreter reports.
    pub version: String,
}

/// Why a program was not run, or its end not observed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// There is no interpreter for the language.
    #[error("Unsupported language: {0}")]
    UnsupportedLanguage(String),
    /// The language is known, but its interpreter is not installed.
    #[error("{0}")]
    MissingInterpreter(String),
    /// The program is refused: what is wrong, and what would be right.
    #[error("{0}")]
    Refused(String),
    /// The sandbox could not be set up, or broke.
    #[error("the sandbox failed ({layer}): {message}")]
    Broken {
        /// The layer that failed.
        layer: &'static str,
        /// The failure, with the system's error if there is one.
        message: String,
    },
}

/// The only place where code from a goal runs. The module's documentation has the promises of an
/// implementation.
#[async_trait::async_trait]
pub trait Sandbox: Send + Sync + 'static {
    /// The isolation intended for every run; the isolation observed is
    /// [`ProgramOutcome::isolation`].
    fn isolation(&self) -> Isolation;

    /// The languages that can be run. The first call may look for interpreters.
    async fn languages(&self) -> Vec<Language>;

    /// Whether programs in `language` (in lower case) can be run.
    fn supports(&self, language: &str) -> bool;

    /// Whether a program in any language can begin: whether its files fit into its working
    /// directory. Called before anything is recorded; returns at once.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] with the fault.
    fn check(&self, program: &Program) -> Result<(), SandboxError> {
        let _ = program;
        Ok(())
    }

    /// Whether repeating the same program costs nothing but time.
    fn is_repeatable(&self) -> bool;

    /// Runs a program to its end. Dropping the future ends the program and all of its descendants.
    async fn run(&self, program: Program) -> Result<ProgramOutcome, SandboxError>;
}
