//! What the actor of a session holds: the session's state, and what of it is not yet on disk.

use std::{collections::HashSet, time::Duration};

use ai_factory_ports::journal::Command;
use ai_factory_schemas::{
    envelope::Trail,
    id::{CallId, RunId},
    session::SessionEvent,
    text::Blob,
    time::Timestamp,
};
use ractor::ActorProcessingErr;
use tokio::time::Instant;
use tracing::Span;

use super::{
    departure::{AttemptOfCall, Departure},
    message::SessionStart,
    state::Session,
    vocabulary::{NextIds, SessionEffect},
};
use crate::{agent::turn::TurnState, decider::Decider, tasks::Tasks};

/// The state of a [`SessionActor`](super::actor::SessionActor).
pub struct SessionActorState {
    pub(super) start: SessionStart,
    pub(super) session: Session,
    /// The version of the stream on disk.
    pub(super) version: u64,
    /// The time of the plan's record, once it is on disk.
    pub(super) planned_at: Option<Timestamp>,
    /// Decided and evolved, not yet on disk.
    pub(super) unsaved: Vec<SessionEvent>,
    /// The blobs that they refer to.
    pub(super) unsaved_blobs: Vec<Blob>,
    /// The command that they answer, if its request has a key.
    pub(super) command: Option<Command>,
    pub(super) in_flight: HashSet<SessionEffect>,
    /// The last attempt of a call that was taken up, and whether it has left.
    pub(super) departing: Option<(AttemptOfCall, Departure)>,
    /// The attempt that was under way when this actor began.
    pub(super) found_asked: Option<AttemptOfCall>,
    /// When the session's work must be done.
    pub(super) deadline: Instant,
    /// Abandoned runs; the debugger is told once that is on disk.
    pub(super) abandoned_runs: Vec<RunId>,
    /// The call that is abandoned; the model's actor is told once that is on disk.
    pub(super) abandoned_call: Option<CallId>,
    pub(super) tasks: Tasks,
    /// The trail of the session's events and requests.
    pub(super) trail: Trail,
    /// Set by [`SessionMessage::Begin`]; in the trace of the session's first event.
    pub(super) span: Span,
    /// Whether an earlier actor of the session died in this process.
    pub(super) restarted: bool,
}

impl SessionActorState {
    pub(super) fn new(start: SessionStart) -> Self {
        Self {
            trail: Trail { causation: None, correlation: Some(start.id.0), traceparent: None },
            start,
            session: Session::default(),
            version: 0,
            planned_at: None,
            unsaved: Vec::new(),
            unsaved_blobs: Vec::new(),
            command: None,
            in_flight: HashSet::new(),
            departing: None,
            found_asked: None,
            deadline: Instant::now(),
            abandoned_runs: Vec::new(),
            abandoned_call: None,
            tasks: Tasks::default(),
            span: Span::none(),
            restarted: false,
        }
    }

    /// The ids of what may follow.
    pub(super) fn next(&self) -> NextIds {
        NextIds { session: self.start.id, run: RunId(self.start.deps.ids.new_id()) }
    }

    /// Gives the session its whole time again.
    pub(super) fn set_deadline(&mut self) {
        self.deadline = Instant::now() + self.session_max();
    }

    /// Time limit of the session.
    pub(super) fn session_max(&self) -> Duration {
        let limits = &self.start.deps.limits;
        let opening = self.start.opening.as_ref();
        let has_check = self.session.check().is_some()
            || opening.is_some_and(|opening| opening.check.is_some());
        let terms = self.session.model().or(opening.and_then(|opening| opening.model.as_deref()));
        match terms {
            Some(terms) => Duration::from_millis(terms.limits.session_ms_max),
            None if has_check => limits.session_with_check_max(),
            None => limits.session_max,
        }
    }

    /// The call whose answer is not recorded here: under way, or lost in a crash.
    fn call_without_answer(&self) -> Option<CallId> {
        let turn = self.session.conversation()?.turn()?;
        (!matches!(turn.state, TurnState::Answered(_))).then_some(turn.call_id)
    }

    /// Evolves what was decided (I-1); it is appended at the next durable point.
    pub(super) fn stage(&mut self, events: Vec<SessionEvent>) -> Result<(), ActorProcessingErr> {
        for event in events {
            let awaited: Vec<_> = self.session.open_runs().collect();
            self.session.evolve(&event)?;
            if matches!(
                event,
                SessionEvent::StepFailed(_)
                    | SessionEvent::StepResolved(_)
                    | SessionEvent::Concluded(_)
            ) {
                let open: Vec<_> = self.session.open_runs().collect();
                self.abandoned_runs.extend(awaited.into_iter().filter(|run| !open.contains(run)));
            }
            if matches!(event, SessionEvent::Concluded(_)) {
                self.abandoned_call = self.call_without_answer();
            }
            self.unsaved.push(event);
        }
        Ok(())
    }

    /// The departure of an effect that is about to be performed.
    pub(super) fn departure(&mut self, effect: &SessionEffect) -> Departure {
        let departure = Departure::default();
        if let SessionEffect::Call { call_id, attempt, .. } = effect {
            self.departing = Some(((*call_id, *attempt), departure.clone()));
        }
        departure
    }

    /// The attempt whose answer is awaited.
    pub(super) fn asked(&self) -> Option<AttemptOfCall> {
        let turn = self.session.conversation()?.turn()?;
        (turn.state == TurnState::Asked).then_some((turn.call_id, turn.attempt))
    }

    /// Holds back the attempt whose answer is awaited; the result says whether it may have reached
    /// the provider. The session is over afterwards. An attempt that another actor began may have.
    pub(super) fn hold_attempt(&self) -> bool {
        let asked = self.asked();
        if asked.is_none() || asked == self.found_asked {
            return true;
        }
        let departing = self.departing.as_ref().filter(|(attempt, _)| Some(*attempt) == asked);
        departing.is_some_and(|(_, departure)| !departure.hold())
    }
}
