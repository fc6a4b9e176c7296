//! The keeper: a separate process that runs one program for as long as its starter lives.
//!
//! It is this executable, started with [`KEEP_ARGUMENT`] and the program's command line. Its stdin
//! is the lifeline: when it closes, however the starter ended, the program is terminated, and
//! killed if it does not end.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

/// The first argument of a keeper.
pub const KEEP_ARGUMENT: &str = "__keep";

/// How long the program may take to end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(5);

/// The main function for a first argument [`KEEP_ARGUMENT`]; `command` is the rest of the
/// arguments.
pub fn keeper_main(command: impl Iterator<Item = OsString>) -> ExitCode {
    match run(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Its starter reads this.
            let _ = writeln!(io::stderr(), "the program cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the program's exit code; 128 + N if signal N ended it.
fn run(mut command: impl Iterator<Item = OsString>) -> io::Result<u8> {
    // Detached from the terminal: Ctrl-C ends the factory, and the lifeline ends this process.
    let _ = rustix::process::setsid();
    let program = command.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child =
        Command::new(program).args(command).stdin(Stdio::null()).process_group(0).spawn()?;
    let pid = Pid::from_child(&child);
    let held = pidfd_open(pid, PidfdFlags::empty())?;
    let stdin = io::stdin();
    loop {
        let mut asked = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&held, PollFlags::IN)];
        if poll(&mut asked, None).is_err() {
            continue;
        }
        if !asked[1].revents().is_empty() {
            break;
        }
        if !asked[0].revents().is_empty() && !matches!(stdin.lock().read(&mut [0; 64]), Ok(1..)) {
            let _ = kill_process(pid, Signal::TERM);
            let deadline = Instant::now() + END_MAX;
            let mut asked = [PollFd::new(&held, PollFlags::IN)];
            while let rest = deadline.saturating_duration_since(Instant::now())
                && !rest.is_zero()
                && !matches!(poll(&mut asked, Timespec::try_from(rest).ok().as_ref()), Ok(1..))
            {
            }
            let _ = kill_process(pid, Signal::KILL);
            break;
        }
    }
    let status = child.wait()?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
