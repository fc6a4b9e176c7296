//! The program of a jail: its interpreter is started with the program or in advance, and watched
//! until it ends or exceeds a limit.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, pread},
    process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open},
};

use super::{
    super::{
        frames::EndCause,
        guardian::is_cut,
        output::Capture,
        poll::{has_ended, wait_for},
        processes,
    },
    confine,
    message::{CgroupFiles, JailFailure, Setup},
    stage::PROGRAM_NICE,
    usage,
};

/// Interval for measuring the usage of all processes and for reaping adopted zombies.
const LOOK_PERIOD: Duration = Duration::from_millis(25);
/// Time for an interpreter to print the program's stack after the program exceeded its wall limit.
const STACK_DUMP: Duration = Duration::from_millis(120);
/// Timeout for an interpreter to become ready for a program.
const START_MAX: Duration = Duration::from_secs(10);
/// Pause before the next read from a program that prints line by line.
const GATHER_PERIOD: Duration = Duration::from_micros(500);
/// A read below this size counts as line by line.
const SMALL_BYTES: u64 = 4 * 1024;

/// A control group, opened before its files became unreachable.
pub(super) struct CgroupHandle {
    inside: File,
    outside: File,
    events: File,
}

impl CgroupHandle {
    pub(super) fn open(files: &CgroupFiles) -> io::Result<Self> {
        let write = |path| OpenOptions::new().write(true).open(path);
        Ok(Self {
            inside: write(&files.inside)?,
            outside: write(&files.outside)?,
            events: File::open(&files.events)?,
        })
    }

    /// Moves this process: its children are created in the group.
    fn join(to: &File) -> io::Result<()> {
        Ok(rustix::io::write(to, b"0").map(drop)?)
    }

    pub(super) fn oom_kills(&self) -> u64 {
        let mut events = [0; 1024];
        let count = pread(&self.events, &mut events, 0).unwrap_or_default();
        usage::oom_kills(&String::from_utf8_lossy(&events[..count]))
    }
}

/// How an interpreter is started.
pub(super) struct ProgramStart<'a> {
    pub(super) arguments: &'a [String],
    /// Its working directory below that of the jail; `None` for that of the jail.
    pub(super) directory: Option<&'a str>,
    /// A variable in addition to those of every program.
    pub(super) environment: Option<(&'a str, &'a str)>,
}

/// A running program, or an interpreter that waits for one.
pub(super) struct JailProgram {
    leader: Pid,
    /// Readable once the process has ended.
    end: OwnedFd,
    stdin: Option<OwnedFd>,
    streams: [Capture; 2],
    started: Instant,
}

impl JailProgram {
    /// Starts the interpreter. A warm one is waited for until it is ready.
    pub(super) fn start(
        setup: &Setup,
        cgroup: Option<&CgroupHandle>,
        start: &ProgramStart<'_>,
        is_warm: bool,
    ) -> Result<Self, JailFailure> {
        let ProgramStart { arguments, directory, environment } = *start;
        let interpreter = &setup.interpreter;
        let unstarted = |error: io::Error| {
            JailFailure::other(format_args!("starting `{}`", interpreter.path.display()), error)
        };
        let (mut command, confine_result) = if setup.confines_program_alone() {
            let (command, confine_result) =
                confine::command(setup, arguments, directory).map_err(unstarted)?;
            (command, Some(confine_result))
        } else {
            let mut command = Command::new(&interpreter.path);
            command.args(arguments);
            directory.map(|directory| command.current_dir(directory));
            (command, None)
        };
        command
            .env_clear()
            .envs(&interpreter.environment)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut spawned = spawn(command, cgroup).map_err(unstarted)?;
        if let Some(confine_result) = confine_result {
            confine_result.wait()?;
            spawned.started = Instant::now();
        }
        spawned.ready(setup, is_warm).map_err(unstarted)
    }

    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    /// Waits, without a timeout, for data from the factory; `false` if the interpreter ended first.
    pub(super) fn idle(&self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let both = [socket, self.end.as_fd()].map(|it| Some((it, PollFlags::IN)));
        loop {
            match wait_for(both, None)? {
                [_, true] => return Ok(false),
                [true, _] => return Ok(true),
                _ => {}
            }
        }
    }

    /// Starts the clock of the wall limit.
    pub(super) fn begin(&mut self) {
        self.started = Instant::now();
    }
}

/// An interpreter that was started.
struct SpawnedInterpreter {
    child: Child,
    started: Instant,
}

/// Starts it inside its control group.
fn spawn(mut command: Command, cgroup: Option<&CgroupHandle>) -> io::Result<SpawnedInterpreter> {
    let started = Instant::now();
    cgroup.map_or(Ok(()), |cgroup| CgroupHandle::join(&cgroup.inside))?;
    let spawned = command.spawn();
    cgroup.map_or(Ok(()), |cgroup| CgroupHandle::join(&cgroup.outside))?;
    Ok(SpawnedInterpreter { child: spawned?, started })
}

impl SpawnedInterpreter {
    /// Takes its pipes; waits for a warm one to become ready.
    fn ready(self, setup: &Setup, is_warm: bool) -> io::Result<JailProgram> {
        let Self { mut child, started } = self;
        let leader = Pid::from_child(&child);
        // If the system refuses, ending a run that never rests only takes longer.
        let _ = rustix::process::setpriority_process(Some(leader), PROGRAM_NICE);
        let end = pidfd_open(leader, PidfdFlags::empty())?;
        let stdin = child.stdin.take().map(OwnedFd::from);
        if let Some(stdin) = &stdin {
            fcntl_setfl(stdin, fcntl_getfl(stdin)? | OFlags::NONBLOCK)?;
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (stdout.map(OwnedFd::from), stderr.map(OwnedFd::from));
        if let (true, Some(stdout)) = (is_warm, &stdout) {
            wait_until_ready(stdout.as_fd(), stderr.as_ref())?;
        }
        let bytes_max = usize::try_from(setup.limits.output_bytes).unwrap_or(usize::MAX);
        let streams = [Capture::new(stdout, bytes_max)?, Capture::new(stderr, bytes_max)?];
        Ok(JailProgram { leader, end, stdin, streams, started })
    }
}

/// An interpreter reports readiness with one byte.
fn wait_until_ready(stdout: BorrowedFd<'_>, stderr: Option<&OwnedFd>) -> io::Result<()> {
    let ready = wait_for([Some((stdout, PollFlags::IN))], Some(START_MAX))?;
    if ready[0] && rustix::io::read(stdout, &mut [0; 1])? == 1 {
        return Ok(());
    }
    let mut said = [0; 1024];
    let ready =
        wait_for([stderr.map(|stderr| (stderr.as_fd(), PollFlags::IN))], Some(Duration::ZERO))?;
    let count = match stderr {
        Some(stderr) if ready[0] => rustix::io::read(stderr, &mut said)?,
        _ => 0,
    };
    let said = String::from_utf8_lossy(&said[..count]).trim().to_owned();
    Err(io::Error::other(format!("the interpreter is not ready: {said}")))
}

/// A program that has ended.
pub(super) struct ExitedProgram {
    pub(super) how: EndCause,
    pub(super) duration: Duration,
    pub(super) streams: [Capture; 2],
}

/// The limits of a program, and what they are measured with.
pub(super) struct ProgramWatch<'a> {
    pub(super) setup: &'a Setup,
    pub(super) cgroup: Option<&'a CgroupHandle>,
    pub(super) socket: BorrowedFd<'a>,
    pub(super) wall: Duration,
    /// Processor time of all processes together, in milliseconds.
    pub(super) cpu_ms_max: u64,
}

/// Why the watch ended.
enum ProgramStop {
    /// It ended, or was ended by another process.
    ByItself,
    /// It reached a limit.
    By(EndCause),
    /// The factory cancelled the run.
    ByTheFactory,
}

impl ProgramWatch<'_> {
    /// Passes input and output until the program ends or reaches a limit, then ends all processes
    /// that are left. `None` if the factory cancelled the run.
    pub(super) fn run(
        &self,
        mut program: JailProgram,
        input: &[u8],
    ) -> Result<Option<ExitedProgram>, JailFailure> {
        let stopped = self.until_stopped(&mut program, input);
        let duration = program.started.elapsed();
        let cpu_ms = usage::cpu_ms().unwrap_or_default();
        let status = end_all(program.leader)
            .map_err(|error| JailFailure::other("ending the program", error))?;
        let stopped = stopped.map_err(|error| JailFailure::other("watching the program", error))?;
        let how = match stopped {
            ProgramStop::ByTheFactory => return Ok(None),
            ProgramStop::By(how) => how,
            ProgramStop::ByItself => self.end_cause(status, cpu_ms),
        };
        program.streams.iter_mut().for_each(Capture::read_rest);
        Ok(Some(ExitedProgram { how, duration, streams: program.streams }))
    }

    /// The reason for the stop.
    fn until_stopped(
        &self,
        program: &mut JailProgram,
        mut input: &[u8],
    ) -> io::Result<ProgramStop> {
        let deadline = program.started + self.wall;
        let mut looked = program.started;
        let mut dumping = None;
        loop {
            if has_ended(program.leader)? {
                return Ok(
                    dumping.map_or(ProgramStop::ByItself, |_| ProgramStop::By(EndCause::Wall))
                );
            }
            let now = Instant::now();
            match dumping {
                Some(until) if now >= until => return Ok(ProgramStop::By(EndCause::Wall)),
                None if now >= deadline => {
                    if !self.setup.interpreter.dumps_stack
                        || rustix::process::kill_process(program.leader, Signal::ABORT).is_err()
                    {
                        return Ok(ProgramStop::By(EndCause::Wall));
                    }
                    dumping = Some(now + STACK_DUMP);
                }
                _ => {}
            }
            if now - looked >= LOOK_PERIOD {
                if let Some(how) = self.limit_reached()? {
                    return Ok(ProgramStop::By(how));
                }
                processes::reap_orphans(program.leader);
                looked = Instant::now();
            }
            let until = dumping.unwrap_or(deadline).saturating_duration_since(now);
            if !self.wait(program, &mut input, until.min(LOOK_PERIOD))? {
                return Ok(ProgramStop::ByTheFactory);
            }
            let output_max = self.setup.limits.output_total_bytes();
            if program.streams.iter().any(|stream| stream.bytes_total > output_max) {
                return Ok(ProgramStop::By(EndCause::Output));
            }
        }
    }

    /// Waits for the next event and handles it; `false` once the factory is gone.
    fn wait(
        &self,
        program: &mut JailProgram,
        input: &mut &[u8],
        time: Duration,
    ) -> io::Result<bool> {
        if input.is_empty() {
            program.stdin = None;
        }
        let [stdout, stderr] = &mut program.streams;
        let ready = wait_for(
            [
                Some(readable(self.socket)),
                Some(readable(program.end.as_fd())),
                stdout.pipe().map(readable),
                stderr.pipe().map(readable),
                program.stdin.as_ref().map(|stdin| (stdin.as_fd(), PollFlags::OUT)),
            ],
            Some(time),
        )?;
        if ready[0] && is_cut(self.socket) {
            return Ok(false);
        }
        let before = stdout.bytes_total + stderr.bytes_total;
        if ready[2] {
            stdout.read();
        }
        if ready[3] {
            stderr.read();
        }
        let taken = stdout.bytes_total + stderr.bytes_total - before;
        if ready[4] {
            feed(&mut program.stdin, input);
        }
        if (1..SMALL_BYTES).contains(&taken) && !ready[1] {
            // At most until the program ends.
            wait_for([Some(readable(program.end.as_fd()))], Some(GATHER_PERIOD))?;
        }
        Ok(true)
    }

    fn limit_reached(&self) -> io::Result<Option<EndCause>> {
        let limits = &self.setup.limits;
        let is_out_of_memory = match self.cgroup {
            Some(cgroup) => cgroup.oom_kills() > 0,
            None => usage::memory_bytes()? > limits.memory_bytes,
        };
        if is_out_of_memory {
            return Ok(Some(EndCause::Memory));
        }
        let is_over = usage::cpu_ms()? > self.cpu_ms_max;
        Ok(is_over.then_some(EndCause::Cpu))
    }

    /// A killed program may have reached a limit between two measurements.
    fn end_cause(&self, status: WaitStatus, cpu_ms: u64) -> EndCause {
        let Some(signal) = status.terminating_signal() else {
            return EndCause::Exit(status.exit_status().unwrap_or_default());
        };
        let is_kill = signal == Signal::KILL.as_raw();
        let is_out_of_time = cpu_ms >= self.cpu_ms_max;
        if is_kill && self.cgroup.is_some_and(|cgroup| cgroup.oom_kills() > 0) {
            EndCause::Memory
        } else if signal == Signal::XCPU.as_raw() || (is_kill && is_out_of_time) {
            EndCause::Cpu
        } else {
            EndCause::Signal(signal)
        }
    }
}

fn readable(descriptor: BorrowedFd<'_>) -> (BorrowedFd<'_>, PollFlags) {
    (descriptor, PollFlags::IN)
}

/// Writes as much of the input as the program's pipe accepts.
fn feed(stdin: &mut Option<OwnedFd>, input: &mut &[u8]) {
    let Some(pipe) = stdin else { return };
    match rustix::io::write(pipe, input) {
        Ok(count) => *input = &input[count..],
        Err(Errno::INTR | Errno::AGAIN) => {}
        // The program does not read the rest.
        Err(_) => *input = &[],
    }
}

/// Ends all descendants of the program, and the program; returns the program's exit status.
fn end_all(leader: Pid) -> io::Result<WaitStatus> {
    // SAFETY-CRITICAL: in process 1 of the jail `-1` means every process of the jail. Anywhere else
    // it means every process of the machine.
    if std::process::id() != 1 {
        return processes::end_all(leader);
    }
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::Signal::SIGKILL)
    {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut leader_status = None;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => leader_status = Some(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => {
                let unseen = || io::Error::other("the program's end was not seen");
                return leader_status.ok_or_else(unseen);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
