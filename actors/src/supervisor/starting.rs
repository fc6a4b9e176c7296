//! The start of a session's actor.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ai_factory_ports::retry_after;
use ai_factory_schemas::{id::SessionId, problem::Problem};
use ractor::{ActorProcessingErr, ActorRef, registry};
use ractor_supervisor::{
    ChildBackoffFn, ChildSpec, DynamicSupervisor, DynamicSupervisorMsg, Restart, SpawnFn,
};
use tokio::{runtime::Handle, sync::oneshot};

use super::Supervisor;
use crate::{
    session::{
        actor::SessionActor,
        message::{SessionOpening, SessionStart},
    },
    supervision::{back_off, sessions_name},
    tasks::{note_hand_over, spawn_detached},
};

/// A session whose actor is to be started, kept by the supervisor of sessions as long as it may
/// still do that.
struct PendingStart {
    start: SessionStart,
    /// Nobody waits for it: an error of a start is followed by another start, or by the end of the
    /// supervisor.
    _outcome: oneshot::Receiver<Result<(), ActorProcessingErr>>,
}

impl Drop for PendingStart {
    /// If the actor never began, there will be none.
    fn drop(&mut self) {
        let SessionStart { id, started_before, deps, .. } = &self.start;
        if started_before.load(Ordering::Relaxed) || Handle::try_current().is_err() {
            return;
        }
        let (id, deps) = (*id, Arc::clone(deps));
        spawn_detached(async move {
            let problem =
                Problem::busy("the session could not be started: try again", retry_after::SESSION);
            deps.sessions.notify_refused(id, &problem).await;
        });
    }
}

impl Supervisor {
    /// Starts the actor of a session that has entered
    /// [`SessionRegistry`](crate::session_registry::SessionRegistry). Does not wait for its start:
    /// if there is none, dropping the [`PendingStart`] answers the session's callers.
    pub(super) async fn start(&self, id: SessionId, opening: Option<Arc<SessionOpening>>) {
        let Some(sessions) = registry::where_is(sessions_name(&self.deps.name)) else {
            let problem =
                Problem::busy("sessions are being restarted: try again", retry_after::SESSION);
            return self.deps.sessions.notify_refused(id, &problem).await;
        };
        let start = SessionStart {
            id,
            opening,
            started_before: Arc::new(AtomicBool::new(false)),
            deps: Arc::clone(&self.deps),
        };
        let (spawned, outcome) = oneshot::channel();
        let pending = PendingStart { start, _outcome: outcome };
        let spec = ChildSpec {
            id: format!("{}.session-{id}.{}", self.deps.name, self.deps.sessions.next_start()),
            restart: Restart::Transient,
            spawn_fn: SpawnFn::new(move |supervisor, name| {
                let start = pending.start.clone();
                async move {
                    note_hand_over("session");
                    let spawning =
                        DynamicSupervisor::spawn_linked(name, SessionActor, start, supervisor);
                    Ok(spawning.await?.0.get_cell())
                }
            }),
            backoff_fn: Some(ChildBackoffFn::new(back_off)),
            reset_after: None,
        };
        note_hand_over("supervisor of sessions");
        let sessions: ActorRef<DynamicSupervisorMsg> = sessions.into();
        let spawn = DynamicSupervisorMsg::SpawnChild { spec, reply: Some(spawned.into()) };
        if let Err(error) = sessions.cast(spawn) {
            tracing::error!(%error, %id, "a session's actor could not be started");
        }
    }
}
