//! The supervision tree: who restarts whom, how often, and when the whole gives up.
//!
//! ```text
//! root (one for one)
//! ├── planner
//! ├── memory
//! ├── debugger
//! └── work (rest for one: when the sessions' supervisor dies, the supervisor actor takes them up anew)
//!     ├── sessions (dynamic: one shell per session)
//!     └── supervisor
//! ```
//!
//! *Limits.* More than [`crate::deps::Limits::restarts_max`] restarts under one supervisor within
//! [`crate::deps::Limits::restart_window`] end it, and its parent counts that as one failure. When the root ends, the
//! factory stops in an orderly way: everything under way is in the journal and resumes at the next start.

use std::{sync::Arc, time::Duration};

use ractor::{ActorCell, ActorRef, SpawnErr, concurrency::JoinHandle};
use ractor_supervisor::{
    ChildBackoffFn, ChildSpec, DynamicSupervisor, DynamicSupervisorOptions, Restart, SpawnFn,
    Supervisor, SupervisorArguments, SupervisorMsg, SupervisorOptions, SupervisorStrategy,
};
use tokio::time::Instant;

use crate::{
    debugger::service::Debugger,
    deps::{Deps, Limits},
    memory::Memory,
    planner::service::Planner,
    service::{Service, ServiceActor},
    supervisor,
};

/// The first pause before a restart; each further one doubles it.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
/// The longest pause before a restart.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// How long to wait before a child is started again.
pub fn back_off(
    _child: &str,
    restarts: usize,
    _failed_at: Instant,
    _reset_after: Option<Duration>,
) -> Option<Duration> {
    let doublings = u32::try_from(restarts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    Some((BACK_OFF_FIRST * 2_u32.pow(doublings)).min(BACK_OFF_MAX))
}

/// The name of the supervisor of the sessions' shells.
pub fn sessions_name(factory: &str) -> String {
    format!("{factory}.sessions")
}

/// The running actors.
pub struct Tree {
    root: ActorRef<SupervisorMsg>,
    ended: JoinHandle<()>,
}

/// Why the actors could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the actors could not be started: {0}")]
pub struct StartError(String);

impl Tree {
    /// Starts all actors; when this returns, every operation is served.
    pub async fn start(deps: &Arc<Deps>) -> Result<Self, StartError> {
        let arguments = SupervisorArguments {
            child_specs: vec![
                service_child::<Planner>(deps),
                service_child::<Memory>(deps),
                service_child::<Debugger>(deps),
                work_child(deps),
            ],
            options: options(&deps.limits, SupervisorStrategy::OneForOne),
        };
        let (root, ended) = Supervisor::spawn(format!("{}.root", deps.name), arguments)
            .await
            .map_err(|error| StartError(error.to_string()))?;
        Ok(Self { root, ended })
    }

    /// Resolves when the tree has given up.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Stops all actors. What is under way is in the journal and resumes at the next start.
    pub async fn stop(self) {
        self.root.stop(None);
        let _ = self.ended.await;
    }
}

fn options(limits: &Limits, strategy: SupervisorStrategy) -> SupervisorOptions {
    SupervisorOptions {
        strategy,
        max_restarts: limits.restarts_max,
        max_window: limits.restart_window,
        reset_after: Some(limits.restart_window),
    }
}

fn child<F, Fut>(id: String, limits: &Limits, spawn: F) -> ChildSpec
where
    F: Fn(ActorCell, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
{
    ChildSpec {
        id,
        restart: Restart::Permanent,
        spawn_fn: SpawnFn::new(spawn),
        backoff_fn: Some(ChildBackoffFn::new(back_off)),
        reset_after: Some(limits.restart_window),
    }
}

fn service_child<S: Service>(deps: &Arc<Deps>) -> ChildSpec {
    let given = Arc::clone(deps);
    child(format!("{}.{}", deps.name, S::ACTOR), &deps.limits, move |parent, name| {
        let deps = Arc::clone(&given);
        async move {
            let actor = ServiceActor::<S>::default();
            Ok(Supervisor::spawn_linked(name, actor, deps, parent).await?.0.get_cell())
        }
    })
}

fn work_child(deps: &Arc<Deps>) -> ChildSpec {
    let given = Arc::clone(deps);
    child(format!("{}.work", deps.name), &deps.limits, move |parent, name| {
        let deps = Arc::clone(&given);
        async move {
            let arguments = SupervisorArguments {
                child_specs: vec![
                    sessions_child(&deps),
                    service_child::<supervisor::Supervisor>(&deps),
                ],
                options: options(&deps.limits, SupervisorStrategy::RestForOne),
            };
            Ok(Supervisor::spawn_linked(name, Supervisor, arguments, parent).await?.0.get_cell())
        }
    })
}

fn sessions_child(deps: &Arc<Deps>) -> ChildSpec {
    let limits = deps.limits.clone();
    child(sessions_name(&deps.name), &deps.limits, move |parent, name| {
        let options = DynamicSupervisorOptions {
            max_children: None,
            max_restarts: limits.restarts_max,
            max_window: limits.restart_window,
            reset_after: Some(limits.restart_window),
        };
        async move {
            Ok(Supervisor::spawn_linked(name, DynamicSupervisor, options, parent)
                .await?
                .0
                .get_cell())
        }
    })
}
