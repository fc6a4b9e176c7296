//! The actors over real journal, projections and bus, with a sandbox that does what the test says:
//! admission, keys, cancel, deadlines, panics and escalation.

pub(crate) use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(crate) use ai_factory::{
    bus::local::{LocalBus, LocalBusSettings},
    clock::{SystemClock, SystemIds},
    embedding::BuiltIn,
    journal::{JournalSettings, RedbJournal},
    projection::{Access, ProjectionError, ProjectionSettings, Projections},
    relay::{Checkpoint, Relay},
};
pub(crate) use ai_factory_actors::{
    deps::Deps,
    limits::{Limits, ModelLimits},
    mask::Mask,
    metrics::ActorMetrics,
    session_registry::SessionRegistry,
    tree::Tree,
};
pub(crate) use ai_factory_ports::{
    bus::{Bus, Headers, Subscription, header},
    clock::Clock,
    embedder::Embedder,
    journal::{
        Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
    },
    model::{Model, NoModel},
    request_reply,
    sandbox::{CapturedOutput, Language, Program, ProgramOutcome, Sandbox, SandboxError},
    trace::NoTraces,
    views::Views,
};
pub(crate) use ai_factory_schemas::{
    answer::{
        Dispatched, Forgotten, Imported, LogRow, NoteOutcome, Remembered, RunAnswer, SearchAnswer,
        SessionAnswer, SessionRow, SessionStatusAnswer, SessionStory, Submitted,
    },
    envelope::Recorded,
    event::Event,
    file::RunFile,
    id::{CommandId, MemoryId, StreamId},
    memory::MemoryEvent,
    plan::TaskType,
    problem::Problem,
    request::{Dispatch, Forget, Goal, Newest, Remember, Resolve, SearchRuns, SessionSelector},
    run::{EndedBy, FileLeftOut, Isolation, IsolationLevel, RunStatus},
    session::{Resolution, SessionEnd, SessionStatus},
    subject::{Operation, Subjects, operation},
    text::BlobHash,
    time::Timestamp,
    workspace::WorkspaceLimits,
};
use ai_factory_tail::Tail;
pub(crate) use serde::{Serialize, de::DeserializeOwned};
pub(crate) use tempfile::TempDir;
pub(crate) use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
pub(crate) use uuid::Uuid;

use super::files;
use crate::support::memory_uploads::MemoryUploads;

/// How many events may wait for a test.
const EVENTS_WAITING_MAX: usize = 10_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Programs are words: `exit N`, `hang`, `panic`, `wait` (until the gate opens), `cat`, `flood N`
/// (prints so many bytes); all else is printed. On a workspace each line is one of
/// [`files::run`], up to the first that is none.
pub(crate) struct Scripted {
    pub(crate) runs: AtomicUsize,
    pub(crate) gate: Semaphore,
    repeatable: bool,
    level: IsolationLevel,
}

#[async_trait::async_trait]
impl Sandbox for Scripted {
    fn isolation(&self) -> Isolation {
        Isolation { level: self.level, active: vec!["scripted".into()], ..Isolation::default() }
    }

    fn supports(&self, language: &str) -> bool {
        language == "python"
    }

    async fn languages(&self) -> Vec<Language> {
        vec![Language {
            name: "python",
            aliases: &["python3", "py"],
            interpreter: "/nonexistent".into(),
            version: "3".into(),
        }]
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    async fn run(&self, mut program: Program) -> Result<ProgramOutcome, SandboxError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        if let Some(workspace) = program.workspace.take() {
            let left = files::run(&program.source, workspace).await?;
            let Some(rest) = left.rest else {
                let workspace = left.outcome;
                return Ok(ProgramOutcome { workspace, ..ran(left.exit_code, left.stdout) });
            };
            program.source = rest;
            let plain = self.plain(program).await?;
            return Ok(ProgramOutcome { workspace: left.outcome, ..plain });
        }
        self.plain(program).await
    }
}

impl Scripted {
    async fn plain(&self, program: Program) -> Result<ProgramOutcome, SandboxError> {
        let mut exit_code = 0;
        match program.source.trim().split_once(' ').unwrap_or((program.source.trim(), "")) {
            ("exit", code) => exit_code = code.parse().unwrap(),
            ("hang", _) => std::future::pending().await,
            ("cat", _) => return Ok(echo(program)),
            ("flood", bytes) => return Ok(ran(0, "x".repeat(bytes.parse().unwrap()))),
            ("panic", _) => panic!("the test asked for it"),
            ("wait", _) => self.gate.acquire().await.unwrap().forget(),
            ("broken", _) => {
                return Err(SandboxError::Broken { layer: "test", message: "as told".into() });
            }
            _ => {}
        }
        Ok(ran(exit_code, program.source))
    }
}

pub(super) fn ran(exit_code: i32, stdout: String) -> ProgramOutcome {
    ProgramOutcome {
        exit_code,
        signal: None,
        ended_by: EndedBy::Exit,
        stdout: CapturedOutput { text: stdout, bytes_total: 1 },
        stderr: CapturedOutput::default(),
        duration: Duration::from_millis(1),
        isolation: None,
        files: Vec::new(),
        files_left_out: Vec::new(),
        workspace: None,
    }
}

/// Prints its standard input and leaves the files that it was given.
fn echo(program: Program) -> ProgramOutcome {
    let Program { stdin, files, return_files, .. } = program;
    let left_out = return_files.iter().filter(|name| files.iter().all(|file| file.name != **name));
    let files_left_out = left_out
        .map(|name| FileLeftOut { name: name.clone(), reason: "there is no such file".to_owned() })
        .collect();
    let files = files.into_iter().filter(|file| return_files.contains(&file.name)).collect();
    ProgramOutcome { files, files_left_out, ..ran(0, stdin.unwrap_or_default()) }
}

/// A clock that panics when somebody asks for the time, as often as the test says.
#[derive(Default)]
pub(crate) struct Fragile {
    system: SystemClock,
    pub(crate) panics_left: AtomicUsize,
}

impl Clock for Fragile {
    fn now(&self) -> Timestamp {
        let less_one = |left: usize| left.checked_sub(1);
        let panics = self.panics_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less_one);
        assert!(panics.is_err(), "the test asked for it");
        self.system.now()
    }
}

/// A journal that counts its appends, and has no room for the next ones, as many as the test says.
pub(crate) struct Counted {
    journal: Arc<RedbJournal>,
    pub(crate) appends: AtomicUsize,
    /// Blobs that were to be stored.
    pub(crate) blobs: AtomicUsize,
    /// Events of streams that were loaded.
    pub(crate) loaded: AtomicUsize,
    pub(crate) busy_left: AtomicUsize,
}

#[async_trait::async_trait]
impl Journal for Counted {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let less_one = |left: usize| left.checked_sub(1);
        if self.busy_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less_one).is_ok() {
            return Err(AppendError::Busy { retry_after: Duration::from_millis(1) });
        }
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.blobs.fetch_add(append.blobs.len(), Ordering::SeqCst);
        self.journal.append(append).await
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        let loaded = self.journal.load(stream, after).await?;
        self.loaded.fetch_add(loaded.len(), Ordering::SeqCst);
        Ok(loaded)
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        self.journal.read(after, limit).await
    }

    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.journal.command(id).await
    }

    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.journal.blob(hash).await
    }

    async fn blob_sizes(&self, hashes: Vec<BlobHash>) -> Result<Vec<Option<u64>>, ReadError> {
        self.journal.blob_sizes(hashes).await
    }

    fn head(&self) -> Head {
        self.journal.head()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.journal.watch()
    }

    fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.journal.watch_health()
    }
}

/// Where the journal ended when the factory was started: what came before is not told again.
struct Started(u64);

impl Checkpoint for Started {
    fn load(&self) -> u64 {
        self.0
    }

    fn note(&self, _: u64) {}
}

pub(crate) struct TestFactory {
    dir: TempDir,
    pub(crate) deps: Arc<Deps>,
    pub(crate) sandbox: Arc<Scripted>,
    pub(crate) clock: Arc<Fragile>,
    pub(crate) journal: Arc<RedbJournal>,
    pub(crate) counted: Arc<Counted>,
    projections: Arc<Projections>,
    pub(crate) tree: Option<Tree>,
    relay: JoinHandle<()>,
    /// Events from the start on, as long as nobody has asked for them.
    events: Mutex<Option<Subscription>>,
}

pub(crate) fn limits() -> Limits {
    Limits {
        run_code_bytes_max: ai_factory_schemas::limit::CODE_BYTES_MAX,
        requests_waiting_max: 64,
        sessions_max: 32,
        session_max: Duration::from_mins(1),
        step_max: Duration::from_secs(30),
        session_resumes_max: 3,
        repeat_unknown: true,
        run_wall_max: Duration::from_secs(5),
        check_wall_max: Duration::from_secs(20),
        model: ModelLimits::default(),
        workspace: WorkspaceLimits::default(),
        runs_max: 4,
        runs_waiting_max: 64,
        memory_age_max: None,
        memories_max: None,
        restarts_max: 5,
        restart_window: Duration::from_secs(10),
    }
}

impl TestFactory {
    pub(crate) async fn start() -> Self {
        Self::start_with(limits(), true, TempDir::new().unwrap()).await
    }

    pub(crate) async fn start_with(limits: Limits, repeatable: bool, dir: TempDir) -> Self {
        Self::start_as(limits, repeatable, dir, true, Arc::new(NoModel)).await
    }

    /// A factory with a model, and a sandbox that says of itself that it confines.
    pub(crate) async fn start_with_model(
        limits: Limits,
        dir: TempDir,
        model: Arc<dyn Model>,
    ) -> Self {
        Self::start_as(limits, true, dir, true, model).await
    }

    async fn start_as(
        limits: Limits,
        repeatable: bool,
        dir: TempDir,
        take_up: bool,
        model: Arc<dyn Model>,
    ) -> Self {
        let journal = RedbJournal::open(JournalSettings::new(dir.path())).unwrap();
        let counted = Arc::new(Counted {
            journal: Arc::clone(&journal),
            appends: AtomicUsize::new(0),
            blobs: AtomicUsize::new(0),
            loaded: AtomicUsize::new(0),
            busy_left: AtomicUsize::new(0),
        });
        let port: Arc<dyn Journal> = Arc::clone(&counted) as Arc<dyn Journal>;
        let fragile = Arc::new(Fragile::default());
        let clock: Arc<dyn Clock> = Arc::clone(&fragile) as Arc<dyn Clock>;
        let tail = Tail::new(Arc::clone(&port));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let projections = loop {
            let settings = ProjectionSettings::new(dir.path());
            let (tail, clock) = (Arc::clone(&tail), Arc::clone(&clock));
            let embedder: Arc<dyn Embedder> = Arc::new(BuiltIn::default());
            match Projections::open(settings, tail, clock, embedder, Access::Write) {
                Ok(projections) => break projections,
                // The tasks of the factory before are still letting go of its files.
                Err(busy @ ProjectionError::InUse { .. }) => {
                    assert!(tokio::time::Instant::now() < deadline, "{busy}");
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let level = match model.endpoint(None) {
            Ok(None) => IsolationLevel::Process,
            _ => IsolationLevel::Full,
        };
        let (runs, gate) = (AtomicUsize::new(0), Semaphore::new(0));
        let sandbox = Arc::new(Scripted { runs, gate, repeatable, level });
        let bus: Arc<dyn Bus> = LocalBus::new(LocalBusSettings::default());
        let deps = Arc::new(Deps {
            bus: Arc::clone(&bus),
            journal: Arc::clone(&port),
            views: Arc::clone(&projections) as Arc<dyn Views>,
            sandbox: Arc::clone(&sandbox) as Arc<dyn Sandbox>,
            model,
            mask: Arc::new(Mask::default()),
            uploads: Arc::new(MemoryUploads::new(Arc::new(SystemClock::default()))),
            clock,
            ids: Arc::new(SystemIds),
            traces: Arc::new(NoTraces),
            subjects: Subjects::default(),
            resume_unfinished: take_up,
            ended_in_order: false,
            limits,
            metrics: ActorMetrics::default(),
            sessions: Arc::new(SessionRegistry::default()),
            started: Semaphore::new(0),
            starting: tokio_util::task::TaskTracker::new(),
            name: Uuid::now_v7().to_string(),
        });
        let events = bus.subscribe(deps.subjects.events(), None, EVENTS_WAITING_MAX).await.unwrap();
        let started = Arc::new(Started(port.head().position));
        let relay = Relay::to_bus(tail, bus, Subjects::default(), started);
        let relay = tokio::spawn(relay.run());
        let tree = Some(Tree::start(&deps).await.unwrap());
        let (clock, events) = (fragile, Mutex::new(Some(events)));
        Self { dir, deps, sandbox, clock, journal, counted, projections, tree, relay, events }
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        self.call_keyed(operation, body, None).await
    }

    pub(crate) async fn call_keyed<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &impl Serialize,
        key: Option<&str>,
    ) -> Result<T, Problem> {
        let mut headers = Headers::default();
        if let Some(key) = key {
            headers.set(header::MESSAGE_ID, key);
        }
        let deps = &self.deps;
        request_reply::call(&*deps.bus, &deps.subjects, operation, body, headers, PATIENCE).await
    }

    pub(crate) async fn run(&self, goal: &str) -> Result<SessionAnswer, Problem> {
        self.call(operation::SUPERVISOR_RUN, &self::goal(goal)).await
    }

    pub(crate) async fn submit(&self, goal: &str) -> Submitted {
        self.call(operation::SUPERVISOR_SUBMIT, &self::goal(goal)).await.unwrap()
    }

    /// The same factory for actors on subjects of their own.
    pub(crate) fn deps_under(&self, prefix: &str) -> Arc<Deps> {
        let deps = &self.deps;
        Arc::new(Deps {
            bus: Arc::clone(&deps.bus),
            journal: Arc::clone(&deps.journal),
            views: Arc::clone(&deps.views),
            sandbox: Arc::clone(&deps.sandbox),
            model: Arc::clone(&deps.model),
            mask: Arc::clone(&deps.mask),
            uploads: Arc::clone(&deps.uploads),
            clock: Arc::clone(&deps.clock),
            ids: Arc::clone(&deps.ids),
            traces: Arc::clone(&deps.traces),
            subjects: Subjects::new(prefix.parse().unwrap()),
            resume_unfinished: false,
            ended_in_order: false,
            limits: deps.limits.clone(),
            metrics: ActorMetrics::default(),
            sessions: Arc::new(SessionRegistry::default()),
            started: Semaphore::new(0),
            starting: tokio_util::task::TaskTracker::new(),
            name: Uuid::now_v7().to_string(),
        })
    }

    /// Events: those from the start on for who asks first, and from now on for others.
    pub(crate) async fn events(&self) -> Subscription {
        let first = self.events.lock().unwrap().take();
        if let Some(events) = first {
            return events;
        }
        let subjects = self.deps.subjects.events();
        self.deps.bus.subscribe(subjects, None, EVENTS_WAITING_MAX).await.unwrap()
    }

    /// Stops the actors as a crash would, and starts others over the same journal.
    pub(crate) async fn restart(self, limits: Limits, repeatable: bool) -> Self {
        let dir = self.stop().await;
        Self::start_with(limits, repeatable, dir).await
    }

    /// The same, for a factory that leaves unfinished sessions alone until it is spoken to about
    /// them.
    pub(crate) async fn restart_leaving(self) -> Self {
        let dir = self.stop().await;
        Self::start_as(limits(), true, dir, false, Arc::new(NoModel)).await
    }

    /// The same, with a model.
    pub(crate) async fn restart_with_model(self, limits: Limits, model: Arc<dyn Model>) -> Self {
        let dir = self.stop().await;
        Self::start_with_model(limits, dir, model).await
    }

    async fn stop(mut self) -> TempDir {
        self.tree.take().unwrap().stop().await;
        self.relay.abort();
        self.projections.close().await.unwrap();
        self.journal.close();
        let Self { dir, deps, sandbox, clock, journal, counted, projections, .. } = self;
        drop((deps, sandbox, clock, journal, counted, projections));
        dir
    }
}

pub(crate) fn goal(goal: &str) -> Goal {
    Goal::new(goal)
}

pub(crate) fn code(source: &str) -> String {
    format!("Do it: ```python\n{source}\n```")
}

/// The next event of that kind.
pub(crate) async fn wait_for(events: &mut Subscription, name: &str) -> Recorded {
    let next = async {
        loop {
            let message = events.next().await.expect("the bus is open");
            let recorded = Recorded::decode(&message.payload).unwrap();
            if recorded.event.name() == name {
                return recorded;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("no {name} came"))
}
