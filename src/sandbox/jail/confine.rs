//! Confines the program alone, in a jail without namespaces: init must see and end processes, so it
//! stays unconfined and starts the program through this.
//!
//! *Promises.* The interpreter starts with Landlock and seccomp in force, or not at all. Errors
//! come back over a pipe that closes by itself (`CLOEXEC`) when the interpreter starts.

use std::{
    fs::OpenOptions,
    io::{self, PipeReader, PipeWriter, Read},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::CommandExt,
    },
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    io::{FdFlags, fcntl_setfd},
};
use serde::{Deserialize, Serialize};

use super::{
    super::{frames, layer::IsolationLayer, poll::wait_for},
    access,
    message::{JailFailure, Setup},
    syscalls,
};

/// The first argument of the process that confines itself and then becomes the interpreter.
pub const CONFINE_ARGUMENT: &str = "__confine";

/// Timeout for the interpreter's start.
const CONFINE_MAX: Duration = Duration::from_secs(10);

/// Its second argument.
#[derive(Serialize, Deserialize)]
struct ConfineSpec {
    setup: Setup,
    arguments: Vec<String>,
    /// The interpreter's working directory below that of the jail; the confinement concerns the
    /// latter.
    directory: Option<String>,
    /// The descriptor number under which the pipe's end was inherited.
    report: i32,
}

/// The interpreter's command by way of [`confine_main`], and the receiver of its result.
pub(super) fn command(
    setup: &Setup,
    arguments: &[String],
    directory: Option<&str>,
) -> io::Result<(Command, ConfineResult)> {
    let (read, write) = io::pipe()?;
    // This process has one thread: no other child can inherit the descriptor meanwhile.
    fcntl_setfd(&write, FdFlags::empty())?;
    let spec = ConfineSpec {
        setup: setup.clone(),
        arguments: arguments.to_vec(),
        directory: directory.map(str::to_owned),
        report: write.as_raw_fd(),
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ai-factory").arg(CONFINE_ARGUMENT).arg(serde_json::to_string(&spec)?);
    Ok((command, ConfineResult { read, write }))
}

/// Tests whether a program can be confined here.
pub(super) fn try_out(setup: &Setup) -> Result<(), JailFailure> {
    let (mut command, confine_result) = command(setup, &[], None)
        .map_err(|error| JailFailure::other("confining nothing", error))?;
    let spawned = command.env_clear().spawn();
    spawned.map_err(|error| JailFailure::other("confining nothing", error))?;
    confine_result.wait()
}

/// The pending result of a start.
pub(super) struct ConfineResult {
    read: PipeReader,
    write: PipeWriter,
}

impl ConfineResult {
    /// Waits for the interpreter's start, or returns the reason why it failed.
    pub(super) fn wait(self) -> Result<(), JailFailure> {
        drop(self.write);
        let unheard = |error| JailFailure::other("waiting for the program to be confined", error);
        let (mut pipe, begun) = (self.read, Instant::now());
        let mut said = Vec::new();
        loop {
            let left = CONFINE_MAX.saturating_sub(begun.elapsed());
            let ready = wait_for([Some((pipe.as_fd(), PollFlags::IN))], Some(left));
            if !ready.map_err(unheard)?[0] {
                return Err(unheard(io::Error::from(io::ErrorKind::TimedOut)));
            }
            let mut chunk = [0; 1024];
            match pipe.read(&mut chunk).map_err(unheard)? {
                0 => break,
                count => said.extend_from_slice(&chunk[..count]),
            }
        }
        if said.is_empty() {
            return Ok(());
        }
        Err(frames::read_header(&mut &said[..]).map_err(unheard)?)
    }
}

/// Entry point: `main` calls it before anything else when the first argument is
/// [`CONFINE_ARGUMENT`].
pub fn confine_main() -> ExitCode {
    let spec =
        std::env::args().nth(2).and_then(|json| serde_json::from_str::<ConfineSpec>(&json).ok());
    let Some(spec) = spec else { return ExitCode::FAILURE };
    // Reopened, the descriptor closes at `exec` of the interpreter; the inherited one would not.
    let report = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", spec.report));
    let (Ok(mut report), Ok(())) = (report, nix::unistd::close(spec.report)) else {
        return ExitCode::FAILURE;
    };
    match become_the_interpreter(&spec) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = frames::write_frame(&mut report, &failure, &[]);
            ExitCode::FAILURE
        }
    }
}

/// Returns only on an error, or if no interpreter is given: then the caller tests whether confining
/// works.
fn become_the_interpreter(
    ConfineSpec { setup, arguments, directory, .. }: &ConfineSpec,
) -> Result<(), JailFailure> {
    let confined = [
        (IsolationLayer::Landlock, access::confine as fn(&Setup) -> Result<(), JailFailure>),
        (IsolationLayer::Seccomp, syscalls::filter),
    ];
    for (layer, confine) in confined {
        if setup.has(layer) {
            confine(setup)?;
        }
    }
    let path = &setup.interpreter.path;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let mut command = Command::new(path);
    directory.as_ref().map(|directory| command.current_dir(directory));
    let error = command.args(arguments).exec();
    Err(JailFailure::other(format_args!("starting `{}`", path.display()), error))
}
