//! The sandbox: the one place where code from a goal runs (I-10).
//!
//! An implementation promises: when [`Sandbox::run`] returns, or its future is dropped, no process of the
//! run is left, nothing it wrote is left on disk, and the same holds soon after this process dies.

use std::{path::PathBuf, time::Duration};

use ai_factory_schemas::run::{EndedBy, FileLeftOut, Isolation};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In lower case.
    pub language: String,
    /// The program text.
    pub source: String,
    /// Its standard input; without, an empty one.
    pub stdin: Option<String>,
    /// What lies in its working directory when it starts.
    pub files: Vec<File>,
    /// Patterns of the names of files that come back: `*` and `?` match within one part of a path, `**` any number
    /// of parts. Only regular files do, reached without following links.
    pub return_files: Vec<String>,
    /// The wall limit, from the program's start.
    pub wall_max: Duration,
    /// The trace that the program is part of: it finds it in its environment as `TRACEPARENT`.
    pub traceparent: Option<String>,
}

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the working directory; see [`ai_factory_schemas::file::check_name`].
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// One captured output stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// What was kept, invalid UTF-8 shown with replacement characters. Where the stream was cut, the text says so.
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
    /// The program itself, a signal, or a limit.
    pub ended_by: EndedBy,
    /// What it wrote.
    pub stdout: Captured,
    /// What it wrote.
    pub stderr: Captured,
    /// From the program's start to its end.
    pub duration: Duration,
    /// What was really in force, as far as the sandbox could see it once the program ran.
    pub isolation: Option<Isolation>,
    /// Those of the files asked for that it left.
    pub files: Vec<File>,
    /// Those that it did not leave, or that could not be taken.
    pub files_left_out: Vec<FileLeftOut>,
}

/// A language whose programs can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// The name that plans and records use.
    pub name: &'static str,
    /// Further names that are understood.
    pub aliases: &'static [&'static str],
    /// What runs it.
    pub interpreter: PathBuf,
    /// What the interpreter says of its version.
    pub version: String,
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
    /// The program is refused as it is: what is wrong, and what would be right.
    #[error("{0}")]
    Refused(String),
    /// The sandbox could not be set up, or broke.
    #[error("the sandbox failed ({layer}): {message}")]
    Broken {
        /// The layer that failed.
        layer: &'static str,
        /// What happened, with the system's error where there is one.
        message: String,
    },
}

/// The one place where code from a goal runs. See the module for what an implementation promises.
#[async_trait::async_trait]
pub trait Sandbox: Send + Sync + 'static {
    /// What is to be in force during every run. What really was, [`Ran::isolation`] tells.
    fn isolation(&self) -> Isolation;

    /// The languages that can be run here. The first call may look for interpreters.
    async fn languages(&self) -> Vec<Language>;

    /// Whether programs in `language` (in lower case) can be run here.
    fn supports(&self, language: &str) -> bool;

    /// Whether a program, in whatever language, can be begun as it is: what it comes with fits into its working directory.
    /// Asked before anything is recorded, and answered at once.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] with what is wrong.
    fn check(&self, program: &Program) -> Result<(), SandboxError> {
        let _ = program;
        Ok(())
    }

    /// Whether running the same program again does no harm beyond the time it takes.
    fn is_repeatable(&self) -> bool;

    /// Runs a program to its end. Dropping the future ends the program and everything it started.
    async fn run(&self, program: Program) -> Result<Ran, SandboxError>;
}
