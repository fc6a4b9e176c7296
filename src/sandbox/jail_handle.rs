//! A jail as the factory sees it: one process and one socket.
//!
//! *Promises.* However a member ends, its processes are ended and its control group is removed;
//! [`JailFactory::drained`] returns when the last one is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ai_factory_ports::{
    sandbox::{Program, ProgramFile, ProgramOutcome, SandboxError},
    trace::is_traceparent,
};
use ai_factory_schemas::run::{Isolation, IsolationLevel};
use rustix::thread::CapabilitySet;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
    runtime::Handle,
    sync::watch,
};

use super::{
    answer::ProgramEnd,
    cgroup::{Cgroup, Cgroups},
    dependencies::{self, Dependencies, DependencyFinder},
    directory::{self, unique},
    frames,
    jail::{
        STAGE_ARGUMENT,
        message::{
            FileHeader, Interpreter, JailExit, JailFailure, JailOrder, JailReply, RunUser, Setup,
        },
        namespaces,
        root::BOX,
    },
    language::{FoundInterpreter, LanguageSpec},
    layer::IsolationLayer,
    limits::RunLimits,
    settings::{SandboxSettings, WALL_MS_MAX},
};

/// Timeout for a jail to become ready. It takes some 20 ms, most of them for the interpreter.
const READY_MAX: Duration = Duration::from_secs(15);
/// Timeout for a jail's end after its socket is closed; longer than stage one allows init.
const END_MAX: Duration = Duration::from_secs(3);
/// User ids of runs, as root: a range that is assigned to nobody. systemd's allocations end below
/// it.
const OWN_IDS: std::ops::Range<u32> = 0x7000_0000..0x7fff_0000;
/// The length of the range in `/proc/self/uid_map` where every user of the machine is mapped.
const ALL_IDS: u64 = 4_294_967_295;
/// The layer that is named when the failure was in none of the layers.
const JAIL: &str = "jail";
/// One MiB, for interpreters with limits in MiB.
const MIB: u64 = 1024 * 1024;

/// The level of a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JailLevel {
    /// Every layer, with a private root.
    Full,
    /// The layers that need no namespace, in directories of the machine; for an ordinary user they
    /// are below this path.
    Reduced(PathBuf),
}

/// What all jails of a factory share.
pub(super) struct JailFactory {
    level: JailLevel,
    program: PathBuf,
    pub(super) limits: RunLimits,
    /// Layers that a test leaves out.
    without: BTreeSet<IsolationLayer>,
    guard_max: Duration,
    namespaces_outside: BTreeMap<String, String>,
    is_root: bool,
    cgroups: Option<Arc<Cgroups>>,
    dependencies: DependencyFinder,
    /// Number of living jails.
    living: watch::Sender<usize>,
}

impl JailFactory {
    /// Detects what this machine supports. Blocks briefly.
    pub(super) fn new(level: JailLevel, settings: &SandboxSettings) -> Self {
        let rights = match level {
            JailLevel::Full => CapabilitySet::SYS_ADMIN,
            JailLevel::Reduced(_) => CapabilitySet::SETUID | CapabilitySet::SETGID,
        };
        Self {
            level,
            program: settings.guardian.clone(),
            limits: settings.limits.clone(),
            without: settings.without.clone(),
            guard_max: Duration::from_millis(settings.guard_ms_max),
            namespaces_outside: namespaces::current().unwrap_or_default(),
            is_root: rustix::process::geteuid().is_root() && has(rights),
            cgroups: Cgroups::find(),
            dependencies: DependencyFinder::new(settings),
            living: watch::Sender::new(0),
        }
    }

    /// Leaves out further layers.
    pub(super) fn without(mut self, layers: &BTreeSet<IsolationLayer>) -> Self {
        self.without.extend(layers);
        self
    }

    /// Whether programs can use what the settings name.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub(super) fn check(&self, settings: &SandboxSettings) -> Result<(), String> {
        dependencies::check(settings, self.is_root && self.level != JailLevel::Full)
    }

    /// Whether the content of the working directory is limited: a directory on disk is bounded only
    /// by free space.
    pub(super) fn limits_box(&self) -> bool {
        self.level == JailLevel::Full
    }

    /// Waits until no jail is left.
    pub(super) async fn drained(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.living.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Whether a layer belongs to the complete set here: root needs no user namespace.
    fn wants(&self, layer: IsolationLayer) -> bool {
        layer != IsolationLayer::UserNamespace || !self.is_root
    }

    /// Whether a layer belongs to the level. At `reduced` an ordinary user keeps its identity and
    /// has no privileges to drop.
    pub(super) fn has_in_level(&self, layer: IsolationLayer) -> bool {
        self.wants(layer)
            && match self.level {
                JailLevel::Full => true,
                JailLevel::Reduced(_) => {
                    layer.is_in_reduced()
                        && (self.is_root
                            || !matches!(
                                layer,
                                IsolationLayer::User | IsolationLayer::Capabilities
                            ))
                }
            }
    }

    fn sets_up(&self, layer: IsolationLayer) -> bool {
        self.has_in_level(layer) && !self.without.contains(&layer)
    }

    /// The layers that must be in force.
    pub(super) fn expected(&self) -> Vec<IsolationLayer> {
        let has = |layer: &IsolationLayer| {
            self.sets_up(*layer)
                && (*layer != IsolationLayer::MemoryCgroup || self.cgroups.is_some())
        };
        IsolationLayer::ALL.into_iter().filter(has).collect()
    }

    /// The active isolation, in the form of records.
    pub(super) fn isolation(&self, active: &[IsolationLayer], wall_ms: Option<u64>) -> Isolation {
        let missing = IsolationLayer::ALL.into_iter().filter(|layer| self.wants(*layer));
        let missing = missing.filter(|layer| !active.contains(layer));
        let mut limits = self.limits.by_name();
        let level = match self.level {
            JailLevel::Full => IsolationLevel::Full,
            JailLevel::Reduced(_) => {
                // Nothing limits the content of a directory on disk.
                limits.retain(|name, _| !RunLimits::OF_PRIVATE_ROOT.contains(&name.as_str()));
                IsolationLevel::Reduced
            }
        };
        limits.extend(wall_ms.map(|wall_ms| ("wall_ms".to_owned(), wall_ms)));
        Isolation {
            level,
            active: active.iter().map(|layer| layer.name().to_owned()).collect(),
            missing: missing.map(|layer| layer.name().to_owned()).collect(),
            limits,
        }
    }

    /// Creates a jail and waits until it is ready. `spec` is `None` for a probe without an
    /// interpreter.
    pub(super) async fn make(
        self: &Arc<Self>,
        spec: Option<(&'static LanguageSpec, &FoundInterpreter)>,
        is_warm: bool,
    ) -> Result<JailHandle, SandboxError> {
        let directory = match &self.level {
            JailLevel::Full => None,
            JailLevel::Reduced(_) if self.is_root => Some(directory::shared()),
            JailLevel::Reduced(tmp_dir) => Some(tmp_dir.clone()),
        };
        let directory =
            directory.map(|parent| std::path::absolute(parent.join(directory::new_name())));
        let directory = directory.transpose().map_err(|error| broken(None, error.to_string()))?;
        let dependencies = match spec {
            Some(_) => self.dependencies.get().await.clone(),
            None => Dependencies::default(),
        };
        let interpreter = self.interpreter(spec, is_warm, directory.as_deref(), dependencies);
        let jails = Arc::clone(self);
        // Creating a process and a control group blocks a thread for one millisecond.
        let started =
            tokio::task::spawn_blocking(move || jails.start(interpreter, directory)).await;
        let started = started.unwrap_or_else(|error| Err(io::Error::other(error)));
        let mut member = started.map_err(|error| broken(None, format!("cannot start: {error}")))?;
        let ready = tokio::time::timeout(READY_MAX, member.answer()).await;
        match ready.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
            Ok(JailReply::Ready { active }) => {
                member.active = active;
                Ok(member)
            }
            Ok(JailReply::Failed(failure)) => Err(failed(&failure)),
            Ok(JailReply::Ended(_)) => Err(broken(None, "it answered before it was asked")),
            Err(error) => Err(broken(None, format!("it did not become ready: {error}"))),
        }
    }

    fn interpreter(
        &self,
        spec: Option<(&LanguageSpec, &FoundInterpreter)>,
        is_warm: bool,
        directory: Option<&Path>,
        dependencies: Dependencies,
    ) -> Interpreter {
        let Some((spec, found)) = spec else { return Interpreter::default() };
        let owned = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        let mut cold = owned(spec.cold);
        cold.extend(spec.memory_argument.map(|argument| {
            // A quarter is left for memory outside its heap.
            format!("{argument}{}", self.limits.memory_bytes / MIB * 3 / 4)
        }));
        let warm = spec.warm.filter(|_| is_warm);
        let Dependencies { directories, programs, node_modules } = dependencies;
        let mut environment = match directory {
            Some(directory) => spec.environment_in(directory, directory, &programs),
            None => spec.environment_in(Path::new(BOX), Path::new("/tmp"), &programs),
        };
        // For programs outside of the working directory, and at the level without a private root.
        if let Some(place) = &node_modules {
            environment.insert("NODE_PATH".to_owned(), place.display().to_string());
        }
        let mut prefixes = [found.prefixes.clone(), directories].concat();
        prefixes.sort();
        prefixes.dedup();
        Interpreter {
            path: found.path.clone(),
            prefixes,
            node_modules,
            warm: warm.map(|further| [cold.clone(), owned(further)].concat()),
            cold,
            environment,
            dumps_stack: spec.dumps_stack,
            reserves_memory: spec.memory_argument.is_some(),
        }
    }

    fn start(
        self: &Arc<Self>,
        interpreter: Interpreter,
        directory: Option<PathBuf>,
    ) -> io::Result<JailHandle> {
        let wants_cgroup = self.sets_up(IsolationLayer::MemoryCgroup);
        let cgroups = self.cgroups.as_ref().filter(|_| wants_cgroup);
        let cgroup = cgroups.map(|cgroups| cgroups.create(&self.limits)).transpose()?;
        let files = cgroups.zip(cgroup.as_ref()).map(|(cgroups, group)| cgroups.files(group));
        let setup = Setup {
            identity: self.identity(),
            cgroup: files,
            interpreter,
            limits: self.limits.clone(),
            namespaces_outside: self.namespaces_outside.clone(),
            without: IsolationLayer::ALL
                .into_iter()
                .filter(|layer| !self.sets_up(*layer))
                .collect(),
            directory,
        };
        let (ours, theirs) = StdUnixStream::pair()?;
        let process = Command::new(&self.program)
            // The name shown in process lists.
            .arg0("ai-factory")
            .arg(STAGE_ARGUMENT)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Stage one reads the first frame, init the second. Both fit into the socket's buffer.
        let frame = frames::frame(&setup)?;
        io::Write::write_all(&mut &ours, &[&frame[..], &frame[..]].concat())?;
        ours.set_nonblocking(true)?;
        self.living.send_modify(|count| *count += 1);
        Ok(JailHandle {
            jails: Arc::clone(self),
            parts: Some(JailProcess { process, socket: UnixStream::from_std(ours)?, cgroup }),
            active: Vec::new(),
            born: Instant::now(),
        })
    }

    fn identity(&self) -> RunUser {
        let uid = rustix::process::geteuid().as_raw();
        match self.level {
            _ if self.is_root => RunUser::Own { id: own_id() },
            JailLevel::Full => RunUser::Mapped {
                outside_uid: uid,
                outside_gid: rustix::process::getegid().as_raw(),
            },
            JailLevel::Reduced(_) => RunUser::Same { uid },
        }
    }
}

/// Whether root has the required capabilities: in most containers it can create namespaces only
/// inside a user namespace.
fn has(rights: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(rights))
}

/// A user id that no other run has. On a system with few ids, one of the highest.
fn own_id() -> u32 {
    let [.., a, b, c, d] = *unique().as_bytes();
    let chance = u32::from_be_bytes([a, b, c, d]);
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let last = map.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
        Some((fields.next()??, fields.nth(1)??))
    });
    let range = match last.max() {
        Some((first, count)) if count < ALL_IDS => {
            let end = u32::try_from(first + count).unwrap_or(u32::MAX);
            let few = u32::try_from(count / 2).unwrap_or(u32::MAX).max(1);
            end - few..end
        }
        _ => OWN_IDS,
    };
    range.start + chance % (range.end - range.start)
}

/// A jail that is ready for one program.
pub(super) struct JailHandle {
    jails: Arc<JailFactory>,
    /// Taken on drop.
    parts: Option<JailProcess>,
    active: Vec<IsolationLayer>,
    pub(super) born: Instant,
}

struct JailProcess {
    process: Child,
    socket: UnixStream,
    cgroup: Option<Cgroup>,
}

impl JailHandle {
    /// Ready once the jail has sent an unsolicited message: then it is lost.
    pub(super) fn poll_lost(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(JailProcess { socket, .. }) = &self.parts else { return Poll::Ready(()) };
        loop {
            match socket.poll_read_ready(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => {}
            }
            // A socket counts as readable until a read fails, so only a read shows its state.
            let tried = socket.try_read(&mut [0; 1]);
            if !tried.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Poll::Ready(());
            }
        }
    }

    /// The layers that were verified to be in force.
    pub(super) fn active(&self) -> &[IsolationLayer] {
        &self.active
    }

    /// Runs a program, in a file with the name `file`, until it ends or the jail's time is over.
    pub(super) async fn run(
        &mut self,
        program: Program,
        file: String,
    ) -> Result<ProgramOutcome, SandboxError> {
        let wall_ms = u64::try_from(program.wall_max.as_millis()).unwrap_or(u64::MAX);
        let wall_ms = wall_ms.min(WALL_MS_MAX);
        let time_max = Duration::from_millis(wall_ms) + self.jails.guard_max;
        let ended = tokio::time::timeout(time_max, self.converse(program, file, wall_ms)).await;
        match ended.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
            Ok(answer) => answer,
            Err(error) => Err(broken(None, format!("the jail of the run was lost ({error})"))),
        }
    }

    async fn converse(
        &mut self,
        program: Program,
        program_file: String,
        wall_ms: u64,
    ) -> io::Result<Result<ProgramOutcome, SandboxError>> {
        let stdin = program.stdin.unwrap_or_default();
        let header = |file: &ProgramFile| FileHeader {
            name: file.name.clone(),
            bytes: file.bytes.len() as u64,
        };
        let order = JailOrder {
            file: program_file,
            source_bytes: program.source.len() as u64,
            stdin_bytes: stdin.len() as u64,
            files: program.files.iter().map(header).collect(),
            return_files: program.return_files,
            wall_ms,
            traceparent: program.traceparent.filter(|text| is_traceparent(text)),
        };
        let mut message = frames::frame(&order)?;
        message.extend_from_slice(program.source.as_bytes());
        message.extend_from_slice(stdin.as_bytes());
        program.files.iter().for_each(|file| message.extend_from_slice(&file.bytes));
        // If the write fails, the jail has reported why, or is gone.
        let written = self.socket()?.write_all(&message).await;
        let ended = match self.answer().await {
            Ok(JailReply::Ended(ended)) => ended,
            Ok(JailReply::Failed(failure)) => return Ok(Err(failed(&failure))),
            Ok(JailReply::Ready { .. }) => return Err(io::Error::other("it was ready twice")),
            Err(error) => return Err(written.err().unwrap_or(error)),
        };
        let limits = &self.jails.limits;
        let (output_max, files_max) = (limits.output_bytes, limits.files_bytes);
        let stdout = self.raw(ended.stdout.kept_bytes() as u64, output_max).await?;
        let stderr = self.raw(ended.stderr.kept_bytes() as u64, output_max).await?;
        let files = self.files(&ended, files_max).await?;
        let isolation = self.jails.isolation(&self.active, Some(wall_ms));
        let end = ProgramEnd { how: ended.how, duration: Duration::from_micros(ended.duration_us) };
        let outcome = end.outcome([(&stdout, &ended.stdout), (&stderr, &ended.stderr)], isolation);
        Ok(Ok(ProgramOutcome { files, files_left_out: ended.files_left_out, ..outcome }))
    }

    async fn files(&mut self, ended: &JailExit, bytes_max: u64) -> io::Result<Vec<ProgramFile>> {
        let mut files = Vec::with_capacity(ended.files.len());
        for FileHeader { name, bytes } in &ended.files {
            let bytes = self.raw(*bytes, bytes_max).await?;
            files.push(ProgramFile { name: name.clone(), bytes });
        }
        Ok(files)
    }

    /// Reads raw bytes; a jail is not trusted to respect its limits.
    async fn raw(&mut self, bytes: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
        if bytes > bytes_max {
            return Err(io::Error::other("it sends more than it may"));
        }
        let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        self.socket()?.read_exact(&mut content).await?;
        Ok(content)
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut length = [0; 4];
        self.socket()?.read_exact(&mut length).await?;
        let mut json = vec![0; frames::header_length(length)?];
        self.socket()?.read_exact(&mut json).await?;
        frames::header(&json)
    }

    fn socket(&mut self) -> io::Result<&mut UnixStream> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.parts.as_mut().map(|parts| &mut parts.socket).ok_or_else(gone)
    }
}

impl Drop for JailHandle {
    /// Closes the socket, which ends everything in the jail; the clean-up follows in a task.
    fn drop(&mut self) {
        let Some(JailProcess { mut process, socket, cgroup }) = self.parts.take() else { return };
        drop(socket);
        let living = JailCount(self.jails.living.clone());
        let cgroups = self.jails.cgroups.clone();
        let clean_up = async move {
            if tokio::time::timeout(END_MAX, process.wait()).await.is_err() {
                let _ = process.start_kill();
                let _ = process.wait().await;
            }
            if let (Some(cgroups), Some(cgroup)) = (cgroups, cgroup) {
                cgroups.remove(cgroup);
            }
            drop(living);
        };
        // Without a runtime this process is about to end, and the socket is already closed.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(clean_up);
        }
    }
}

/// Counts a jail during its lifetime.
struct JailCount(watch::Sender<usize>);

impl Drop for JailCount {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

fn broken(layer: Option<IsolationLayer>, message: impl Into<String>) -> SandboxError {
    SandboxError::Broken {
        layer: layer.map_or(JAIL, IsolationLayer::name),
        message: message.into(),
    }
}

/// The port's error, with the remedy where one is known.
fn failed(failure: &JailFailure) -> SandboxError {
    let message = match failure.layer {
        Some(layer) => format!("{}; to turn it on: {}", failure.message, layer.remedy()),
        None => failure.message.clone(),
    };
    broken(failure.layer, message)
}
