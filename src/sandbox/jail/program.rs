//! The program of a jail: started before or after it is known, watched until it or its time is over.

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
        guard::is_cut,
        output::Capture,
        poll::{has_ended, wait_for},
        processes,
        wire::How,
    },
    confine,
    message::{CgroupFiles, Failure, Setup},
    stage::PROGRAM_NICE,
    usage,
};

/// How often it is looked at what all processes use, and for adopted zombies.
const LOOK_PERIOD: Duration = Duration::from_millis(25);
/// How long an interpreter may take to show where its program is, once its time is over.
const STACK_DUMP: Duration = Duration::from_millis(120);
/// How long an interpreter may take to be ready for a program.
const START_MAX: Duration = Duration::from_secs(10);
/// A program that prints line by line is let run for a moment before its next lines are taken.
const GATHER_PERIOD: Duration = Duration::from_micros(500);
/// Less than this at once is line by line.
const SMALL_BYTES: u64 = 4 * 1024;

/// A control group, held open from before the files were out of reach.
pub(super) struct Cgroup {
    inside: File,
    outside: File,
    events: File,
}

impl Cgroup {
    pub(super) fn open(files: &CgroupFiles) -> io::Result<Self> {
        let write = |path| OpenOptions::new().write(true).open(path);
        Ok(Self {
            inside: write(&files.inside)?,
            outside: write(&files.outside)?,
            events: File::open(&files.events)?,
        })
    }

    /// Moves this process: whatever it starts is born where it is.
    fn join(to: &File) -> io::Result<()> {
        Ok(rustix::io::write(to, b"0").map(drop)?)
    }

    pub(super) fn oom_kills(&self) -> u64 {
        let mut events = [0; 1024];
        let count = pread(&self.events, &mut events, 0).unwrap_or_default();
        usage::oom_kills(&String::from_utf8_lossy(&events[..count]))
    }
}

/// A program, or an interpreter that waits for one.
pub(super) struct Program {
    leader: Pid,
    /// Readable once it has ended.
    end: OwnedFd,
    stdin: Option<OwnedFd>,
    streams: [Capture; 2],
    started: Instant,
}

impl Program {
    /// Starts the interpreter in the working directory. Where it is warm, waits until it is ready.
    pub(super) fn start(
        setup: &Setup,
        cgroup: Option<&Cgroup>,
        arguments: &[String],
        is_warm: bool,
        more_environment: Option<(&str, &str)>,
    ) -> Result<Self, Failure> {
        let interpreter = &setup.interpreter;
        let unstarted = |error: io::Error| {
            Failure::other(format_args!("starting `{}`", interpreter.path.display()), error)
        };
        let (mut command, promise) = if setup.confines_program_alone() {
            let (command, promise) = confine::command(setup, arguments).map_err(unstarted)?;
            (command, Some(promise))
        } else {
            let mut command = Command::new(&interpreter.path);
            command.args(arguments);
            (command, None)
        };
        command
            .env_clear()
            .envs(&interpreter.environment)
            .envs(more_environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut spawned = spawn(command, cgroup).map_err(unstarted)?;
        if let Some(promise) = promise {
            promise.kept()?;
            spawned.started = Instant::now();
        }
        spawned.ready(setup, is_warm).map_err(unstarted)
    }

    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    /// Waits, without end, for the factory to say something; `false` if the interpreter ended first.
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

    /// The time counts from now.
    pub(super) fn begin(&mut self) {
        self.started = Instant::now();
    }
}

/// An interpreter that was started.
struct Spawned {
    child: Child,
    started: Instant,
}

/// Starts it, born in its control group.
fn spawn(mut command: Command, cgroup: Option<&Cgroup>) -> io::Result<Spawned> {
    let started = Instant::now();
    cgroup.map_or(Ok(()), |cgroup| Cgroup::join(&cgroup.inside))?;
    let spawned = command.spawn();
    cgroup.map_or(Ok(()), |cgroup| Cgroup::join(&cgroup.outside))?;
    Ok(Spawned { child: spawned?, started })
}

impl Spawned {
    /// With its pipes in hand; where it is warm, ready for a program.
    fn ready(self, setup: &Setup, is_warm: bool) -> io::Result<Program> {
        let Self { mut child, started } = self;
        let leader = Pid::from_child(&child);
        // Where the system refuses, a run that never rests merely takes longer to end.
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
        Ok(Program { leader, end, stdin, streams, started })
    }
}

/// An interpreter says that it is ready by one byte.
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

/// A program that is over.
pub(super) struct Over {
    pub(super) how: How,
    pub(super) duration: Duration,
    pub(super) streams: [Capture; 2],
}

/// What a program may use, and what is looked at.
pub(super) struct Watch<'a> {
    pub(super) setup: &'a Setup,
    pub(super) cgroup: Option<&'a Cgroup>,
    pub(super) socket: BorrowedFd<'a>,
    pub(super) wall: Duration,
}

/// Why a program is not watched any more.
enum Stopped {
    /// It ended, or somebody else ended it.
    ByItself,
    /// It reached a limit.
    By(How),
    /// The factory wants nothing more of it.
    ByTheFactory,
}

impl Watch<'_> {
    /// Feeds and hears the program until it ends or a limit is reached, and ends all that is left of it. `None` when
    /// the factory wants nothing more.
    pub(super) fn run(&self, mut program: Program, input: &[u8]) -> Result<Option<Over>, Failure> {
        let stopped = self.until_stopped(&mut program, input);
        let duration = program.started.elapsed();
        let cpu_ms = usage::cpu_ms().unwrap_or_default();
        let status =
            end_all(program.leader).map_err(|error| Failure::other("ending the program", error))?;
        let stopped = stopped.map_err(|error| Failure::other("watching the program", error))?;
        let how = match stopped {
            Stopped::ByTheFactory => return Ok(None),
            Stopped::By(how) => how,
            Stopped::ByItself => self.how_it_ended(status, cpu_ms),
        };
        program.streams.iter_mut().for_each(Capture::read_rest);
        Ok(Some(Over { how, duration, streams: program.streams }))
    }

    /// What stopped it.
    fn until_stopped(&self, program: &mut Program, mut input: &[u8]) -> io::Result<Stopped> {
        let deadline = program.started + self.wall;
        let mut looked = program.started;
        let mut dumping = None;
        loop {
            if has_ended(program.leader)? {
                return Ok(dumping.map_or(Stopped::ByItself, |_| Stopped::By(How::Wall)));
            }
            let now = Instant::now();
            match dumping {
                Some(until) if now >= until => return Ok(Stopped::By(How::Wall)),
                None if now >= deadline => {
                    if !self.setup.interpreter.dumps_stack
                        || rustix::process::kill_process(program.leader, Signal::ABORT).is_err()
                    {
                        return Ok(Stopped::By(How::Wall));
                    }
                    dumping = Some(now + STACK_DUMP);
                }
                _ => {}
            }
            if now - looked >= LOOK_PERIOD {
                if let Some(how) = self.limit_reached()? {
                    return Ok(Stopped::By(how));
                }
                processes::reap_orphans(program.leader);
                looked = Instant::now();
            }
            let until = dumping.unwrap_or(deadline).saturating_duration_since(now);
            if !self.wait(program, &mut input, until.min(LOOK_PERIOD))? {
                return Ok(Stopped::ByTheFactory);
            }
            let output_max = self.setup.limits.output_total_bytes();
            if program.streams.iter().any(|stream| stream.bytes_total > output_max) {
                return Ok(Stopped::By(How::Output));
            }
        }
    }

    /// Waits for something to happen and takes it; `false` once the factory is gone.
    fn wait(&self, program: &mut Program, input: &mut &[u8], time: Duration) -> io::Result<bool> {
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
            // Not for longer than the program takes.
            wait_for([Some(readable(program.end.as_fd()))], Some(GATHER_PERIOD))?;
        }
        Ok(true)
    }

    fn limit_reached(&self) -> io::Result<Option<How>> {
        let limits = &self.setup.limits;
        let is_out_of_memory = match self.cgroup {
            Some(cgroup) => cgroup.oom_kills() > 0,
            None => usage::memory_bytes()? > limits.memory_bytes,
        };
        if is_out_of_memory {
            return Ok(Some(How::Memory));
        }
        let is_over = usage::cpu_ms()? > limits.cpu_s.saturating_mul(1000);
        Ok(is_over.then_some(How::Cpu))
    }

    /// A program that was killed may have been killed for a limit between two looks.
    fn how_it_ended(&self, status: WaitStatus, cpu_ms: u64) -> How {
        let Some(signal) = status.terminating_signal() else {
            return How::Exit(status.exit_status().unwrap_or_default());
        };
        let is_kill = signal == Signal::KILL.as_raw();
        let is_out_of_time = cpu_ms >= self.setup.limits.cpu_s.saturating_mul(1000);
        if is_kill && self.cgroup.is_some_and(|cgroup| cgroup.oom_kills() > 0) {
            How::Memory
        } else if signal == Signal::XCPU.as_raw() || (is_kill && is_out_of_time) {
            How::Cpu
        } else {
            How::Signal(signal)
        }
    }
}

fn readable(descriptor: BorrowedFd<'_>) -> (BorrowedFd<'_>, PollFlags) {
    (descriptor, PollFlags::IN)
}

/// Gives the program as much of its input as it takes now.
fn feed(stdin: &mut Option<OwnedFd>, input: &mut &[u8]) {
    let Some(pipe) = stdin else { return };
    match rustix::io::write(pipe, input) {
        Ok(count) => *input = &input[count..],
        Err(Errno::INTR | Errno::AGAIN) => {}
        // It does not want the rest.
        Err(_) => *input = &[],
    }
}

/// Ends everything that the program started, and the program; answers how that one ended.
fn end_all(leader: Pid) -> io::Result<WaitStatus> {
    // SAFETY-CRITICAL: as process 1 of the jail `-1` means every process of the jail. Anywhere else it means every
    // process of the machine.
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
