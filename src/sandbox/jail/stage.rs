//! Stage one: enters the namespaces, starts init in them, and stays until init has ended.
//!
//! *Promises.* When this process has ended, so have init and every process in its process
//! namespace.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::chown, net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitCode, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    super::{
        directory::{self, PrivateDirectory},
        frames,
        layer::IsolationLayer,
        processes,
    },
    init::INIT_ARGUMENT,
    message::{JailFailure, JailReply, RunUser, Setup},
    namespaces,
};

/// The first argument of stage one.
pub const STAGE_ARGUMENT: &str = "__stage";

/// The number of descriptors that a program receives.
const STANDARD_DESCRIPTORS: i32 = 3;
/// Scheduling priority of init: below the factory, above the program, so that a program with many
/// processes cannot starve init's watch.
const NICE: i32 = 5;
/// Priority of the program: below both.
pub(super) const PROGRAM_NICE: i32 = 10;
/// Timeout for init's end after the socket is closed. It takes one millisecond; only an init that
/// was stopped takes longer.
const INIT_END: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Entry point: `main` calls it before anything else when the first argument is [`STAGE_ARGUMENT`].
pub fn stage_main() -> ExitCode {
    match stage() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Fails only if no report is possible.
fn stage() -> io::Result<()> {
    directory::reset_umask();
    let setup: Setup = frames::read_header(&mut UnbufferedReader(io::stdin().as_fd()))?;
    // Before this process opens descriptors of its own.
    let closed = if setup.has(IsolationLayer::Descriptors) { close_descriptors() } else { Ok(()) };
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let closed = closed.map_err(|error| {
        JailFailure::of(IsolationLayer::Descriptors, "closing descriptors", error)
    });
    let work_dir = match closed.and_then(|()| WorkDir::prepare(&setup)) {
        Ok(work_dir) => work_dir,
        Err(failure) => return frames::write_frame(&mut socket, &JailReply::Failed(failure), &[]),
    };
    let ended = match start_init(&setup) {
        Ok(init) => wait(init, socket.as_fd(), work_dir.is_some()),
        Err(failure) => frames::write_frame(&mut socket, &JailReply::Failed(failure), &[]),
    };
    ended.and(work_dir.map_or(Ok(()), WorkDir::clear))
}

/// The working directory of a run without a private root: a directory on disk. Stage one outlives
/// every process of the program.
struct WorkDir(PrivateDirectory);

impl WorkDir {
    /// `None` if the run has a private root.
    fn prepare(setup: &Setup) -> Result<Option<Self>, JailFailure> {
        let Some(path) = &setup.directory else { return Ok(None) };
        let own_id = match setup.identity {
            RunUser::Own { id } => Some(id),
            RunUser::Mapped { .. } | RunUser::Same { .. } => None,
        };
        let prepare = || {
            processes::adopt_orphans()?;
            if let (Some(_), Some(shared)) = (own_id, path.parent()) {
                directory::make_shared(shared)?;
            }
            let directory = PrivateDirectory::create(path)?;
            chown(directory.path(), own_id, own_id)?;
            Ok(Some(Self(directory)))
        };
        prepare().map_err(|error: io::Error| {
            JailFailure::other("making the directory of the run", error)
        })
    }

    fn clear(self) -> io::Result<()> {
        self.0.remove()
    }
}

/// A descriptor read without buffering: what follows a header belongs to init.
struct UnbufferedReader<'a>(BorrowedFd<'a>);

impl Read for UnbufferedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

fn start_init(setup: &Setup) -> Result<Child, JailFailure> {
    // Detached from the terminal: Ctrl-C ends the factory, and the socket ends this process.
    let _ = rustix::process::setsid();
    yield_to_the_factory();
    namespaces::enter(setup)?;
    // The socket becomes init's stdin.
    Command::new("/proc/self/exe")
        .arg0("ai-factory")
        .arg(INIT_ARGUMENT)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| JailFailure::of(IsolationLayer::PidNamespace, "starting init", error))
}

/// Lowers the priority. If the system refuses, the run only competes more with the factory.
fn yield_to_the_factory() {
    let _ = rustix::process::nice(NICE);
    // A session is a scheduling group of its own, whose priority only this file changes.
    let _ = fs::write("/proc/self/autogroup", PROGRAM_NICE.to_string());
}

/// Closes descriptors that the factory inherited and passed on.
fn close_descriptors() -> io::Result<()> {
    let listed: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in listed.into_iter().filter(|number| *number >= STANDARD_DESCRIPTORS) {
        // The descriptor of the directory listing is already closed.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// Waits for init's end, and kills init if the socket is closed and init does not end. Without a
/// private process namespace (`has_to_end_all`), processes that init may have left are ended here.
fn wait(mut init: Child, socket: BorrowedFd<'_>, has_to_end_all: bool) -> io::Result<()> {
    let pid = Pid::from_child(&init);
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let is_over = |patience: Option<&Timespec>, with_socket: bool| loop {
        let mut asked = vec![PollFd::new(&end, PollFlags::IN)];
        if with_socket {
            // No events requested: a hang-up is always reported.
            asked.push(PollFd::from_borrowed_fd(socket, PollFlags::empty()));
        }
        match poll(&mut asked, patience) {
            Ok(_) => return Ok::<_, Errno>(!asked[0].revents().is_empty()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    };
    if !is_over(None, true)? && !is_over(Some(&INIT_END), false)? {
        init.kill()?;
    }
    if has_to_end_all {
        return processes::end_all(pid).map(drop);
    }
    init.wait().map(drop)
}
