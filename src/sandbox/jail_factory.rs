//! Creates jails: processes of this same executable, each with one socket.
//!
//! *Promises.* [`JailFactory::drained`] returns when the last jail is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use ai_factory_ports::sandbox::{Program, SandboxError};
use ai_factory_schemas::run::Isolation;
use rustix::thread::CapabilitySet;
use tokio::{net::UnixStream, process::Command, sync::watch};

use super::{
    cgroup::Cgroups,
    dependencies::{self, Dependencies, DependencyFinder},
    directory::{self, unique},
    frames,
    jail::{
        STAGE_ARGUMENT,
        message::{Interpreter, JailReply, RunUser, Setup},
        namespaces,
        root::BOX,
    },
    jail_handle::{JailHandle, JailProcess, broken, failed},
    jail_layers::{JailLayers, JailLevel},
    language::{FoundInterpreter, LanguageSpec},
    layer::IsolationLayer,
    limits::RunLimits,
    settings::SandboxSettings,
};

/// Timeout for a jail to become ready. It takes some 20 ms, most of them for the interpreter.
const READY_MAX: Duration = Duration::from_secs(15);
/// User ids of runs, as root: a range that is assigned to nobody. systemd's allocations end below
/// it.
const OWN_IDS: std::ops::Range<u32> = 0x7000_0000..0x7fff_0000;
/// The length of the range in `/proc/self/uid_map` where every user of the machine is mapped.
const ALL_IDS: u64 = 4_294_967_295;
/// One MiB, for interpreters with limits in MiB.
const MIB: u64 = 1024 * 1024;

/// What a jail is made for: the kernel fixes these limits when it is made, before its program is
/// known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JailSize {
    /// The limits of the settings.
    Usual,
    /// Room for a workspace in addition, and any processor time.
    Large,
}

impl JailSize {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Usual, Self::Large];

    /// The size that a program needs.
    pub(super) fn of(program: &Program, limits: &RunLimits) -> Self {
        let is_long = program.cpu_max.is_some_and(|max| max > Duration::from_secs(limits.cpu_s));
        if program.workspace.is_some() || is_long { Self::Large } else { Self::Usual }
    }
}

/// What all jails of a factory share.
pub(super) struct JailFactory {
    layers: Arc<JailLayers>,
    program: PathBuf,
    limits: RunLimits,
    guard_max: Duration,
    namespaces_outside: BTreeMap<String, String>,
    cgroups: Option<Arc<Cgroups>>,
    dependencies: DependencyFinder,
    /// Number of living jails.
    living: watch::Sender<usize>,
}

impl JailFactory {
    /// Detects what this machine supports. Blocks briefly.
    pub(super) fn new(
        level: JailLevel,
        settings: &SandboxSettings,
        without: &BTreeSet<IsolationLayer>,
    ) -> Self {
        let rights = match level {
            JailLevel::Full => CapabilitySet::SYS_ADMIN,
            JailLevel::Reduced(_) => CapabilitySet::SETUID | CapabilitySet::SETGID,
        };
        let cgroups = Cgroups::find();
        let layers = JailLayers {
            level,
            without: settings.without.union(without).copied().collect(),
            is_root: rustix::process::geteuid().is_root() && has(rights),
            has_cgroups: cgroups.is_some(),
        };
        Self {
            layers: Arc::new(layers),
            program: settings.guardian.clone(),
            limits: settings.limits.clone(),
            guard_max: Duration::from_millis(settings.guard_ms_max),
            namespaces_outside: namespaces::current().unwrap_or_default(),
            cgroups,
            dependencies: DependencyFinder::new(settings),
            living: watch::Sender::new(0),
        }
    }

    /// The layers of its jails.
    pub(super) fn layers(&self) -> &JailLayers {
        &self.layers
    }

    /// Whether programs can use what the settings name.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub(super) fn check(&self, settings: &SandboxSettings) -> Result<(), String> {
        dependencies::check(settings, self.runs_as_other_user())
    }

    /// Whether programs can reach an interpreter.
    ///
    /// # Errors
    /// A sentence with what is in the way.
    pub(super) fn check_interpreter(&self, interpreter: &Path) -> Result<(), String> {
        dependencies::check_interpreter(interpreter, self.runs_as_other_user())
    }

    /// Whether programs run as a user of their own on this machine's file tree.
    fn runs_as_other_user(&self) -> bool {
        self.layers.is_root && self.layers.level != JailLevel::Full
    }

    /// The isolation that is intended for every run.
    pub(super) fn isolation(&self) -> Isolation {
        self.layers.isolation(&self.layers.expected(), &self.limits, None)
    }

    /// The limits of a jail, if it has a working directory of limited size: a directory on disk is
    /// bounded only by free space.
    pub(super) fn box_limits(&self, size: JailSize) -> Option<RunLimits> {
        (self.layers.level == JailLevel::Full).then(|| self.limits_of(size))
    }

    fn limits_of(&self, size: JailSize) -> RunLimits {
        match size {
            JailSize::Usual => self.limits.clone(),
            JailSize::Large => self.limits.enlarged(),
        }
    }

    /// Waits until no jail is left.
    pub(super) async fn drained(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.living.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Creates a jail and waits until it is ready. `spec` is `None` for a probe without an
    /// interpreter; `is_warm` starts one that can wait for its program.
    pub(super) async fn make(
        self: &Arc<Self>,
        spec: Option<(&'static LanguageSpec, &FoundInterpreter)>,
        size: JailSize,
        is_warm: bool,
    ) -> Result<JailHandle, SandboxError> {
        let directory = match &self.layers.level {
            JailLevel::Full => None,
            JailLevel::Reduced(_) if self.layers.is_root => Some(directory::shared()),
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
            tokio::task::spawn_blocking(move || jails.start(interpreter, size, directory)).await;
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
        size: JailSize,
        directory: Option<PathBuf>,
    ) -> io::Result<JailHandle> {
        let limits = self.limits_of(size);
        let wants_cgroup = self.layers.sets_up(IsolationLayer::MemoryCgroup);
        let cgroups = self.cgroups.as_ref().filter(|_| wants_cgroup);
        let cgroup = cgroups.map(|cgroups| cgroups.create(&limits)).transpose()?;
        let files = cgroups.zip(cgroup.as_ref()).map(|(cgroups, group)| cgroups.files(group));
        let setup = Setup {
            identity: self.identity(),
            cgroup: files,
            interpreter,
            limits: limits.clone(),
            namespaces_outside: self.namespaces_outside.clone(),
            without: IsolationLayer::ALL
                .into_iter()
                .filter(|layer| !self.layers.sets_up(*layer))
                .collect(),
            directory: directory.clone(),
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
            layers: Arc::clone(&self.layers),
            limits: RunLimits { cpu_s: self.limits.cpu_s, ..limits },
            guard_max: self.guard_max,
            cgroups: self.cgroups.clone(),
            living: self.living.clone(),
            parts: Some(JailProcess {
                process,
                socket: UnixStream::from_std(ours)?,
                cgroup,
                directory,
            }),
            active: Vec::new(),
            born: Instant::now(),
        })
    }

    fn identity(&self) -> RunUser {
        let uid = rustix::process::geteuid().as_raw();
        match self.layers.level {
            _ if self.layers.is_root => RunUser::Own { id: own_id() },
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
