//! Init: process 1 of the jail. Builds the private root, locks itself down, and runs one program in
//! it.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    time::Duration,
};

use rustix::event::PollFlags;

use super::{
    super::{
        descriptor, frames, layer::IsolationLayer, output::Capture, poll::wait_for, processes,
    },
    access, collected_files, confine,
    credentials::{self, Rights},
    files,
    message::{JailExit, JailFailure, JailOrder, JailReply, Setup, TreeOrder},
    namespaces,
    program::{CgroupHandle, JailProgram, ProgramStart, ProgramWatch},
    root, syscalls, usage,
    workspace::{WORKSPACE_NAME, Workspace, WorkspaceChanges},
};

/// The first argument of init.
pub const INIT_ARGUMENT: &str = "__init";

/// Working directory of programs in a jail without a private root; exists in tests only.
const BOX_WITHOUT_ROOT: &str = "/tmp";

/// Entry point: `main` calls it before anything else when the first argument is [`INIT_ARGUMENT`].
pub fn init_main() -> ExitCode {
    match init() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Fails only if no report is possible.
fn init() -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let setup: Setup = frames::read_header(&mut socket)?;
    match Jail::make(&setup) {
        Ok(jail) => jail.serve(&mut socket),
        Err(failure) => frames::write_frame(&mut socket, &JailReply::Failed(failure), &[]),
    }
}

/// A jail with all layers in force, in which the interpreter waits if it can.
struct Jail<'a> {
    setup: &'a Setup,
    active: Vec<IsolationLayer>,
    cgroup: Option<CgroupHandle>,
    /// Held open, so that no path has to be trusted.
    directory: OwnedFd,
    waiting: Option<JailProgram>,
}

/// An order with its raw data.
struct RunPayload {
    order: JailOrder,
    source: Vec<u8>,
    stdin: Vec<u8>,
    files: Vec<Vec<u8>>,
    /// Its list and the memory with its contents.
    workspace: Option<(TreeOrder<'static>, OwnedFd)>,
}

/// A run that is over, with the raw bytes of its report.
struct FinishedRun {
    exit: JailExit,
    streams: [Capture; 2],
    files: Vec<u8>,
    workspace: [Vec<u8>; 2],
}

impl<'a> Jail<'a> {
    fn make(setup: &'a Setup) -> Result<Self, JailFailure> {
        usage::learn_units();
        processes::adopt_orphans()
            .map_err(|error| JailFailure::other("adopting orphans", error))?;
        let cgroup = match &setup.cgroup {
            Some(files) if setup.has(IsolationLayer::MemoryCgroup) => {
                Some(CgroupHandle::open(files).map_err(|error| {
                    JailFailure::of(
                        IsolationLayer::MemoryCgroup,
                        "opening the control group",
                        error,
                    )
                })?)
            }
            _ => None,
        };
        let mut active = namespaces::verify(setup)?;
        let directory = enter_root(setup, &mut active)?;
        if setup.has(IsolationLayer::ResourceLimits) {
            setup
                .limits
                .enforce(setup.interpreter.reserves_memory, usage::processes_beside(setup))
                .map_err(|error| {
                    JailFailure::of(IsolationLayer::ResourceLimits, "limiting resources", error)
                })?;
        }
        lock_down(setup)?;
        let later = setup.confines_program_alone().then_some(IsolationLayer::Seccomp);
        active.extend(Rights::read("self").map_err(unread)?.verify(setup, later)?);
        active.extend(later.filter(|layer| setup.has(*layer)));
        let others = [
            IsolationLayer::Descriptors,
            IsolationLayer::NotDumpable,
            IsolationLayer::ResourceLimits,
            IsolationLayer::Landlock,
        ];
        active.extend(others.into_iter().filter(|layer| setup.has(*layer)));
        active.extend(cgroup.is_some().then_some(IsolationLayer::MemoryCgroup));
        active.sort();
        if setup.confines_program_alone() && setup.interpreter.path.as_os_str().is_empty() {
            confine::try_out(setup)?;
        }
        let mut jail = Self { setup, active, cgroup, directory, waiting: None };
        if let Some(arguments) = &setup.interpreter.warm {
            let start = ProgramStart { arguments, directory: None, environment: None };
            jail.waiting = Some(jail.start(&start, true)?);
        }
        Ok(jail)
    }

    fn start(&self, start: &ProgramStart<'_>, is_warm: bool) -> Result<JailProgram, JailFailure> {
        let program = JailProgram::start(self.setup, self.cgroup.as_ref(), start, is_warm)?;
        // Children inherit what init has; verified all the same.
        let rights = Rights::read(&program.leader().as_raw_nonzero().to_string());
        match rights {
            Ok(rights) => rights.verify(self.setup, None)?,
            // A short program may have ended.
            Err(_) if !is_warm => Vec::new(),
            Err(error) => return Err(unread(error)),
        };
        Ok(program)
    }

    /// Serves one order with one answer. Returns without an answer when the factory is gone.
    fn serve(mut self, socket: &mut UnixStream) -> io::Result<()> {
        let ready = JailReply::Ready { active: self.active.clone() };
        frames::write_frame(socket, &ready, &[])?;
        match &self.waiting {
            Some(program) => {
                if !program.idle(socket.as_fd())? {
                    let message = "the interpreter ended while it waited for a program".to_owned();
                    let failure = JailFailure { layer: None, message };
                    return frames::write_frame(socket, &JailReply::Failed(failure), &[]);
                }
            }
            None => {
                wait_for([Some((socket.as_fd(), PollFlags::IN))], None)?;
            }
        }
        let Ok(order) = frames::read_header(socket) else { return Ok(()) };
        let payload = receive(socket, order)?;
        match self.run(socket, payload) {
            Ok(Some(mut over)) => {
                let [stdout, stderr] = over.streams.each_mut().map(|stream| stream.kept.parts());
                let [list, contents] = &over.workspace;
                let raw = [stdout.0, stdout.1, stderr.0, stderr.1, &over.files, list, contents];
                frames::write_frame(socket, &JailReply::Ended(over.exit), &raw)
            }
            Ok(None) => Ok(()),
            Err(failure) => frames::write_frame(socket, &JailReply::Failed(failure), &[]),
        }
    }

    fn run(
        &mut self,
        socket: &UnixStream,
        payload: RunPayload,
    ) -> Result<Option<FinishedRun>, JailFailure> {
        let RunPayload { order, source, stdin, files, workspace } = payload;
        let unwritten = |name: &str| {
            let what = format!("writing `{name}`");
            move |error| JailFailure::other(what, error)
        };
        for (file, content) in order.files.iter().zip(&files) {
            files::write(&self.directory, &file.name, content).map_err(unwritten(&file.name))?;
        }
        files::write(&self.directory, &order.file, &source).map_err(unwritten(&order.file))?;
        let unpack = |(tree, contents)| Workspace::unpack(&self.directory, tree, contents);
        let unpacked = workspace.map(unpack).transpose();
        let workspace = unpacked.map_err(unwritten("the workspace"))?;
        let (program, input) = self.begin(&order, &stdin)?;
        let watch = ProgramWatch {
            setup: self.setup,
            cgroup: self.cgroup.as_ref(),
            socket: socket.as_fd(),
            wall: Duration::from_millis(order.wall_ms),
            cpu_ms_max: order.cpu_ms,
        };
        let Some(mut over) = watch.run(program, &input)? else { return Ok(None) };
        let changes = workspace.as_ref().and_then(|it| it.changes(&self.directory));
        let (root, program) = match &workspace {
            Some(workspace) => (workspace.root(), None),
            None => (&self.directory, Some((order.file.as_str(), source.as_slice()))),
        };
        let returned =
            collected_files::collect(root, &order.return_files, program, &self.setup.limits);
        let [stdout, stderr] = over.streams.each_mut().map(Capture::header);
        let changes = changes.map(WorkspaceChanges::into_parts).transpose();
        let changes =
            changes.map_err(|error| JailFailure::other("listing the workspace", error))?;
        let exit = JailExit {
            how: over.how,
            duration_us: u64::try_from(over.duration.as_micros()).unwrap_or(u64::MAX),
            stdout,
            stderr,
            files: returned.files,
            files_left_out: returned.left_out,
            workspace: changes.as_ref().map(|(bytes, _)| *bytes),
        };
        let workspace = changes.map(|(_, parts)| parts).unwrap_or_default();
        let (streams, files) = (over.streams, returned.contents);
        Ok(Some(FinishedRun { exit, streams, files, workspace }))
    }

    /// Begins the program in the working directory; returns it with its input.
    fn begin(
        &mut self,
        order: &JailOrder,
        stdin: &[u8],
    ) -> Result<(JailProgram, Vec<u8>), JailFailure> {
        let directory = order.workspace.map(|_| WORKSPACE_NAME);
        let traceparent = order.traceparent.as_deref();
        if let Some(mut program) = self.waiting.take() {
            program.begin();
            // The lines that a waiting interpreter reads; the program's own input follows.
            let lines =
                [&order.file, traceparent.unwrap_or_default(), directory.unwrap_or_default()];
            let words = lines.map(|line| format!("{line}\n")).concat();
            return Ok((program, [words.as_bytes(), stdin].concat()));
        }
        let mut arguments = self.setup.interpreter.cold.clone();
        let above = directory.map_or("", |_| "../");
        arguments.push(format!("{above}{}", order.file));
        let traceparent = traceparent.map(|value| ("TRACEPARENT", value));
        let start = ProgramStart { arguments: &arguments, directory, environment: traceparent };
        Ok((self.start(&start, false)?, stdin.to_vec()))
    }
}

fn unread(error: io::Error) -> JailFailure {
    JailFailure::other("reading /proc/<pid>/status", error)
}

/// Enters the private root, or in its place a private directory; returns the working directory.
fn enter_root(setup: &Setup, active: &mut Vec<IsolationLayer>) -> Result<OwnedFd, JailFailure> {
    if let Some(directory) = &setup.directory {
        let entered = std::env::set_current_dir(directory).and_then(|()| files::open_root("."));
        let what = format!("entering the directory of the run, {}", directory.display());
        return entered.map_err(|error| JailFailure::other(what, error));
    }
    if !setup.has(IsolationLayer::MountNamespace) {
        let message = "a jail requires mounts of its own".to_owned();
        return Err(JailFailure { layer: Some(IsolationLayer::MountNamespace), message });
    }
    let directory = if setup.has(IsolationLayer::PrivateRoot) {
        root::enter(setup)?;
        root::verify()?;
        active.push(IsolationLayer::PrivateRoot);
        root::BOX
    } else {
        root::cover(BOX_WITHOUT_ROOT, setup)?;
        BOX_WITHOUT_ROOT
    };
    files::open_root(directory).map_err(|error| {
        JailFailure::of(IsolationLayer::PrivateRoot, "opening the directory of the run", error)
    })
}

/// Reduces this process to the privileges of the program.
fn lock_down(setup: &Setup) -> Result<(), JailFailure> {
    credentials::give_up(setup)?;
    if setup.has(IsolationLayer::NoNewPrivileges) {
        rustix::thread::set_no_new_privs(true).map_err(|error| {
            JailFailure::of(IsolationLayer::NoNewPrivileges, "forbidding new rights", error)
        })?;
    }
    if setup.confines_program_alone() {
        return Ok(());
    }
    if setup.has(IsolationLayer::Landlock) {
        access::confine(setup)?;
    }
    if setup.has(IsolationLayer::Seccomp) {
        syscalls::filter(setup)?;
    }
    Ok(())
}

/// Reads the raw bytes of an order, as many as its header announces.
fn receive(socket: &mut UnixStream, order: JailOrder) -> io::Result<RunPayload> {
    let mut next = |bytes: u64| {
        let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        socket.read_exact(&mut content)?;
        Ok::<_, io::Error>(content)
    };
    let source = next(order.source_bytes)?;
    let stdin = next(order.stdin_bytes)?;
    let files = order.files.iter().map(|file| next(file.bytes)).collect::<Result<_, _>>()?;
    let workspace = match order.workspace {
        Some(list_bytes) => {
            let list = next(list_bytes)?;
            Some((serde_json::from_slice(&list)?, descriptor::receive(socket)?))
        }
        None => None,
    };
    Ok(RunPayload { order, source, stdin, files, workspace })
}
