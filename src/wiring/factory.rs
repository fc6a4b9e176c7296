//! The whole factory: started, asked, and shut down in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ai_factory_actors::{
    deps::Deps, metrics::ActorMetrics, session_registry::SessionRegistry, tree::Tree,
};
use ai_factory_ports::{
    bus::{Bus, Headers},
    clock::{Clock, IdSource},
    health::{ComponentHealth, HealthRegistry, Necessity},
    journal::Journal,
    metrics::MetricsRegistry,
    request_reply,
    trace::Traces,
    uploads::Uploads,
    views::Views,
};
use ai_factory_schemas::{
    problem::Problem,
    subject::{Operation, Subjects},
};
use ai_factory_tail::Tail;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
};
use tokio_util::task::TaskTracker;

use super::{
    adapters::{journal_settings, limits, projections},
    data_dir, embedding,
    error::OpenFactoryError,
    metrics::{self, EVENTS_INSIDE},
    model::{self, WatchedModel},
    nats_ingress::NatsIngress,
    relays::{RelayCheckpoint, spawn_nats_relays},
    sandbox, spool,
};
use crate::{
    bus::{LocalBus, LocalBusSettings, TracedBus},
    clock::{SystemClock, SystemIds},
    config::Settings,
    connections::Connections,
    journal::RedbJournal,
    projection::{Access, Projections},
    relay::Relay,
    sandbox::SelectedSandbox,
};

/// The name of the checkpoint of the relay to the internal bus.
const RELAY: &str = "relay";
/// The name under which an orderly end records the journal's last position.
const ENDED_IN_ORDER: &str = "ended-in-order";

/// The whole factory: journal, projections, bus, relay, sandbox, actors.
pub struct Factory {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The journal's tail, for all who follow it.
    pub tail: Arc<Tail>,
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
    /// The health of its components.
    pub health: Arc<HealthRegistry>,
    /// The metrics of its components.
    pub metrics: Arc<MetricsRegistry>,
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
        let model = model::open(settings)?;
        let journal = RedbJournal::open(journal_settings(settings))?;
        data_dir::tighten(settings);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
        let tail = Tail::new(Arc::clone(&journal) as Arc<dyn Journal>);
        let projections = Projections::open(
            projections(settings),
            Arc::clone(&tail),
            Arc::clone(&clock),
            models,
            Access::Write,
        )?;
        let begun_after = journal.head().position;
        let ended_in_order =
            projections.checkpoint(ENDED_IN_ORDER).unwrap_or_default() == begun_after;
        let sandbox = sandbox::open(settings)?;
        let spool = spool::open(settings, &clock)?;
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
            model: model.model,
            mask: model.mask,
            uploads: Arc::clone(&spool) as Arc<dyn Uploads>,
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            traces: Arc::clone(&traces),
            subjects: settings.subjects(),
            resume_unfinished: unfinished == UnfinishedSessions::Resume,
            ended_in_order,
            limits: limits(settings),
            metrics: ActorMetrics::default(),
            sessions: Arc::new(SessionRegistry::default()),
            started: Semaphore::new(0),
            starting: TaskTracker::new(),
            // Several factories in one process, as in tests, must not share actors' names.
            name: format!("{}-{}", settings.node, ids.new_id()),
        });
        let (relays, mut tasks) = (metrics::relays(), JoinSet::new());
        let checkpoint =
            |name| Arc::new(RelayCheckpoint { name, projections: Arc::clone(&projections) });
        if connections.events_inside {
            let (tail, bus) = (Arc::clone(&tail), Arc::clone(&deps.bus));
            let relay = Relay::to_bus(tail, bus, deps.subjects.clone(), checkpoint(RELAY));
            tasks.spawn(relay.run_counting(relays.of(EVENTS_INSIDE)));
        }
        let following = Arc::clone(&projections);
        tasks.spawn(async move { following.follow().await });
        let expiring = Arc::clone(&spool);
        tasks.spawn(async move { expiring.expire_regularly().await });
        let tree = Tree::start(&deps).await?;
        let mut nats_ingress = NatsIngress::default();
        if let Some(nats) = &connections.nats {
            let counted = (nats, &relays);
            spawn_nats_relays(&mut tasks, settings, (&deps, &tail), &projections, counted);
            nats_ingress = NatsIngress::start(settings, &deps, &tail, nats).await?;
        }
        Ok(Self {
            bus: Arc::clone(&deps.bus),
            journal: Arc::clone(&deps.journal),
            tail,
            views: Arc::clone(&deps.views),
            subjects: deps.subjects.clone(),
            clock,
            ids,
            traces: Arc::clone(&deps.traces),
            health: health(&deps.journal, connections, &projections, model.watched),
            metrics: Arc::new(MetricsRegistry::of(&[
                &*journal,
                &*local,
                &deps.metrics,
                &*sandbox,
                &*spool,
                &*projections,
                &relays,
                &metrics::nats(connections),
                &connections.telemetry,
            ])),
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
        let mut health = self.journal.watch_health();
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
            Ok(health) = health.wait_for(|health| health.failure().is_some()) => {
                health.failure().map_or("the journal failed", |reason| &**reason).to_owned()
            }
        };
        self.parts.is_in_order.store(false, Ordering::Relaxed);
        reason
    }

    /// Why the journal acknowledges no more appends, if so.
    pub fn failure(&self) -> Option<String> {
        self.journal.health().failure().map(ToString::to_string)
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

/// The registry of the components whose health is reported.
fn health(
    journal: &Arc<dyn Journal>,
    connections: &Connections,
    projections: &Arc<Projections>,
    model: Option<Arc<WatchedModel>>,
) -> Arc<HealthRegistry> {
    let registry = HealthRegistry::default();
    let asked = Arc::clone(journal);
    registry.register("journal", Necessity::Required, move || {
        asked.health().failure().map(ToString::to_string).into()
    });
    if let Some(nats) = &connections.nats {
        let asked = Arc::clone(nats);
        registry.register("nats", Necessity::Optional, move || asked.problem().into());
    }
    let asked = Arc::clone(projections);
    registry.register("search", Necessity::Optional, move || ComponentHealth {
        problem: asked.search_problem(),
        progress: asked.rebuild_progress(),
    });
    let asked = Arc::clone(projections);
    registry.register("embedding", Necessity::Optional, move || ComponentHealth {
        problem: asked.model_problem(),
        progress: asked.model_progress(),
    });
    if let Some(model) = model {
        registry.register("model", Necessity::Optional, move || model.problem().into());
    }
    Arc::new(registry)
}
