//! The task that performs a session's effects.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, stream::FuturesUnordered};
use ractor::ActorRef;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{
    active::SessionActorState, message::SessionMessage, perform, vocabulary::SessionEffect,
};
use crate::tasks::{note_hand_over, spawn_detached};

impl SessionActorState {
    /// Performs effects at the same time, in one task, up to the deadline of their step or of the
    /// session. Of the effects at most one is a step; a check has the session's deadline.
    pub(super) fn perform(
        &mut self,
        myself: &ActorRef<SessionMessage>,
        effects: Vec<SessionEffect>,
    ) {
        let step = effects.iter().find_map(|effect| match effect {
            SessionEffect::Run { step, .. } => Some(*step),
            _ => None,
        });
        let is_call = |effect: &SessionEffect| matches!(effect, SessionEffect::Call { .. });
        // A part of a call may be the wait for a place, which does not count: how long that was is
        // known afterwards.
        let more = if effects.iter().any(is_call) { self.session_max() } else { Duration::ZERO };
        let deadline = self.deadline + more;
        let step_deadline = Instant::now() + self.start.deps.limits.step_max;
        let (deadline, expired) = match step {
            Some(step) if step_deadline < deadline => {
                (step_deadline, SessionMessage::StepExpired(step))
            }
            _ => (deadline, SessionMessage::Expired),
        };
        self.in_flight.extend(effects.iter().cloned());
        let performing = FuturesUnordered::new();
        for effect in effects {
            let (span, departure) = (perform::span(&effect), self.departure(&effect));
            let (deps, trail) = (Arc::clone(&self.start.deps), self.trail.clone());
            let effect =
                perform::effect(deps, trail, self.start.id, effect, (&self.session, departure));
            performing.push(effect.instrument(span));
        }
        let actor = myself.clone();
        let send = move |message| {
            note_hand_over("session");
            let _ = actor.cast(message);
        };
        self.tasks.spawn(async move {
            let is_in_time = perform::together(performing, deadline, |performed| {
                send(SessionMessage::Performed(performed));
            });
            match AssertUnwindSafe(is_in_time).catch_unwind().await {
                Ok(true) => {}
                Ok(false) => send(expired),
                // The deadline is gone with the effects: another actor begins them again.
                Err(_) => send(SessionMessage::Broken),
            }
        });
    }

    /// Tells the debugger of abandoned runs, and the model's actor of an abandoned call. Best
    /// effort: what is not cancelled ends by its time limit, and its record is closed at the next
    /// start.
    pub(super) fn notify_abandoned(&mut self) {
        if let Some(call_id) = self.abandoned_call.take() {
            spawn_detached(perform::cancel_call(Arc::clone(&self.start.deps), call_id));
        }
        for run_id in self.abandoned_runs.drain(..) {
            spawn_detached(perform::cancel(Arc::clone(&self.start.deps), run_id));
        }
    }
}
