//! What the factory and a jail say to each other over their socket, in the frames of [`super::super::wire`].
//!
//! Down: [`Setup`] twice (stage one and init read one each), later one [`Order`] followed by its raw bytes. Up: one
//! [`Answer::Ready`], later one [`Answer::Ended`] followed by its raw bytes; or [`Answer::Failed`] at any time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
};

use ai_factory_schemas::run::FileLeftOut;
use serde::{Deserialize, Serialize};

use super::super::{
    layer::Layer,
    limits::RunLimits,
    wire::{How, Stream},
};

/// Everything about a jail that is known before there is a program for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Setup {
    /// As whom the program runs.
    pub(in crate::sandbox) identity: Identity,
    /// Where its memory is watched, if anywhere.
    pub(in crate::sandbox) cgroup: Option<CgroupFiles>,
    /// What runs the program.
    pub(in crate::sandbox) interpreter: Interpreter,
    pub(in crate::sandbox) limits: RunLimits,
    /// The factory's own namespaces, by their names below `/proc/self/ns`.
    pub(in crate::sandbox) namespaces_outside: BTreeMap<String, String>,
    /// Layers to leave out: those that the level does without, and in tests one more.
    pub(in crate::sandbox) without: BTreeSet<Layer>,
    /// Where the program runs, at a level without a root of its own. Stage one makes and removes it.
    pub(in crate::sandbox) directory: Option<PathBuf>,
}

impl Setup {
    /// Whether init stays outside of what confines the program: without a process namespace only so it is out of the
    /// program's reach, and can end all of it.
    pub(super) fn confines_program_alone(&self) -> bool {
        self.directory.is_some()
    }

    pub(super) fn has(&self, layer: Layer) -> bool {
        !self.without.contains(&layer)
    }
}

/// As whom a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) enum Identity {
    /// As a user that nobody else is. Needs root.
    Own { id: u32 },
    /// As the factory's user, under another number, in a user namespace where that is nobody special.
    Mapped { outside_uid: u32, outside_gid: u32 },
    /// As the factory's user.
    Same { uid: u32 },
}

/// The number under which a mapped user is seen inside.
const MAPPED_ID: u32 = 1000;

impl Identity {
    /// The user's and the group's number inside.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Own { id } => id,
            Self::Mapped { .. } => MAPPED_ID,
            Self::Same { uid } => uid,
        }
    }
}

/// The files of a control group that a jail needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct CgroupFiles {
    /// Takes in whoever writes `0` to it.
    pub(in crate::sandbox) inside: PathBuf,
    /// Takes back whoever writes `0` to it.
    pub(in crate::sandbox) outside: PathBuf,
    /// Says on its line `oom_kill` how many processes were ended for want of memory.
    pub(in crate::sandbox) events: PathBuf,
}

/// What runs the programs of a language, as found on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Interpreter {
    /// An absolute path.
    pub(in crate::sandbox) path: PathBuf,
    /// Directories that it needs, beside those of the system.
    pub(in crate::sandbox) prefixes: Vec<PathBuf>,
    /// Its arguments, for a start with the program there; the program's path follows.
    pub(in crate::sandbox) cold: Vec<String>,
    /// Its arguments for a start before there is a program, if it can.
    pub(in crate::sandbox) warm: Option<Vec<String>>,
    pub(in crate::sandbox) environment: BTreeMap<String, String>,
    /// It shows where a program is when it gets `SIGABRT`.
    pub(in crate::sandbox) dumps_stack: bool,
    /// It reserves far more memory than it uses, and has a limit of its own.
    pub(in crate::sandbox) reserves_memory: bool,
}

/// What to run. The program's text, its input, and its files follow, in this order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::sandbox) struct Order {
    /// The name of the program's file in the working directory, which no other file has.
    pub(in crate::sandbox) file: String,
    pub(in crate::sandbox) source_bytes: u64,
    pub(in crate::sandbox) stdin_bytes: u64,
    pub(in crate::sandbox) files: Vec<FileHeader>,
    /// Which files come back: names, `*` and `?` stand for any characters but `/`.
    pub(in crate::sandbox) return_files: Vec<String>,
    /// From the program's start, in milliseconds.
    pub(in crate::sandbox) wall_ms: u64,
    /// What the program finds in its environment as `TRACEPARENT`.
    pub(in crate::sandbox) traceparent: Option<String>,
}

/// One file; its content follows elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct FileHeader {
    /// Below `/box`.
    pub(in crate::sandbox) name: String,
    pub(in crate::sandbox) bytes: u64,
}

/// What a jail says.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) enum Answer {
    /// Everything is locked down; these layers were seen to be in force.
    Ready {
        active: Vec<Layer>,
    },
    /// The kept bytes of stdout, then of stderr, then the files follow.
    Ended(Ended),
    Failed(Failure),
}

/// How a program ended.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Ended {
    pub(in crate::sandbox) how: How,
    pub(in crate::sandbox) duration_us: u64,
    pub(in crate::sandbox) stdout: Stream,
    pub(in crate::sandbox) stderr: Stream,
    pub(in crate::sandbox) files: Vec<FileHeader>,
    /// Files that were asked for and are too many, too large, or no plain files.
    pub(in crate::sandbox) files_left_out: Vec<FileLeftOut>,
}

/// Why a jail could not be made, or was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(in crate::sandbox) struct Failure {
    /// The layer, where it was one.
    pub(in crate::sandbox) layer: Option<Layer>,
    pub(in crate::sandbox) message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "layer {layer}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Failure {
    /// Of a layer: what was tried, and what the system said.
    pub(super) fn of(layer: Layer, what: impl fmt::Display, error: impl Into<io::Error>) -> Self {
        Self { layer: Some(layer), message: described(what, &error.into()) }
    }

    /// Of something that is no layer.
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
