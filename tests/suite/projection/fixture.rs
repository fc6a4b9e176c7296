//! A factory's journal with a story in it, and projections over it.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use ai_factory::embedding::BuiltIn;
use ai_factory::projection::{Access, ProjectionError, ProjectionSettings, Projections};
use ai_factory_ports::{
    clock::Clock,
    embedder::{Embedder, Models},
    journal::{Append, Journal},
    views::{SearchQuery, SessionFilter, Views},
};
use ai_factory_schemas::{
    call::{CallAbandoned, CallRequested},
    envelope::{EventDraft, Recorded, Trail},
    event::Event,
    id::{CallId, EventId, MemoryId, PlanId, RequestId, RunId, SessionId, StreamId},
    memory::{MemoryExpired, MemoryForgotten, MemoryRemembered},
    model::{Charge, ModelEndpoint, ModelParameters, ModelProtocol, Reservation, ToolProtocol},
    plan::{Plan, PlanProposed, Step, TaskType},
    run::{
        EndedBy, Isolation, IsolationLevel, RunAbandoned, RunDispatched, RunEnd, RunFinished,
        RunInput, RunRequested, RunStatus,
    },
    session::{
        Resolution, SessionConcluded, SessionEnd, SessionOpened, SessionPlanned, SessionStatus,
        StepDispatched, StepFinished, StepResolved, StepUnknown,
    },
    text::{BlobHash, Text},
    time::Timestamp,
};
use ai_factory_tail::Tail;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::memory_journal::MemoryJournal;

/// Time that stands still.
pub struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_780_000_000_000_000)
    }
}

/// The model that is part of the program.
pub fn embedder() -> Arc<dyn Embedder> {
    Arc::new(BuiltIn::default())
}

pub struct Kit {
    pub journal: Arc<MemoryJournal>,
    pub dir: TempDir,
    ids: Mutex<u128>,
}

pub fn request(name: &str) -> RequestId {
    name.parse().unwrap()
}

pub fn plan(task_type: TaskType, action: &str) -> Plan {
    let step = Step { index: 0, action: action.into(), rationale: "so".into(), code: None };
    Plan {
        task_type,
        steps: vec![step],
        estimated_tokens: 32,
        model_name: "heuristic".into(),
        notes: String::new(),
    }
}

impl Kit {
    pub fn new() -> Self {
        Self { journal: Arc::default(), dir: tempfile::tempdir().unwrap(), ids: Mutex::new(0) }
    }

    /// Settings under which a short story already flushes.
    pub fn settings(&self) -> ProjectionSettings {
        ProjectionSettings {
            flush_events_max: 16,
            flush_documents_max: 8,
            ..ProjectionSettings::new(self.dir.path())
        }
    }

    pub fn open(&self, access: Access) -> Arc<Projections> {
        open_over(&self.journal, &self.settings(), access)
    }

    pub fn id(&self) -> Uuid {
        let mut ids = self.ids.lock().unwrap();
        *ids += 1;
        Uuid::from_u128(*ids)
    }

    pub async fn append(&self, stream: impl Into<StreamId>, event: impl Into<Event>) -> u64 {
        self.append_with(stream.into(), event.into(), vec![]).await
    }

    async fn append_with(
        &self,
        stream: StreamId,
        event: Event,
        blobs: Vec<ai_factory_schemas::text::Blob>,
    ) -> u64 {
        let expected = self.journal.load(stream, 0).await.unwrap().len() as u64;
        let position = self.journal.head().position + 1;
        let time = Timestamp::from_micros(i64::try_from(position).unwrap() * 1_000_000);
        let draft = EventDraft { id: EventId(self.id()), time, event, trail: Trail::default() };
        let events = vec![draft];
        let append = Append { stream, expected, events, command: None, blobs };
        self.journal.append(append).await.unwrap().last
    }

    /// The end of the journal.
    pub fn journal_position(&self) -> u64 {
        self.journal.head().position
    }

    pub async fn dispatch(&self, name: &str, prompt: &str) -> u64 {
        let proposed = PlanProposed {
            request_id: request(name),
            prompt: prompt.into(),
            plan: plan(TaskType::Research, "look it up"),
        };
        self.append(PlanId(self.id()), proposed).await
    }

    pub async fn note(&self, text: &str, tags: &[&str]) -> u64 {
        let note = MemoryRemembered {
            request_id: request("note"),
            text: text.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        self.append(MemoryId(self.id()), note).await
    }

    /// Forgets the memory that was completed at a position.
    pub async fn forget(&self, position: u64) {
        let raw = self.journal.read(position - 1, 1).await.unwrap().remove(0);
        let id = MemoryId(Recorded::decode(&raw.bytes).unwrap().stream.id);
        let forgotten = MemoryForgotten { request_id: request("forget"), position };
        self.append(id, forgotten).await;
    }

    /// Forgets every memory up to a position.
    pub async fn expire(&self, upto: u64) {
        let expired = MemoryExpired { upto, memories: 1, before: None, memories_max: Some(1) };
        self.append(MemoryId(self.id()), expired).await;
    }

    pub async fn hand_in(&self, run: RunId, session: Option<SessionId>, code: &str) -> u64 {
        let requested = RunRequested {
            request_id: request("run"),
            session_id: session,
            language: "python".into(),
            code: code.into(),
            input: RunInput::default(),
        };
        let position = self.append(run, requested).await;
        let isolation = Isolation { level: IsolationLevel::Process, ..Isolation::default() };
        self.append(run, RunDispatched { attempt: 1, isolation, wall_ms_max: 5000 }).await;
        position
    }

    pub async fn end_run(&self, run: RunId, status: RunStatus, stdout: &str, stderr: &str) -> u64 {
        let mut blobs = vec![];
        let mut text = |text: &str| {
            let (text, blob) = Text::new(text.to_owned());
            blobs.extend(blob);
            text
        };
        let end = RunEnd {
            status,
            exit_code: i32::from(status != RunStatus::Success),
            signal: None,
            ended_by: EndedBy::Exit,
            stdout: text(stdout),
            stderr: text(stderr),
            stdout_bytes: stdout.len() as u64,
            stderr_bytes: stderr.len() as u64,
            duration_ms: 1,
            isolation: None,
            files: vec![],
            files_left_out: vec![],
            reason: None,
            diagnosis: None,
            workspace: None,
        };
        self.append_with(run.into(), RunFinished { attempt: 1, end }.into(), blobs).await
    }

    pub async fn abandon(&self, run: RunId) -> u64 {
        self.append(run, RunAbandoned { reason: "nobody waits".into() }).await
    }

    pub async fn run(&self, code: &str, stdout: &str, stderr: &str) -> u64 {
        let run = RunId(self.id());
        let position = self.hand_in(run, None, code).await;
        self.end_run(run, RunStatus::Success, stdout, stderr).await;
        position
    }

    pub async fn open_session(&self, name: &str, goal: &str) -> SessionId {
        let session = SessionId(self.id());
        let opened = SessionOpened {
            request_id: request(name),
            goal: goal.into(),
            task_type: TaskType::Coding,
            submitted_by: None,
            check: None,
            protect: Vec::new(),
            workspace: None,
            model: None,
        };
        self.append(session, opened).await;
        session
    }

    pub async fn plan_session(&self, session: SessionId) -> u64 {
        self.append(session, SessionPlanned { plan: plan(TaskType::Coding, "Scaffold repo") }).await
    }

    pub async fn dispatch_step(&self, session: SessionId, step: u32, run_id: RunId) {
        self.append(session, StepDispatched { step, run_id, attempt: 1 }).await;
        self.hand_in(run_id, Some(session), "print(6 * 7)").await;
    }

    pub async fn finish_step(&self, session: SessionId, step: u32, run_id: RunId, stdout: &str) {
        self.end_run(run_id, RunStatus::Success, stdout, "").await;
        let finished = StepFinished {
            step,
            run_id,
            status: RunStatus::Success,
            exit_code: 0,
            ended_by: EndedBy::Exit,
            stdout: stdout.into(),
            stderr: Text::default(),
            duration_ms: 1,
            workspace: None,
        };
        self.append(session, finished).await;
    }

    pub async fn lose_step(&self, session: SessionId, step: u32, run_id: RunId) {
        self.append(session, StepUnknown { step, run_id, attempt: 1 }).await;
    }

    pub async fn resolve_step(&self, session: SessionId, step: u32) {
        self.append(session, StepResolved { step, resolution: Resolution::Skip }).await;
    }

    pub async fn conclude(&self, session: SessionId, summary: &str) -> u64 {
        let concluded = SessionConcluded {
            end: SessionEnd::Completed,
            status: SessionStatus::Partial,
            summary: summary.into(),
            reason: None,
        };
        self.append(session, concluded).await
    }

    /// Requests an attempt of a call that reserves so many tokens.
    pub async fn request_call(
        &self,
        call: CallId,
        (attempt, session_id): (u32, Option<SessionId>),
        (day, tokens): (&str, u64),
    ) {
        let requested = CallRequested {
            session_id,
            turn: 1,
            attempt,
            endpoint: ModelEndpoint {
                model: "test/model".into(),
                url: "http://127.0.0.1:9".into(),
                protocol: ModelProtocol::ChatCompletions,
                tools: ToolProtocol::Native,
            },
            parameters: ModelParameters {
                temperature_milli: None,
                seed: None,
                output_tokens_max: 1,
                context_tokens: 2,
            },
            request: BlobHash::of(b"request"),
            predecessor: None,
            kept: 0,
            appended: Vec::new(),
            tools: None,
            schema: None,
            reserved: Reservation {
                input_tokens: tokens,
                output_tokens: 0,
                cost_micros: Some(2 * tokens),
            },
            prices: None,
            day: day.into(),
        };
        self.append(call, requested).await;
    }

    /// Abandons an attempt of a call.
    pub async fn abandon_call(&self, call: CallId, attempt: u32, tokens: u64) {
        let charged =
            Charge { tokens, cost_micros: Some(2 * tokens), estimated: true, overrun: false };
        self.append(call, CallAbandoned { attempt, reason: "test".into(), charged }).await;
    }

    /// Does `steps` things by chance, the same for the same seed: streams are open beside each
    /// other.
    pub async fn live(&self, seed: u64, steps: usize) {
        let mut chance = Chance(seed | 1);
        let mut runs: Vec<RunId> = vec![];
        let mut sessions: Vec<(SessionId, Option<RunId>)> = vec![];
        for step in 0..steps {
            let word = ["apple", "banana", "cherry", "数据", "x_1"][chance.below(5)];
            match chance.below(11) {
                0 => drop(self.dispatch(&format!("r{step}"), &format!("plan {word}")).await),
                1 => drop(self.note(&format!("note {word} {word}"), &["tag"]).await),
                2 => {
                    let run = RunId(self.id());
                    self.hand_in(run, None, &format!("print('{word}')")).await;
                    runs.push(run);
                }
                3 if !runs.is_empty() => {
                    let run = runs.swap_remove(chance.below(runs.len()));
                    self.end_run(run, RunStatus::Error, word, "failed").await;
                }
                4 if !runs.is_empty() => {
                    let run = runs.swap_remove(chance.below(runs.len()));
                    self.abandon(run).await;
                }
                5 => {
                    let session = self.open_session(&format!("s{}", step % 7), word).await;
                    self.plan_session(session).await;
                    sessions.push((session, None));
                }
                6 if !sessions.is_empty() => {
                    let at = chance.below(sessions.len());
                    let (session, run) = sessions[at];
                    if let Some(run) = run {
                        self.finish_step(session, 0, run, word).await;
                        sessions[at].1 = None;
                    } else {
                        let run = RunId(self.id());
                        self.dispatch_step(session, 0, run).await;
                        sessions[at].1 = Some(run);
                    }
                }
                7 if !sessions.is_empty() => {
                    let (session, run) = sessions[chance.below(sessions.len())];
                    if let Some(run) = run {
                        self.lose_step(session, 0, run).await;
                    }
                }
                8 if !sessions.is_empty() => {
                    let (session, _) = sessions.swap_remove(chance.below(sessions.len()));
                    self.conclude(session, word).await;
                }
                9 if chance.below(2) == 0 && self.journal_position() > 0 => {
                    let head = usize::try_from(self.journal_position()).unwrap();
                    self.forget(chance.below(head) as u64 + 1).await;
                }
                10 if chance.below(8) == 0 => {
                    let head = usize::try_from(self.journal_position()).unwrap();
                    self.expire((head / 2 + chance.below(head / 4 + 1)) as u64).await;
                }
                _ => {}
            }
        }
    }
}

pub fn open_over(
    journal: &Arc<MemoryJournal>,
    settings: &ProjectionSettings,
    access: Access,
) -> Arc<Projections> {
    open_with(journal, settings, &embedder(), access)
}

pub fn open_with(
    journal: &Arc<impl Journal>,
    settings: &ProjectionSettings,
    models: &(impl Into<Models> + Clone),
    access: Access,
) -> Arc<Projections> {
    loop {
        let settings = settings.clone();
        let tail = Tail::new(Arc::clone(journal) as Arc<dyn Journal>);
        let (clock, models) = (Arc::new(StillClock), models.clone());
        match Projections::open(settings, tail, clock, models, access) {
            // A flush of projections that were dropped is still under way: it ends by itself.
            Err(ProjectionError::InUse { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Has the journal followed, beside the test.
pub fn follow(views: &Arc<Projections>) -> JoinHandle<()> {
    let views = Arc::clone(views);
    tokio::spawn(async move { views.follow().await })
}

/// Xorshift (Marsaglia, 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % end as u64).unwrap()
    }
}

/// Every answer to every question, to compare.
pub async fn answers(views: &Projections) -> String {
    let mut all = String::new();
    let mut add = |answer: &dyn std::fmt::Debug| writeln!(all, "{answer:#?}").unwrap();
    add(&views.logs(500).await.unwrap());
    add(&views.runs(500).await.unwrap());
    add(&views.search_runs("a", 50).await.unwrap());
    add(&views.open_runs().await.unwrap());
    let sessions = views.sessions(500).await.unwrap();
    add(&sessions);
    add(&views.history(500).await.unwrap());
    add(&views.open_sessions().await.unwrap());
    add(&views.open_calls().await.unwrap());
    add(&views.newest_call_day().await.unwrap());
    for row in sessions {
        add(&views.session(row.session_id).await.unwrap());
        add(&views.runs_of_session(row.session_id).await.unwrap());
        let of_request = SessionFilter::of_request(row.request_id.clone());
        add(&views.sessions_where(&of_request, 3).await.unwrap());
        let beginning = &row.session_id.to_string()[..35];
        add(&views.sessions_beginning(beginning, 20).await.unwrap());
    }
    for query in ["apple", "note banana", "数据", "print cherry x", "plan apple - look it up"] {
        add(&views.search(&SearchQuery::new(query, 20)).await.unwrap());
    }
    all
}

/// How many documents each piece of the index has.
pub fn pieces(kit: &Kit) -> Vec<u64> {
    let meta = std::fs::read(kit.dir.path().join("index/words/meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    let segments = meta["segments"].as_array().unwrap().iter();
    segments.map(|segment| segment["max_doc"].as_u64().unwrap()).collect()
}
