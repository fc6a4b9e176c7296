//! The supervision tree: restarts of actors, their limits, and the end of the factory.
//!
//! ```text
//! factory
//! ├── root (one for one)
//! │   ├── planner
//! │   ├── memory
//! │   ├── debugger
//! │   ├── model
//! │   └── supervisor      resumes unfinished sessions at each start
//! └── sessions (dynamic)  one session actor per session; outlives the supervisor actor
//! ```
//!
//! *Limits.* More than [`crate::limits::Limits::restarts_max`] restarts within
//! [`crate::limits::Limits::restart_window`] end `root` or `sessions`, and with either the factory:
//! it stops in order, and everything unfinished resumes at the next start. A single session that
//! keeps dying does not get there: it is given up after
//! [`crate::limits::Limits::session_resumes_max`] resumptions, which is less.

use std::{sync::Arc, time::Duration};

use ractor::{ActorRef, SpawnErr, concurrency::JoinHandle};
use ractor_supervisor::{
    ChildBackoffFn, ChildSpec, DynamicSupervisor, DynamicSupervisorMsg, DynamicSupervisorOptions,
    Restart, SpawnFn, Supervisor, SupervisorArguments, SupervisorMsg, SupervisorOptions,
    SupervisorStrategy,
};

use crate::{
    debugger::service::Debugger,
    deps::Deps,
    memory::Memory,
    model::service::ModelService,
    planner::service::Planner,
    service::{Service, ServiceActor},
    supervision::{back_off, sessions_name},
    supervisor,
};

/// The number of service actors.
const SERVICES: u32 = 5;

/// How long an orderly end waits for work of the start: without it, a process that only ever ends
/// quickly would never close the records that a crash left open.
const STARTING_GRACE: Duration = Duration::from_secs(2);

/// The running actors.
pub struct Tree {
    deps: Arc<Deps>,
    root: ActorRef<SupervisorMsg>,
    root_ended: JoinHandle<()>,
    sessions: ActorRef<DynamicSupervisorMsg>,
    sessions_ended: JoinHandle<()>,
}

/// Why the actors could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the actors could not be started: {0}")]
pub struct StartError(String);

impl Tree {
    /// Starts all actors; when this returns, every operation is served.
    pub async fn start(deps: &Arc<Deps>) -> Result<Self, StartError> {
        let failed = |error: SpawnErr| StartError(error.to_string());
        let limits = &deps.limits;
        let options = DynamicSupervisorOptions {
            max_children: None,
            max_restarts: limits.restarts_max,
            max_window: limits.restart_window,
            reset_after: Some(limits.restart_window),
        };
        let (sessions, sessions_ended) =
            DynamicSupervisor::spawn(sessions_name(&deps.name), options).await.map_err(failed)?;
        let arguments = SupervisorArguments {
            child_specs: vec![
                service_child::<Planner>(deps),
                service_child::<Memory>(deps),
                service_child::<Debugger>(deps),
                service_child::<ModelService>(deps),
                service_child::<supervisor::Supervisor>(deps),
            ],
            options: SupervisorOptions {
                strategy: SupervisorStrategy::OneForOne,
                max_restarts: limits.restarts_max,
                max_window: limits.restart_window,
                reset_after: Some(limits.restart_window),
            },
        };
        let (root, root_ended) =
            Supervisor::spawn(format!("{}.root", deps.name), arguments).await.map_err(failed)?;
        let mut tree = Self { deps: Arc::clone(deps), root, root_ended, sessions, sessions_ended };
        tokio::select! {
            // The supervisor spawns its children after it has itself started.
            started = deps.started.acquire_many(SERVICES) => match started {
                Ok(permits) => permits.forget(),
                Err(closed) => return Err(StartError(closed.to_string())),
            },
            () = tree.ended() => {
                return Err(StartError("they keep dying; the log says why".to_owned()));
            }
        }
        Ok(tree)
    }

    /// Resolves when the tree has ended by itself.
    pub async fn ended(&mut self) {
        tokio::select! {
            _ = &mut self.root_ended => {}
            _ = &mut self.sessions_ended => {}
        }
    }

    /// Stops all actors, once the work of their start is done or two seconds are over.
    /// Unfinished sessions are in the journal and resume at the next start.
    pub async fn stop(self) {
        self.deps.starting.close();
        // Past the grace the next start does it.
        let _ = tokio::time::timeout(STARTING_GRACE, self.deps.starting.wait()).await;
        for (actor, ended) in [
            (self.root.get_cell(), self.root_ended),
            (self.sessions.get_cell(), self.sessions_ended),
        ] {
            actor.stop(None);
            // A completed handle must not be polled again.
            if !ended.is_finished() {
                let _ = ended.await;
            }
        }
    }
}

fn service_child<S: Service>(deps: &Arc<Deps>) -> ChildSpec {
    let given = Arc::clone(deps);
    ChildSpec {
        id: format!("{}.{}", deps.name, S::ACTOR),
        restart: Restart::Permanent,
        spawn_fn: SpawnFn::new(move |parent, name| {
            let deps = Arc::clone(&given);
            async move {
                let actor = ServiceActor::<S>::default();
                Ok(Supervisor::spawn_linked(name, actor, deps, parent).await?.0.get_cell())
            }
        }),
        backoff_fn: Some(ChildBackoffFn::new(back_off)),
        reset_after: Some(deps.limits.restart_window),
    }
}
