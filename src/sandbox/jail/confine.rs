//! Confining a program alone, for a jail without namespaces: init has to see and to end processes, so it stays outside,
//! and starts the program through this.
//!
//! *Promises.* The interpreter starts with Landlock and seccomp in force, or not at all: what went wrong comes back over
//! a pipe that closes by itself when the interpreter starts.

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
    super::{layer::Layer, poll::wait_for, wire},
    access,
    message::{Failure, Setup},
    syscalls,
};

/// The first argument of the process that confines itself and becomes the interpreter.
pub const CONFINE_ARGUMENT: &str = "__confine";

/// How long it may take until the interpreter starts.
const CONFINE_MAX: Duration = Duration::from_secs(10);

/// What it gets as its second argument.
#[derive(Serialize, Deserialize)]
struct Wish {
    setup: Setup,
    arguments: Vec<String>,
    /// The number of the pipe's end under which it was inherited.
    told: i32,
}

/// The interpreter's command through [`confine_main`], and where it will be told whether that went well.
pub(super) fn command(setup: &Setup, arguments: &[String]) -> io::Result<(Command, Promise)> {
    let (read, write) = io::pipe()?;
    // One thread: nothing else can be started meanwhile and inherit it, too.
    fcntl_setfd(&write, FdFlags::empty())?;
    let wish =
        Wish { setup: setup.clone(), arguments: arguments.to_vec(), told: write.as_raw_fd() };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ai-factory").arg(CONFINE_ARGUMENT).arg(serde_json::to_string(&wish)?);
    Ok((command, Promise { read, write }))
}

/// Whether a program could be confined here.
pub(super) fn try_out(setup: &Setup) -> Result<(), Failure> {
    let (mut command, promise) =
        command(setup, &[]).map_err(|error| Failure::other("confining nothing", error))?;
    let spawned = command.env_clear().spawn();
    spawned.map_err(|error| Failure::other("confining nothing", error))?;
    promise.kept()
}

/// Whether the interpreter will start.
pub(super) struct Promise {
    read: PipeReader,
    write: PipeWriter,
}

impl Promise {
    /// Waits until it has started, or says why it has not.
    pub(super) fn kept(self) -> Result<(), Failure> {
        drop(self.write);
        let unheard = |error| Failure::other("hearing whether the program is confined", error);
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
        Err(wire::read_header(&mut &said[..]).map_err(unheard)?)
    }
}

/// What `main` does, before anything else, when the first argument is [`CONFINE_ARGUMENT`].
pub fn confine_main() -> ExitCode {
    let wish = std::env::args().nth(2).and_then(|json| serde_json::from_str::<Wish>(&json).ok());
    let Some(wish) = wish else { return ExitCode::FAILURE };
    // Opened anew it closes by itself when the interpreter starts; the inherited one would not.
    let told = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", wish.told));
    let (Ok(mut told), Ok(())) = (told, nix::unistd::close(wish.told)) else {
        return ExitCode::FAILURE;
    };
    match become_the_interpreter(&wish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = wire::write_frame(&mut told, &failure, &[]);
            ExitCode::FAILURE
        }
    }
}

/// Returns only where something went wrong, or there is no interpreter: then somebody wants to know whether it works.
fn become_the_interpreter(Wish { setup, arguments, .. }: &Wish) -> Result<(), Failure> {
    let confined = [
        (Layer::Landlock, access::confine as fn(&Setup) -> Result<(), Failure>),
        (Layer::Seccomp, syscalls::filter),
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
    let error = Command::new(path).args(arguments).exec();
    Err(Failure::other(format_args!("starting `{}`", path.display()), error))
}
