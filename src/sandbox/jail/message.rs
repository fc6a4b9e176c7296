//! Messages between the factory and a jail over their socket, in the frames of
//! [`super::super::frames`].
//!
//! To the jail: [`Setup`] twice (stage one and init read one each), later one [`JailOrder`]
//! followed by its raw bytes. From the jail: one [`JailReply::Ready`], later one
//! [`JailReply::Ended`] followed by its raw bytes; or [`JailReply::Failed`] at any time.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
};

use ai_factory_schemas::{
    run::FileLeftOut,
    workspace::{FileChange, WorkspaceLimits, WorkspaceManifest},
};
use serde::{Deserialize, Serialize};

use super::super::{
    frames::{CapturedStream, EndCause},
    layer::IsolationLayer,
    limits::RunLimits,
};

/// The configuration of a jail, independent of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The user the program runs as.
    pub(crate) identity: RunUser,
    /// The control group that limits its memory, if any.
    pub(crate) cgroup: Option<CgroupFiles>,
    /// The interpreter that runs the program.
    pub(crate) interpreter: Interpreter,
    pub(crate) limits: RunLimits,
    /// The factory's own namespaces, by their names below `/proc/self/ns`.
    pub(crate) namespaces_outside: BTreeMap<String, String>,
    /// Layers to leave out: those outside the level, and in tests one more.
    pub(crate) without: BTreeSet<IsolationLayer>,
    /// The working directory, at a level without a private root. Stage one creates and removes it.
    pub(crate) directory: Option<PathBuf>,
}

impl Setup {
    /// Whether init stays outside the program's confinement. Without a process namespace this is
    /// what keeps init out of the program's reach and able to end all of its processes.
    pub(super) fn confines_program_alone(&self) -> bool {
        self.directory.is_some()
    }

    pub(super) fn has(&self, layer: IsolationLayer) -> bool {
        !self.without.contains(&layer)
    }
}

/// The user of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunUser {
    /// A user that nothing else uses. Needs root.
    Own { id: u32 },
    /// The factory's user, under another id, in a user namespace in which that id has no
    /// privileges.
    Mapped { outside_uid: u32, outside_gid: u32 },
    /// As the factory's user.
    Same { uid: u32 },
}

/// The id of a mapped user inside the namespace.
const MAPPED_ID: u32 = 1000;

impl RunUser {
    /// The user and group id inside.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Own { id } => id,
            Self::Mapped { .. } => MAPPED_ID,
            Self::Same { uid } => uid,
        }
    }
}

/// The files of a control group that a jail uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupFiles {
    /// A process that writes `0` to it enters the group.
    pub(crate) inside: PathBuf,
    /// A process that writes `0` to it returns to the factory's group.
    pub(crate) outside: PathBuf,
    /// Its line `oom_kill` counts the processes that were killed for lack of memory.
    pub(crate) events: PathBuf,
}

/// The interpreter of a language, as found on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    /// An absolute path.
    pub(crate) path: PathBuf,
    /// Directories that it needs, in addition to those of the system.
    pub(crate) prefixes: Vec<PathBuf>,
    /// The directory of JavaScript packages, among the former.
    pub(crate) node_modules: Option<PathBuf>,
    /// Arguments for a start with the program present; the program's path follows.
    pub(crate) cold: Vec<String>,
    /// Arguments for a start without a program, if the interpreter supports waiting for one.
    pub(crate) warm: Option<Vec<String>>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Whether it prints the program's stack on `SIGABRT`.
    pub(crate) dumps_stack: bool,
    /// Whether it reserves far more memory than it uses, and limits itself.
    pub(crate) reserves_memory: bool,
}

/// A run. The program's text, its input, its files, the [`TreeOrder`] of its workspace and a
/// descriptor follow, in this order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct JailOrder {
    /// The name of the program's file in the working directory; no other file has it.
    pub(crate) file: String,
    pub(crate) source_bytes: u64,
    pub(crate) stdin_bytes: u64,
    pub(crate) files: Vec<FileHeader>,
    /// Patterns of the files to return: `*` and `?` match any characters except `/`.
    pub(crate) return_files: Vec<String>,
    /// The size of the [`TreeOrder`], in bytes: it is too long for a header.
    pub(crate) workspace: Option<u64>,
    /// Wall limit from the program's start, in milliseconds.
    pub(crate) wall_ms: u64,
    /// Limit on the processor time of all processes, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// The value of `TRACEPARENT` in the program's environment.
    pub(crate) traceparent: Option<String>,
}

/// The sizes of a workspace in a reply, in bytes: of its list, which is too long for a header, and
/// of the contents of the changed files.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct TreeBytes {
    pub(crate) list: u64,
    pub(crate) contents: u64,
}

/// The workspace of a run. The descriptor that comes with it is that of sealed memory with the
/// contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TreeOrder<'a> {
    /// The memory has the contents in this order.
    pub(crate) files: Cow<'a, WorkspaceManifest>,
    pub(crate) limits: WorkspaceLimits,
    pub(crate) discard: bool,
}

/// What a program made of its workspace. The contents of the changed files follow, in this order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TreeReply {
    pub(crate) changes: Result<Vec<FileChange>, String>,
    pub(crate) left_out: Vec<FileLeftOut>,
}

/// One file; its content follows separately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileHeader {
    /// Relative to `/box`.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// A message of a jail.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum JailReply {
    /// The jail is locked down; these layers were verified to be in force.
    Ready {
        active: Vec<IsolationLayer>,
    },
    /// The run is over. The kept bytes of stdout, those of stderr, the files, the [`TreeReply`] and
    /// its contents follow.
    Ended(JailExit),
    Failed(JailFailure),
}

/// How a program ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JailExit {
    pub(crate) how: EndCause,
    pub(crate) duration_us: u64,
    pub(crate) stdout: CapturedStream,
    pub(crate) stderr: CapturedStream,
    pub(crate) files: Vec<FileHeader>,
    /// Requested files that are too many, too large, or not regular files.
    pub(crate) files_left_out: Vec<FileLeftOut>,
    pub(crate) workspace: Option<TreeBytes>,
}

/// Why a jail could not be created, or was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) struct JailFailure {
    /// The layer that failed, if it was one.
    pub(crate) layer: Option<IsolationLayer>,
    pub(crate) message: String,
}

impl fmt::Display for JailFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "layer {layer}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl JailFailure {
    /// The failure of a layer: the attempted step and the system's error.
    pub(super) fn of(
        layer: IsolationLayer,
        what: impl fmt::Display,
        error: impl Into<io::Error>,
    ) -> Self {
        Self { layer: Some(layer), message: described(what, &error.into()) }
    }

    /// A failure outside any layer.
    pub(super) fn other(what: impl fmt::Display, error: impl Into<io::Error>) -> Self {
        Self { layer: None, message: described(what, &error.into()) }
    }
}

fn described(what: impl fmt::Display, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            format!("{what}: {text} (errno {errno})")
        }
        None => format!("{what}: {error}"),
    }
}
