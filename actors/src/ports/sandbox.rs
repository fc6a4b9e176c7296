//! The sandbox: the one place where code from a goal runs (I-10).
//!
//! An implementation promises: when [`Sandbox::run`] returns, or its future is dropped, no process of the
//! run is left, nothing it wrote is left on disk, and the same holds soon after this process dies.

use std::time::Duration;

use ai_factory_schemas::run::{EndedBy, Isolation};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In lower case.
    pub language: String,
    /// The program text.
    pub source: String,
    /// The wall limit, from the program's start.
    pub wall_max: Duration,
    /// The trace that the program is part of: it finds it in its environment as `TRACEPARENT`.
    pub traceparent: Option<String>,
}

/// One captured output stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// What was kept, invalid UTF-8 shown with replacement characters. Where the stream was cut, the text says so at its end.
    pub text: String,
    /// All that was written, in bytes, kept or not.
    pub bytes_total: u64,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; 128 + N for signal N, 124 for the wall limit.
    pub exit_code: i32,
    /// The signal, where one ended the program.
    pub signal: Option<i32>,
    /// [`EndedBy::Exit`], [`EndedBy::Signal`] or [`EndedBy::Wall`].
    pub ended_by: EndedBy,
    /// What it wrote.
    pub stdout: Captured,
    /// What it wrote.
    pub stderr: Captured,
    /// From the program's start to its end.
    pub duration: Duration,
}

/// Why a program was not run, or its end not seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// No interpreter for the language here.
    #[error("Unsupported language: {0}")]
    UnsupportedLanguage(String),
    /// The language is known, its interpreter is not installed.
    #[error("{0}")]
    MissingInterpreter(String),
    /// The sandbox could not be set up, or broke.
    #[error("the sandbox failed: {0}")]
    Broken(String),
}

/// The one place where code from a goal runs. See the module for what an implementation promises.
#[async_trait::async_trait]
pub trait Sandbox: Send + Sync + 'static {
    /// What is in force during every run.
    fn isolation(&self) -> Isolation;

    /// Whether programs in `language` (in lower case) can be run here.
    fn supports(&self, language: &str) -> bool;

    /// Whether running the same program again does no harm beyond the time it takes.
    fn is_repeatable(&self) -> bool;

    /// Runs a program to its end. Dropping the future ends the program and everything it started.
    async fn run(&self, program: Program) -> Result<Ran, SandboxError>;
}
