//! The sandbox: the only place where code from a goal runs (I-10).
//!
//! An implementation promises: when [`Sandbox::run`] returns, or its future is dropped, no process
//! of the run is left and nothing it wrote is left on disk; soon after the death of this process
//! the same holds.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use ai_factory_schemas::{
    run::{EndedBy, FileLeftOut, Isolation},
    text::{Blob, BlobHash},
    workspace::{WorkspaceLimits, WorkspaceManifest},
};

/// A program to run.
#[derive(Clone, Debug)]
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
    /// The files of its session, if it has a workspace: its working directory. What it leaves there
    /// is compared with them at its end.
    pub workspace: Option<ProgramWorkspace>,
    /// Wall time limit, from the program's start.
    pub wall_max: Duration,
    /// Processor time limit; `None` for the sandbox's own.
    pub cpu_max: Option<Duration>,
    /// The trace context for its environment variable `TRACEPARENT`.
    pub traceparent: Option<String>,
}

/// The workspace of a program. The text of the program lies outside of it.
#[derive(Clone)]
pub struct ProgramWorkspace {
    /// The files at the start.
    pub files: Arc<WorkspaceManifest>,
    /// Where their contents come from.
    pub contents: Arc<dyn FileContents>,
    /// What the workspace may hold at the end.
    pub limits: WorkspaceLimits,
    /// Whether changes are discarded: then nothing is compared.
    pub discard: bool,
}

impl fmt::Debug for ProgramWorkspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramWorkspace")
            .field("files", &self.files.files.len())
            .field("discard", &self.discard)
            .finish_non_exhaustive()
    }
}

/// Contents of files by their hash.
#[async_trait::async_trait]
pub trait FileContents: Send + Sync + 'static {
    /// The contents with these hashes, in the order asked.
    ///
    /// # Errors
    /// A sentence with the hash, if a content is missing, altered or cannot be read.
    async fn contents(&self, hashes: Vec<BlobHash>) -> Result<Vec<Vec<u8>>, String>;
}

/// What a program made of its workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceOutcome {
    /// The changed paths, sorted.
    ///
    /// # Errors
    /// Why none is taken: one does not fit, or the listing is incomplete.
    pub changes: Result<Vec<ChangedFile>, String>,
    /// What never belongs to a workspace and stayed out, with the reason.
    pub left_out: Vec<FileLeftOut>,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path.
    pub path: String,
    /// The file that is there now; `None` if it was deleted.
    pub file: Option<ChangedContent>,
}

/// The content of a changed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedContent {
    /// Its bytes under their hash.
    pub blob: Blob,
    /// Whether it can be executed.
    pub executable: bool,
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
    /// What it made of its workspace; `None` without one, or where changes are discarded.
    pub workspace: Option<WorkspaceOutcome>,
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
