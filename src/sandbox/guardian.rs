//! The guardian: a process that runs one program and leaves nothing of it behind.
//!
//! It is this executable, started with [`GUARD_ARGUMENT`]. It reads its order from stdin, keeps
//! stdin as its lifeline, and writes its report to stdout once every process and file of the run is
//! gone. It has one thread and no runtime.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    io::Errno,
    process::{Pid, Resource, Rlimit, WaitStatus, setrlimit},
};

use super::{
    directory::{PrivateDirectory, reset_umask},
    frames::{self, EndCause, GuardianExit, GuardianOrder, GuardianReport},
    output::Capture,
    poll::{has_ended, wait_for},
    processes,
};

/// The first argument of a guardian.
pub const GUARD_ARGUMENT: &str = "__guard";

/// The name of the program's file in its private directory.
const PROGRAM_FILE: &str = "main.py";
/// The program's `PATH`.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Interval for reaping adopted zombies.
const REAP_PERIOD: Duration = Duration::from_millis(250);
/// Polling interval for the program's end where the system has no notification for it.
const LOOK_PERIOD: Duration = Duration::from_millis(5);
/// Pause before the next read from a program that prints line by line: waking the guardian for each
/// line would make the program more than twice as slow. A pipe holds far more than is printed in
/// this time.
const GATHER_PERIOD: Duration = Duration::from_micros(500);
/// A read below this size counts as line by line.
const SMALL_BYTES: u64 = 4 * 1024;

/// Entry point: `main` calls it before anything else when the first argument is [`GUARD_ARGUMENT`].
pub fn guard_main() -> ExitCode {
    match guard() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Fails only if no report is possible: without an order, or without a reader of the report.
fn guard() -> io::Result<()> {
    // Detached from the terminal: Ctrl-C ends the factory, and the lifeline ends the guardian.
    let _ = rustix::process::setsid();
    reset_umask();
    let (order, source) = frames::read_order(&mut io::stdin().lock())?;
    let mut factory = io::stdout().lock();
    match serve(&order, &source) {
        Ok(Some((ended, mut stdout, mut stderr))) => {
            let (stdout, stderr) = (stdout.kept.parts(), stderr.kept.parts());
            let raw = [stdout.0, stdout.1, stderr.0, stderr.1];
            frames::write_frame(&mut factory, &GuardianReport::Ended(ended), &raw)
        }
        Ok(None) => Ok(()),
        Err(report) => frames::write_frame(&mut factory, &report, &[]),
    }
}

/// A program that ended, and its output.
type FinishedProgram = (GuardianExit, Capture, Capture);

/// Runs the program in its directory; `None` if the lifeline was cut, since nobody reads the report
/// then.
fn serve(order: &GuardianOrder, source: &[u8]) -> Result<Option<FinishedProgram>, GuardianReport> {
    let failed = |what: &str, error: io::Error| GuardianReport::Failed(format!("{what}: {error}"));
    processes::adopt_orphans().map_err(|error| failed("cannot adopt orphans", error))?;
    let no_core_dump = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, no_core_dump)
        .map_err(|error| failed("cannot forbid core dumps", error.into()))?;
    let directory = PrivateDirectory::create(&order.directory)
        .map_err(|error| failed(&format!("cannot make `{}`", order.directory.display()), error))?;
    let ended = run(order, source, directory.path());
    let removed = directory.remove();
    let ended = ended?;
    removed.map_err(|error| failed("cannot remove the private directory", error))?;
    Ok(ended)
}

fn run(
    order: &GuardianOrder,
    source: &[u8],
    directory: &Path,
) -> Result<Option<FinishedProgram>, GuardianReport> {
    let failed = |what: &str, error: io::Error| GuardianReport::Failed(format!("{what}: {error}"));
    let program = directory.join(PROGRAM_FILE);
    std::fs::write(&program, source)
        .map_err(|error| failed("cannot write the program's file", error))?;
    let started = Instant::now();
    let mut child = start(order, &program, directory).map_err(|error| {
        GuardianReport::MissingInterpreter(format!(
            "cannot start the interpreter `{}`: {error}",
            order.interpreter.display()
        ))
    })?;
    // No early return from here until the processes are ended.
    let leader = Pid::from_child(&child);
    let mut streams = capture(&mut child, order.output_bytes_max);
    let deadline = started + Duration::from_millis(order.wall_ms_max);
    let stopped = match &mut streams {
        Ok(streams) => watch(leader, streams, deadline),
        Err(_) => Ok(StopCause::LifeLine),
    };
    let duration = started.elapsed();
    let status = processes::end_all(leader);
    let [mut stdout, mut stderr] = streams.map_err(|error| failed("cannot capture", error))?;
    let stopped = stopped.map_err(|error| failed("cannot watch the program", error))?;
    let status = status.map_err(|error| failed("cannot end the program", error))?;
    let how = match stopped {
        StopCause::LifeLine => return Ok(None),
        StopCause::Wall => EndCause::Wall,
        StopCause::End => end_cause(status),
    };
    stdout.read_rest();
    stderr.read_rest();
    let ended = GuardianExit {
        how,
        duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        stdout: stdout.header(),
        stderr: stderr.header(),
    };
    Ok(Some((ended, stdout, stderr)))
}

fn end_cause(status: WaitStatus) -> EndCause {
    match status.terminating_signal() {
        Some(signal) => EndCause::Signal(signal),
        None => EndCause::Exit(status.exit_status().unwrap_or_default()),
    }
}

/// Starts the interpreter on the program's file: in UTF-8 mode; with unbuffered output, so that the
/// output of a killed program is complete; without writing byte code next to loaded modules. These
/// are environment variables as well as arguments, so that interpreters started by the program
/// inherit them.
fn start(order: &GuardianOrder, program: &Path, directory: &Path) -> io::Result<Child> {
    let traceparent = order.traceparent.iter().map(|traceparent| ("TRACEPARENT", traceparent));
    Command::new(&order.interpreter)
        .args(&order.arguments)
        .arg(program)
        .current_dir(directory)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("HOME", directory)
        .env("TMPDIR", directory)
        .env("LANG", "C.UTF-8")
        .env("PYTHONUTF8", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(traceparent)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

fn capture(child: &mut Child, bytes_max: usize) -> io::Result<[Capture; 2]> {
    let stdout = child.stdout.take().map(OwnedFd::from);
    let stderr = child.stderr.take().map(OwnedFd::from);
    Ok([Capture::new(stdout, bytes_max)?, Capture::new(stderr, bytes_max)?])
}

/// Why the watch ended.
enum StopCause {
    End,
    Wall,
    LifeLine,
}

/// Reads the program's output until the program ends, its time is over, or the lifeline is cut.
/// Does not wait for the end of the output: escaped processes may hold the streams open for ever.
fn watch(leader: Pid, streams: &mut [Capture; 2], deadline: Instant) -> io::Result<StopCause> {
    let stdin = io::stdin();
    let end = processes::end_of(leader);
    let mut reaped = Instant::now();
    loop {
        if has_ended(leader)? {
            return Ok(StopCause::End);
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(StopCause::Wall);
        }
        if now - reaped >= REAP_PERIOD {
            processes::reap_orphans(leader);
            reaped = now;
        }
        let period = if end.is_some() { REAP_PERIOD } else { LOOK_PERIOD };
        let ready = wait_for(
            [
                Some(stdin.as_fd()),
                streams[0].pipe(),
                streams[1].pipe(),
                end.as_ref().map(AsFd::as_fd),
            ]
            .map(|descriptor| descriptor.map(|descriptor| (descriptor, PollFlags::IN))),
            Some(period.min(deadline - now)),
        )?;
        if ready[0] && is_cut(stdin.as_fd()) {
            return Ok(StopCause::LifeLine);
        }
        let before = streams[0].bytes_total + streams[1].bytes_total;
        for (stream, is_ready) in streams.iter_mut().zip([ready[1], ready[2]]) {
            if is_ready {
                stream.read();
            }
        }
        let taken = streams[0].bytes_total + streams[1].bytes_total - before;
        if (1..SMALL_BYTES).contains(&taken) {
            std::thread::sleep(GATHER_PERIOD);
        }
    }
}

/// The factory sends nothing after its order: readable means end of file.
pub(super) fn is_cut(life_line: BorrowedFd<'_>) -> bool {
    !matches!(rustix::io::read(life_line, &mut [0; 64]), Ok(1..) | Err(Errno::INTR | Errno::AGAIN))
}
