//! The actors over real journal, projections and bus, with a sandbox that does what the test says:
//! admission, keys, cancel, deadlines, panics and escalation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ai_factory::{
    bus::local::{LocalBus, LocalBusSettings},
    journal::{JournalSettings, RedbJournal},
    projection::{Access, ProjectionError, ProjectionSettings, Projections},
    relay::{Checkpoint, Relay},
    world::SystemWorld,
};
use ai_factory_actors::{
    client,
    deps::{Deps, Limits},
    ports::{
        bus::{Bus, Headers, Subscription, header},
        journal::{Append, AppendError, Appended, Command, Head, Journal, Raw, ReadError},
        sandbox::{Captured, Program, Ran, Sandbox, SandboxError},
        views::Views,
        world::World,
    },
    session::live::Live,
    tree::Tree,
};
use ai_factory_schemas::{
    answer::{
        Dispatched, LogRow, Remembered, RunAnswer, SearchAnswer, SessionAnswer, SessionRow,
        SessionStory, SessionTold, Submitted,
    },
    envelope::Recorded,
    id::{CommandId, StreamId},
    plan::TaskType,
    problem::Problem,
    request::{Dispatch, Goal, Newest, Remember, Resolve, Search, WhichSession},
    run::{EndedBy, Isolation, IsolationLevel, RunStatus},
    session::{Resolution, SessionEnd, SessionStatus},
    subject::{Operation, Subjects, operation},
    text::BlobHash,
    time::Timestamp,
};
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

/// Programs are words: `exit N`, `hang`, `panic`, `wait` (until the gate opens); all else is printed.
struct Scripted {
    runs: AtomicUsize,
    gate: Semaphore,
    repeatable: bool,
}

#[async_trait::async_trait]
impl Sandbox for Scripted {
    fn isolation(&self) -> Isolation {
        Isolation {
            level: IsolationLevel::Process,
            active: vec!["scripted".into()],
            missing: vec![],
        }
    }

    fn supports(&self, language: &str) -> bool {
        language == "python"
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    async fn run(&self, program: Program) -> Result<Ran, SandboxError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let mut exit_code = 0;
        match program.source.trim().split_once(' ').unwrap_or((program.source.trim(), "")) {
            ("exit", code) => exit_code = code.parse().unwrap(),
            ("hang", _) => std::future::pending().await,
            ("panic", _) => panic!("the test asked for it"),
            ("wait", _) => self.gate.acquire().await.unwrap().forget(),
            ("broken", _) => return Err(SandboxError::Broken("as told".into())),
            _ => {}
        }
        Ok(Ran {
            exit_code,
            signal: None,
            ended_by: EndedBy::Exit,
            stdout: Captured { text: program.source.clone(), bytes_total: 1 },
            stderr: Captured::default(),
            duration: Duration::from_millis(1),
        })
    }
}

/// A world in which whoever asks for the time panics, as often as the test says.
#[derive(Default)]
struct Fragile {
    system: SystemWorld,
    panics_left: AtomicUsize,
}

impl World for Fragile {
    fn now(&self) -> Timestamp {
        let less_one = |left: usize| left.checked_sub(1);
        let panics = self.panics_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less_one);
        assert!(panics.is_err(), "the test asked for it");
        self.system.now()
    }

    fn new_id(&self) -> Uuid {
        self.system.new_id()
    }
}

/// A journal that counts its appends.
struct Counted {
    journal: Arc<RedbJournal>,
    appends: AtomicUsize,
}

#[async_trait::async_trait]
impl Journal for Counted {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.journal.append(append).await
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.journal.load(stream, after).await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Raw>, ReadError> {
        self.journal.read(after, limit).await
    }

    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.journal.command(id).await
    }

    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.journal.blob(hash).await
    }

    fn head(&self) -> Head {
        self.journal.head()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.journal.watch()
    }
}

struct NoCheckpoint;

impl Checkpoint for NoCheckpoint {
    fn load(&self) -> u64 {
        0
    }

    fn note(&self, _: u64) {}
}

struct TestFactory {
    dir: TempDir,
    deps: Arc<Deps>,
    sandbox: Arc<Scripted>,
    world: Arc<Fragile>,
    journal: Arc<RedbJournal>,
    counted: Arc<Counted>,
    projections: Arc<Projections>,
    tree: Option<Tree>,
    relay: JoinHandle<()>,
}

fn limits() -> Limits {
    Limits {
        requests_waiting_max: 64,
        sessions_max: 32,
        session_max: Duration::from_mins(1),
        step_max: Duration::from_secs(30),
        session_resumes_max: 3,
        repeat_unknown: true,
        run_wall_max: Duration::from_secs(5),
        runs_max: 4,
        runs_waiting_max: 64,
        restarts_max: 5,
        restart_window: Duration::from_secs(10),
    }
}

impl TestFactory {
    async fn start() -> Self {
        Self::start_with(limits(), true, TempDir::new().unwrap()).await
    }

    async fn start_with(limits: Limits, repeatable: bool, dir: TempDir) -> Self {
        let journal = RedbJournal::open(JournalSettings::new(dir.path())).unwrap();
        let counted =
            Arc::new(Counted { journal: Arc::clone(&journal), appends: AtomicUsize::new(0) });
        let port: Arc<dyn Journal> = Arc::clone(&counted) as Arc<dyn Journal>;
        let fragile = Arc::new(Fragile::default());
        let world: Arc<dyn World> = Arc::clone(&fragile) as Arc<dyn World>;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let projections = loop {
            let settings = ProjectionSettings::new(dir.path());
            let (journal, world) = (Arc::clone(&port), Arc::clone(&world));
            match Projections::open(settings, journal, world, Access::Write) {
                Ok(projections) => break projections,
                // The tasks of the factory before are still letting go of its files.
                Err(busy @ ProjectionError::InUse { .. }) => {
                    assert!(tokio::time::Instant::now() < deadline, "{busy}");
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let sandbox =
            Arc::new(Scripted { runs: AtomicUsize::new(0), gate: Semaphore::new(0), repeatable });
        let bus: Arc<dyn Bus> = LocalBus::new(LocalBusSettings::default());
        let deps = Arc::new(Deps {
            bus: Arc::clone(&bus),
            journal: Arc::clone(&port),
            views: Arc::clone(&projections) as Arc<dyn Views>,
            sandbox: Arc::clone(&sandbox) as Arc<dyn Sandbox>,
            world,
            subjects: Subjects::default(),
            limits,
            live: Arc::new(Live::default()),
            started: Semaphore::new(0),
            name: Uuid::now_v7().to_string(),
        });
        let relay = Relay {
            journal: port,
            bus,
            subjects: Subjects::default(),
            checkpoint: Arc::new(NoCheckpoint),
        };
        let relay = tokio::spawn(relay.run());
        let tree = Some(Tree::start(&deps).await.unwrap());
        Self { dir, deps, sandbox, world: fragile, journal, counted, projections, tree, relay }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        self.call_keyed(operation, body, None).await
    }

    async fn call_keyed<T: DeserializeOwned>(
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
        client::call(&*deps.bus, &deps.subjects, operation, body, headers, PATIENCE).await
    }

    async fn run(&self, goal: &str) -> Result<SessionAnswer, Problem> {
        self.call(operation::SUPERVISOR_RUN, &self::goal(goal)).await
    }

    async fn submit(&self, goal: &str) -> Submitted {
        self.call(operation::SUPERVISOR_SUBMIT, &self::goal(goal)).await.unwrap()
    }

    async fn events(&self) -> Subscription {
        self.deps.bus.subscribe(self.deps.subjects.events(), None, 10_000).await.unwrap()
    }

    /// Stops the actors as a crash would, and starts others over the same journal.
    async fn restart(mut self, limits: Limits, repeatable: bool) -> Self {
        self.tree.take().unwrap().stop().await;
        self.relay.abort();
        self.projections.close().await.unwrap();
        self.journal.close();
        let Self { dir, deps, sandbox, world, journal, counted, projections, .. } = self;
        drop((deps, sandbox, world, journal, counted, projections));
        Self::start_with(limits, repeatable, dir).await
    }
}

fn goal(goal: &str) -> Goal {
    Goal { goal: goal.to_owned(), task_type: TaskType::General }
}

fn code(source: &str) -> String {
    format!("Do it: ```python\n{source}\n```")
}

/// The next event of that kind.
async fn wait_for(events: &mut Subscription, name: &str) -> Recorded {
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

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_contract_says() {
    let factory = TestFactory::start().await;
    let plan: Dispatched = factory
        .call(
            operation::PLANNER_DISPATCH,
            &Dispatch { prompt: "build a shop".into(), task_type: "coding".parse().unwrap() },
        )
        .await
        .unwrap();
    assert!(plan.plan.steps[0].action.contains("Scaffold repo"));
    assert!(plan.plan.estimated_tokens >= 32);
    // I-13: reads see every write, in every view, at once.
    let logs: Vec<LogRow> = factory.call(operation::MEMORY_LOGS, &Newest::default()).await.unwrap();
    assert_eq!(logs[0].request_id, plan.request_id);

    let ran: RunAnswer = factory
        .call(operation::DEBUGGER_RUN, &serde_json::json!({ "code": "exit 3" }))
        .await
        .unwrap();
    assert_eq!((ran.status, ran.exit_code, ran.attempts), (RunStatus::Error, 3, 1));
    let odd: RunAnswer = factory
        .call(operation::DEBUGGER_RUN, &serde_json::json!({ "code": "x", "language": "COBOL" }))
        .await
        .unwrap();
    assert_eq!((odd.exit_code, odd.stderr.as_str()), (2, "Unsupported language: cobol"));

    let answer = factory.run(&code("hello")).await.unwrap();
    assert_eq!(answer.status, SessionStatus::Success);
    assert_eq!(answer.result, "[step 0] stdout:\nhello");
    let story: SessionStory = factory
        .call(
            operation::SUPERVISOR_SESSION,
            &WhichSession { id: Some(answer.session_id), key: None },
        )
        .await
        .unwrap();
    assert_eq!(story.result, answer.result);
    assert!(story.timeline.iter().any(|entry| entry.event == "run.finished"));

    let _: Remembered = factory
        .call(
            operation::MEMORY_REMEMBER,
            &Remember { text: "the kettle is blue".into(), tags: vec![] },
        )
        .await
        .unwrap();
    let found: SearchAnswer = factory
        .call(operation::MEMORY_SEARCH, &Search { q: "blue kettle".into(), n: None })
        .await
        .unwrap();
    assert_eq!(found.results[0].text.lines().next(), Some("the kettle is blue"));
    let recalled = factory.run("where is the kettle").await.unwrap();
    assert!(recalled.context.iter().any(|text| text.contains("kettle is blue")), "{recalled:?}");
    assert_eq!(recalled.result, "no-op");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why_and_leaves_no_record() {
    let factory = TestFactory::start().await;
    let too_long = "x".repeat(200_000);
    let many = (0..80).map(|n| format!("{n}. do thing {n}")).collect::<Vec<_>>().join("\n");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (operation, body, status) in [
        (operation::PLANNER_DISPATCH, json(r#"{"prompt": "  "}"#), 422),
        (operation::PLANNER_DISPATCH, json(r#"{"prompt": "x", "task_type": "magic"}"#), 422),
        (operation::PLANNER_DISPATCH, json("{}"), 422),
        (operation::PLANNER_DISPATCH, json("[]"), 422),
        (operation::DEBUGGER_RUN, json("{}"), 400),
        (operation::DEBUGGER_RUN, json(r#"{"code": ""}"#), 400),
        (operation::SUPERVISOR_RUN, json("{}"), 400),
        (operation::SUPERVISOR_RUN, json(r#"{"goal": " \n"}"#), 400),
        (operation::SUPERVISOR_RUN, json(r#"{"goal": "a\u0000b"}"#), 400),
        (operation::SUPERVISOR_RUN, serde_json::json!({ "goal": too_long }), 413),
        (operation::SUPERVISOR_RUN, serde_json::json!({ "goal": many }), 422),
        (operation::MEMORY_SEARCH, json(r#"{"q": ""}"#), 422),
        (operation::MEMORY_SEARCH, json(r#"{"q": "x", "n": 21}"#), 422),
        (operation::MEMORY_LOGS, json(r#"{"limit": 0}"#), 422),
        (operation::MEMORY_LOGS, json(r#"{"limit": 501}"#), 422),
        (operation::MEMORY_REMEMBER, json(r#"{"text": " "}"#), 422),
        (operation::SUPERVISOR_STATUS, json(r#"{"limit": -1}"#), 422),
        (operation::SUPERVISOR_SESSION, json("{}"), 400),
        (operation::SUPERVISOR_SESSION, json(r#"{"key": "never used"}"#), 404),
    ] {
        let refused = factory.call::<serde_json::Value>(operation, &body).await.unwrap_err();
        assert_eq!(refused.status, status, "{operation} {body:.60}: {refused}");
        assert!(!refused.sentence().is_empty());
    }
    assert_eq!(factory.journal.head().position, 0, "a refused request leaves no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn i_5_a_key_takes_effect_once_through_every_operation() {
    let factory = TestFactory::start().await;
    let hello = goal(&code("hello"));
    let first: SessionAnswer =
        factory.call_keyed(operation::SUPERVISOR_RUN, &hello, Some("k1")).await.unwrap();
    let again: SessionAnswer =
        factory.call_keyed(operation::SUPERVISOR_RUN, &hello, Some("k1")).await.unwrap();
    assert_eq!(first, again);
    let submitted: Submitted =
        factory.call_keyed(operation::SUPERVISOR_SUBMIT, &hello, Some("k1")).await.unwrap();
    assert_eq!(submitted.session_id, first.session_id);
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 1);

    let other = goal("something else");
    let refused = factory
        .call_keyed::<SessionAnswer>(operation::SUPERVISOR_RUN, &other, Some("k1"))
        .await
        .unwrap_err();
    assert_eq!(refused.status, 409);
    let refused = factory
        .call_keyed::<Remembered>(
            operation::MEMORY_REMEMBER,
            &Remember { text: "x".into(), tags: vec![] },
            Some("k1"),
        )
        .await
        .unwrap_err();
    assert_eq!(refused.status, 409, "keys are one namespace for all operations");

    // At once, from many: one session, one answer.
    let wait = goal(&code("together"));
    let asked = (0..16)
        .map(|_| factory.call_keyed::<SessionAnswer>(operation::SUPERVISOR_RUN, &wait, Some("k2")));
    let answers = futures_util::future::join_all(asked).await;
    let ids: std::collections::HashSet<_> =
        answers.into_iter().map(|answer| answer.unwrap().session_id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 2);

    let run = serde_json::json!({ "code": "once" });
    let asked =
        (0..8).map(|_| factory.call_keyed::<RunAnswer>(operation::DEBUGGER_RUN, &run, Some("k3")));
    let answers = futures_util::future::join_all(asked).await;
    let ids: std::collections::HashSet<_> =
        answers.into_iter().map(|answer| answer.unwrap().run_id).collect();
    assert_eq!((ids.len(), factory.sandbox.runs.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_code_is_one_append_and_one_with_code_four() {
    let factory = TestFactory::start().await;
    let appends = || factory.counted.appends.load(Ordering::SeqCst);
    factory.run("just think").await.unwrap();
    assert_eq!((appends(), factory.journal.head().position), (1, 5));
    factory.run(&code("hello")).await.unwrap();
    // Before the run is asked for, before the program starts, after it ended, before the answer.
    assert_eq!(appends(), 1 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_is_refused_with_the_time_to_try_again() {
    let narrow = Limits { sessions_max: 2, runs_max: 1, runs_waiting_max: 1, ..limits() };
    let factory = TestFactory::start_with(narrow, true, TempDir::new().unwrap()).await;
    let mut events = factory.events().await;
    for _ in 0..2 {
        factory.submit(&code("wait")).await;
    }
    wait_for(&mut events, "run.dispatched").await;
    let refused = factory.run("one more").await.unwrap_err();
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after.is_some_and(|after| !after.is_zero()));
    // One session runs, the other waits for its turn: the queue of runs is full as well.
    let direct = serde_json::json!({ "code": "wait" });
    let busy = factory.call::<RunAnswer>(operation::DEBUGGER_RUN, &direct).await.unwrap_err();
    assert_eq!(busy.status, 503);
    factory.sandbox.gate.add_permits(10);
    for _ in 0..2 {
        wait_for(&mut events, "session.concluded").await;
    }
    assert_eq!(factory.run("one more").await.unwrap().status, SessionStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_session_ends_and_its_run_with_it() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("hang")).await;
    wait_for(&mut events, "run.dispatched").await;
    let which = WhichSession { id: Some(submitted.session_id), key: None };
    let told: SessionTold = factory.call(operation::SUPERVISOR_CANCEL, &which).await.unwrap();
    assert_eq!(told.status, "error");
    wait_for(&mut events, "run.finished").await;
    let rows: Vec<SessionRow> =
        factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
    assert_eq!(rows[0].end, Some(SessionEnd::Cancelled));
    // Once more does no harm.
    let told: SessionTold = factory.call(operation::SUPERVISOR_CANCEL, &which).await.unwrap();
    assert_eq!(told.status, "error");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_end_a_step_and_a_session() {
    let short = Limits { step_max: Duration::from_millis(50), ..limits() };
    let factory = TestFactory::start_with(short, true, TempDir::new().unwrap()).await;
    let answer = factory.run(&format!("{}\nthen {}", code("hang"), code("fine"))).await.unwrap();
    assert_eq!((answer.end, answer.status), (SessionEnd::Completed, SessionStatus::Partial));
    assert!(answer.result.contains("deadline") && answer.result.contains("fine"), "{answer:?}");

    let short = Limits { session_max: Duration::from_millis(50), ..limits() };
    let factory = TestFactory::start_with(short, true, TempDir::new().unwrap()).await;
    let answer = factory.run(&code("hang")).await.unwrap();
    assert_eq!((answer.end, answer.status), (SessionEnd::Expired, SessionStatus::Error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_interrupted_goes_on_with_the_next_attempt() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;

    let factory = factory.restart(limits(), true).await;
    let mut events = factory.events().await;
    let attempt = wait_for(&mut events, "session.resumed").await;
    assert_eq!(attempt.stream.id, submitted.session_id.0);
    factory.sandbox.gate.add_permits(1);
    wait_for(&mut events, "session.concluded").await;
    let story: SessionStory = factory
        .call(
            operation::SUPERVISOR_SESSION,
            &WhichSession { id: Some(submitted.session_id), key: None },
        )
        .await
        .unwrap();
    let dispatched = |name: &str| story.timeline.iter().filter(|e| e.event == name).count();
    assert_eq!((dispatched("session.step_dispatched"), dispatched("run.dispatched")), (2, 2));
    assert_eq!(story.row.status, "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_may_not_be_repeated_waits_for_a_decision() {
    for (resolution, status) in [(Resolution::Skip, "error"), (Resolution::Repeat, "success")] {
        let factory = TestFactory::start().await;
        let mut events = factory.events().await;
        let submitted = factory.submit(&code("wait")).await;
        wait_for(&mut events, "run.dispatched").await;
        let factory = factory.restart(limits(), false).await;
        let mut events = factory.events().await;
        wait_for(&mut events, "session.step_unknown").await;
        factory.sandbox.gate.add_permits(1);
        let resolve = Resolve { id: submitted.session_id, resolution };
        let _: SessionTold = factory.call(operation::SUPERVISOR_RESOLVE, &resolve).await.unwrap();
        wait_for(&mut events, "session.concluded").await;
        let rows: Vec<SessionRow> =
            factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
        assert_eq!(rows[0].status, status, "{resolution:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_run_leaves_everything_else_working() {
    let factory = TestFactory::start().await;
    let refused = factory
        .call::<RunAnswer>(operation::DEBUGGER_RUN, &serde_json::json!({ "code": "panic" }))
        .await
        .unwrap_err();
    assert_eq!(refused.status, 503, "who asked is told at once: {refused}");
    assert_eq!(factory.run(&code("still here")).await.unwrap().status, SessionStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_panics_is_restarted_and_its_session_ends_well() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;
    // The next to ask for the time is the debugger, for the end of the run; then the shell, twice.
    factory.world.panics_left.store(3, Ordering::SeqCst);
    factory.sandbox.gate.add_permits(10);
    let which = WhichSession { id: Some(submitted.session_id), key: None };
    let concluded = wait_for(&mut events, "session.concluded").await;
    assert_eq!(concluded.stream.id, submitted.session_id.0);
    let story: SessionStory = factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
    assert_eq!(story.row.status, "success");
    assert_eq!(factory.run("and others").await.unwrap().status, SessionStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_shell_dies_again_and_again_is_given_up() {
    let few = Limits { session_resumes_max: 0, ..limits() };
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;
    let factory = factory.restart(few, true).await;
    let mut events = factory.events().await;
    wait_for(&mut events, "session.concluded").await;
    let rows: Vec<SessionRow> =
        factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
    assert_eq!((rows[0].end, rows[0].status.as_str()), (Some(SessionEnd::Failed), "error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_restarts_than_allowed_end_the_whole_tree_in_order() {
    let mut factory = TestFactory::start().await;
    let before = factory.run("fine").await.unwrap();
    factory.world.panics_left.store(usize::MAX, Ordering::SeqCst);
    let submitting = tokio::spawn({
        let deps = Arc::clone(&factory.deps);
        async move {
            let (bus, subjects) = (&*deps.bus, &deps.subjects);
            let (run, headers) = (operation::SUPERVISOR_RUN, Headers::default());
            let goal = goal("doomed");
            client::call::<SessionAnswer>(bus, subjects, run, &goal, headers, PATIENCE).await
        }
    });
    let tree = factory.tree.as_mut().unwrap();
    tokio::time::timeout(PATIENCE, tree.ended()).await.expect("the tree gives up");
    submitting.abort();
    factory.world.panics_left.store(0, Ordering::SeqCst);
    // What was acknowledged is still there.
    let factory = factory.restart(limits(), true).await;
    let rows: Vec<SessionRow> =
        factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
    assert!(rows.iter().any(|row| row.session_id == before.session_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_run_that_was_interrupted_is_closed_or_begun_again_never_lost() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let wait = serde_json::json!({ "code": "wait" });
    let asking = tokio::spawn({
        let deps = Arc::clone(&factory.deps);
        let wait = wait.clone();
        async move {
            let mut headers = Headers::default();
            headers.set(header::MESSAGE_ID, "again");
            let (bus, subjects) = (&*deps.bus, &deps.subjects);
            let run = operation::DEBUGGER_RUN;
            client::call::<RunAnswer>(bus, subjects, run, &wait, headers, PATIENCE).await
        }
    });
    wait_for(&mut events, "run.dispatched").await;
    asking.abort();
    let _ = asking.await;
    let factory = factory.restart(limits(), true).await;
    factory.sandbox.gate.add_permits(1);
    // Whether the actor closed its record before or after the key came again, there is one answer.
    match factory.call_keyed::<RunAnswer>(operation::DEBUGGER_RUN, &wait, Some("again")).await {
        Ok(ran) => assert_eq!(ran.attempts, 2),
        Err(problem) => assert_eq!(problem.status, 409),
    }
}
