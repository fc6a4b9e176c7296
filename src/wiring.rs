//! Composition of adapters and actors: the whole factory, or only its read side.

mod data_dir;
mod dead_letters;
mod embedding;
mod events;
mod nats_ingress;
mod sandbox;
mod sessions;
mod upkeep;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use self::{
    data_dir::confine_new_files,
    sandbox::{SandboxReport, sandbox_report},
    upkeep::{RebuildReport, VerifyFault, VerifyReport, rebuild, verify},
};
use ai_factory_actors::{
    deps::Deps,
    limits::Limits,
    session_registry::SessionRegistry,
    tree::{StartError, Tree},
};
use ai_factory_ports::{
    bus::{Bus, Headers, SubscribeError},
    clock::{Clock, IdSource},
    journal::Journal,
    request_reply,
    trace::Traces,
    views::{ViewError, Views},
};
use ai_factory_schemas::{
    problem::Problem,
    subject::{Operation, Subjects},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
};

use self::{
    dead_letters::DeadLetterSink,
    events::NatsEventSink,
    nats_ingress::NatsIngress,
    sessions::{RELAY_SESSIONS, SessionBucketSink},
};
use crate::{
    bus::{LocalBus, LocalBusSettings, TracedBus},
    clock::{SystemClock, SystemIds},
    config::{OnUnknown, Settings},
    connections::Connections,
    journal::{self, JournalReader, JournalSettings, RedbJournal},
    nats::{
        DeadLetterPublisher, GoalIntake, JournalStream, NatsBus, SessionsBucket, StreamsSettings,
    },
    projection::{Access, ProjectionError, ProjectionSettings, Projections},
    relay::{Checkpoint, Relay},
    sandbox::SelectedSandbox,
};

/// The name of the checkpoint of the relay to the internal bus.
const RELAY: &str = "relay";
/// The name of the checkpoint of the relay to NATS.
const RELAY_NATS: &str = "relay-nats";
/// The name of the checkpoint of the dead letters of sessions.
const RELAY_DEAD: &str = "relay-dead";
/// The name under which an orderly end records the journal's last position.
const ENDED_IN_ORDER: &str = "ended-in-order";

/// The duplicate window of the stream of dead letters. It prevents a second letter after a crash
/// that took a checkpoint back, or for a goal that two factories abandoned in turn.
const DEAD_WINDOW: Duration = Duration::from_hours(24);

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenFactoryError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] journal::OpenJournalError),
    /// The projections cannot be opened.
    #[error(transparent)]
    Projections(#[from] ProjectionError),
    /// The projections failed after they were opened.
    #[error(transparent)]
    Views(#[from] ViewError),
    /// The embedding model's settings are unusable.
    #[error("{0}")]
    Embedding(String),
    /// The directory for runs cannot be created.
    #[error("{path} cannot be used for the files of runs: {reason}")]
    Runs {
        /// The directory.
        path: String,
        /// The error.
        reason: String,
    },
    /// The actors did not start.
    #[error(transparent)]
    Actors(#[from] StartError),
    /// The services over NATS did not start.
    #[error("the operations cannot be served over NATS: {0}")]
    Services(#[from] SubscribeError),
}

impl OpenFactoryError {
    /// Whether there is no journal, usually because of a mistyped directory.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Journal(journal::OpenJournalError::Missing(_)))
    }

    /// The exit code of a command that fails with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            _ if self.is_missing() => 2,
            Self::Views(_) | Self::Actors(_) | Self::Services(_) => 4,
            Self::Journal(_) | Self::Projections(_) | Self::Runs { .. } => 3,
            Self::Embedding(_) => 2,
        }
    }
}

/// The read side, beside another process that has the journal open for writing.
pub struct Reader {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The read side.
    pub views: Arc<dyn Views>,
}

impl Reader {
    /// Opens the data directory for reading.
    pub fn open(settings: &Settings) -> Result<Self, OpenFactoryError> {
        let models = embedding::models(settings)?;
        let journal: Arc<dyn Journal> = Arc::new(JournalReader::open(&settings.data_dir)?);
        let views = Projections::open(
            projections(settings),
            Arc::clone(&journal),
            Arc::new(SystemClock::default()),
            models,
            Access::Read,
        )?;
        Ok(Self { journal, views })
    }
}

/// The whole factory: journal, projections, bus, relay, sandbox, actors.
pub struct Factory {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The read side.
    pub views: Arc<dyn Views>,
    /// The subjects.
    pub subjects: Subjects,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// Traces that began outside the process.
    pub traces: Arc<dyn Traces>,
    /// The journal's last position before this factory recorded anything.
    pub begun_after: u64,
    parts: FactoryParts,
}

/// The parts that are shut down in order.
struct FactoryParts {
    tree: Mutex<Option<Tree>>,
    /// Whether this factory's end counts as orderly, so that the next start suspects nothing
    /// unfinished.
    is_in_order: AtomicBool,
    nats_ingress: NatsIngress,
    tasks: JoinSet<()>,
    local: Arc<LocalBus>,
    sandbox: Arc<SelectedSandbox>,
    projections: Arc<Projections>,
    journal: Arc<RedbJournal>,
}

/// The treatment of unfinished sessions at the start of a factory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfinishedSessions {
    /// All of them continue.
    Resume,
    /// Only those that receive a request continue: for a command with another purpose that ends
    /// soon.
    LeaveAlone,
}

/// Starts what carries events to a NATS server, and goals from it.
fn spawn_nats_relays(
    tasks: &mut JoinSet<()>,
    settings: &Settings,
    deps: &Arc<Deps>,
    projections: &Arc<Projections>,
    nats: &Arc<NatsBus>,
) {
    let checkpoint =
        |name| Arc::new(RelayCheckpoint { name, projections: Arc::clone(projections) });
    let streams = streams(settings);
    let to = (&deps.subjects, &streams);
    let sink = NatsEventSink::new(&deps.journal, projections, nats, &deps.traces, to);
    let journal = Arc::clone(&deps.journal);
    let relay = Relay { journal, sink, checkpoint: checkpoint(RELAY_NATS) };
    tasks.spawn(relay.run());
    let publisher =
        DeadLetterPublisher::new(Arc::clone(nats), streams.clone(), deps.subjects.clone());
    let sink = DeadLetterSink::new(&deps.journal, publisher);
    let journal = Arc::clone(&deps.journal);
    let relay = Relay { journal, sink, checkpoint: checkpoint(RELAY_DEAD) };
    tasks.spawn(relay.run());
    if let Ok(stream) = JournalStream::of_sessions(Arc::clone(nats), &streams) {
        let bucket = SessionsBucket::new(&streams);
        let sink = SessionBucketSink::new(&deps.journal, projections, stream, bucket);
        let journal = Arc::clone(&deps.journal);
        let relay = Relay { journal, sink, checkpoint: checkpoint(RELAY_SESSIONS) };
        tasks.spawn(relay.run());
    }
    let goals = GoalIntake {
        outside: Arc::clone(nats),
        inside: Arc::clone(&deps.bus),
        subjects: deps.subjects.clone(),
        streams,
    };
    tasks.spawn(goals.run());
}

impl Factory {
    /// Opens the data directory for writing and starts the actors.
    ///
    /// With a NATS connection, the actors are also served there, events are published there, and
    /// goals are accepted from there.
    pub async fn start(
        settings: &Settings,
        unfinished: UnfinishedSessions,
        connections: &Connections,
    ) -> Result<Self, OpenFactoryError> {
        let models = embedding::models(settings)?;
        let journal = RedbJournal::open(journal_settings(settings))?;
        data_dir::tighten(settings);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
        let projections = Projections::open(
            projections(settings),
            Arc::clone(&journal) as Arc<dyn Journal>,
            Arc::clone(&clock),
            models,
            Access::Write,
        )?;
        let begun_after = journal.head().position;
        let ended_in_order =
            projections.checkpoint(ENDED_IN_ORDER).unwrap_or_default() == begun_after;
        let sandbox = sandbox::open(settings)?;
        if unfinished == UnfinishedSessions::Resume {
            sandbox.warm_up();
        }
        let local = LocalBus::new(LocalBusSettings::default());
        let traces = Arc::clone(&connections.traces);
        let with_spans = |bus| Arc::new(TracedBus::new(bus, Arc::clone(&traces))) as Arc<dyn Bus>;
        let deps = Arc::new(Deps {
            bus: with_spans(Arc::clone(&local) as Arc<dyn Bus>),
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            views: Arc::clone(&projections) as Arc<dyn Views>,
            sandbox: Arc::clone(&sandbox) as Arc<dyn ai_factory_ports::sandbox::Sandbox>,
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            traces: Arc::clone(&traces),
            subjects: settings.subjects(),
            resume_unfinished: unfinished == UnfinishedSessions::Resume,
            ended_in_order,
            limits: limits(settings),
            sessions: Arc::new(SessionRegistry::default()),
            started: Semaphore::new(0),
            // Several factories in one process, as in tests, must not share actors' names.
            name: format!("{}-{}", settings.node, ids.new_id()),
        });
        let mut tasks = JoinSet::new();
        let checkpoint =
            |name| Arc::new(RelayCheckpoint { name, projections: Arc::clone(&projections) });
        if connections.events_inside {
            let (journal, bus) = (Arc::clone(&deps.journal), Arc::clone(&deps.bus));
            let relay = Relay::to_bus(journal, bus, deps.subjects.clone(), checkpoint(RELAY));
            tasks.spawn(relay.run());
        }
        let following = Arc::clone(&projections);
        tasks.spawn(async move { following.follow().await });
        let tree = Tree::start(&deps).await?;
        let mut nats_ingress = NatsIngress::default();
        if let Some(nats) = &connections.nats {
            spawn_nats_relays(&mut tasks, settings, &deps, &projections, nats);
            nats_ingress = NatsIngress::start(settings, &deps, nats).await?;
        }
        Ok(Self {
            bus: Arc::clone(&deps.bus),
            journal: Arc::clone(&deps.journal),
            views: Arc::clone(&deps.views),
            subjects: deps.subjects.clone(),
            clock,
            ids,
            traces: Arc::clone(&deps.traces),
            begun_after,
            parts: FactoryParts {
                tree: Mutex::new(Some(tree)),
                // A process that left a crash's sessions alone must not make it look like an
                // orderly end.
                is_in_order: AtomicBool::new(deps.resume_unfinished || deps.ended_in_order),
                nats_ingress,
                tasks,
                local,
                sandbox,
                projections,
                journal,
            },
        })
    }

    /// Waits until the factory cannot continue, and returns the reason: the disk failed, or actors
    /// died too often.
    pub async fn stopped(&self) -> String {
        let mut health = self.parts.journal.watch_health();
        let mut tree = self.parts.tree.lock().await;
        let given_up = async {
            match tree.as_mut() {
                Some(tree) => tree.ended().await,
                None => std::future::pending().await,
            }
        };
        let reason = tokio::select! {
            () = given_up => match self.failure() {
                Some(reason) => reason,
                None => "actors died more often than `restarts_max` allows; the log says why".to_owned(),
            },
            Ok(failed) = health.wait_for(Option::is_some) => {
                failed.as_deref().unwrap_or("the journal failed").to_owned()
            }
        };
        self.parts.is_in_order.store(false, Ordering::Relaxed);
        reason
    }

    /// Why the journal acknowledges no more appends, if so.
    pub fn failure(&self) -> Option<String> {
        self.parts.journal.health()
    }

    /// A function that returns why the journal acknowledges no more appends, if so.
    pub fn health(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let journal = Arc::clone(&self.parts.journal);
        move || journal.health()
    }

    /// A function that returns why search results are incomplete, if so.
    pub fn search_problem(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let projections = Arc::clone(&self.parts.projections);
        move || projections.search_problem()
    }

    /// A function that returns the progress of the configured embedding model's vectors.
    pub fn model_progress(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let projections = Arc::clone(&self.parts.projections);
        move || projections.model_progress()
    }

    /// A function that returns what is wrong with the configured embedding model, if anything.
    pub fn model_problem(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let projections = Arc::clone(&self.parts.projections);
        move || projections.model_problem()
    }

    /// A function that returns the progress of a rebuild of lists and search.
    pub fn rebuild_progress(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let projections = Arc::clone(&self.parts.projections);
        move || projections.rebuild_progress()
    }

    /// Shuts down in order: services, actors, relay, projections, journal. Unfinished work resumes
    /// at the next start.
    pub async fn shutdown(self) -> Result<(), String> {
        let FactoryParts {
            tree,
            is_in_order,
            mut nats_ingress,
            mut tasks,
            local,
            sandbox,
            projections,
            journal,
        } = self.parts;
        nats_ingress.drain().await;
        if let Some(tree) = tree.into_inner() {
            tree.stop().await;
        }
        nats_ingress.finish().await;
        sandbox.drained().await;
        tasks.shutdown().await;
        local.close();
        if is_in_order.into_inner() {
            projections.note_checkpoint(ENDED_IN_ORDER, journal.head().position);
        }
        let closed = projections.close().await.map_err(|error| error.to_string());
        // Closing waits for the last commit.
        let closing = tokio::task::spawn_blocking(move || journal.close()).await;
        closed.and(closing.map_err(|error| error.to_string()))
    }

    /// Requests an operation over the bus.
    pub async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &(impl Serialize + Sync),
        headers: Headers,
        timeout: Duration,
    ) -> Result<T, Problem> {
        request_reply::call(&*self.bus, &self.subjects, operation, body, headers, timeout).await
    }
}

/// A relay's checkpoint, stored and flushed with the projections.
struct RelayCheckpoint {
    name: &'static str,
    projections: Arc<Projections>,
}

impl Checkpoint for RelayCheckpoint {
    fn load(&self) -> u64 {
        self.projections.checkpoint(self.name).unwrap_or_else(|error| {
            tracing::warn!(%error, "the relay's checkpoint is lost: everything is published again");
            0
        })
    }

    fn note(&self, position: u64) {
        self.projections.note_checkpoint(self.name, position);
    }
}

fn journal_settings(settings: &Settings) -> JournalSettings {
    JournalSettings {
        source: format!("/ai-factory/{}", settings.node),
        segment_events_max: settings.segment_events_max,
        queue_appends_max: settings.append_queue_max,
        cache_bytes_max: settings.journal_cache_bytes_max,
        ..JournalSettings::new(&settings.data_dir)
    }
}

fn projections(settings: &Settings) -> ProjectionSettings {
    ProjectionSettings {
        flush_events_max: settings.flush_events_max,
        flush_documents_max: settings.flush_documents_max,
        ..ProjectionSettings::new(&settings.data_dir)
    }
}

/// Names, limits and replicas of the JetStream streams.
pub(crate) fn streams(settings: &Settings) -> StreamsSettings {
    let named = |name: &str, what| match name {
        "" => StreamsSettings::name(&settings.subjects(), what),
        name => name.to_owned(),
    };
    StreamsSettings {
        events: named(&settings.nats_events_stream, "events"),
        goals: named(&settings.nats_goals_stream, "goals"),
        dead: named(&settings.nats_dead_stream, "dead"),
        sessions: named(&settings.nats_sessions_bucket, "sessions"),
        replicas: settings.nats_replicas,
        events_bytes_max: settings.nats_events_bytes_max,
        events_age_max: Duration::from_secs(settings.nats_events_age_s_max),
        duplicate_window: Duration::from_secs(settings.nats_duplicate_window_s),
        goals_max: settings.nats_goals_max,
        goals_bytes_max: settings.nats_goals_bytes_max,
        deliveries_max: settings.nats_goal_deliveries_max,
        dead_bytes_max: settings.nats_dead_bytes_max,
        dead_window: DEAD_WINDOW,
        sessions_bytes_max: settings.nats_sessions_bytes_max,
        sessions_age_max: Duration::from_secs(settings.nats_sessions_age_s_max),
    }
}

/// A limit; 0 means none.
fn nonzero(limit: u64) -> Option<u64> {
    Some(limit).filter(|limit| *limit > 0)
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        requests_waiting_max: settings.requests_waiting_max,
        sessions_max: settings.sessions_max,
        session_max: Duration::from_millis(settings.session_ms_max),
        step_max: Duration::from_millis(settings.step_ms_max),
        session_resumes_max: settings.session_resumes_max,
        repeat_unknown: settings.on_unknown == OnUnknown::Repeat,
        run_wall_max: Duration::from_millis(settings.run_wall_ms_max),
        run_code_bytes_max: settings.run_code_bytes_max,
        runs_max: settings.runs_at_once(),
        runs_waiting_max: settings.runs_waiting_max,
        memory_age_max: nonzero(settings.memory_retention_s).map(Duration::from_secs),
        memories_max: nonzero(settings.memory_retention_max),
        restarts_max: settings.restarts_max,
        restart_window: Duration::from_millis(settings.restart_window_ms),
    }
}

/// Refuses a data directory without a journal; creates nothing. For commands about recorded data.
pub fn require_journal(settings: &Settings) -> Result<(), OpenFactoryError> {
    Ok(journal::require(&settings.data_dir)?)
}

/// The process that has the journal open for writing, if there is one, as text.
pub fn holder(settings: &Settings) -> Option<String> {
    journal::holder(&settings.data_dir).map(|pid| format!("process {pid}"))
}
