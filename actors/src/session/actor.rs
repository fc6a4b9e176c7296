//! The actor of one session: appends its decisions and performs its effects.
//!
//! *Promises.* Events are on disk before they are answered and before a recorded effect is
//! performed; events between two such points share one append, so a session without code costs one
//! sync. An actor that finds a stream at its start folds it and continues.

use std::sync::{Arc, atomic::Ordering};

use ai_factory_ports::journal::AppendError;
use ai_factory_schemas::{
    answer::{GoalAnswer, SessionStatusAnswer},
    problem::Problem,
    session::{SessionEvent, SessionOpened, SessionPhase},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{
    active::SessionActorState,
    message::{PerformedEffect, SessionMessage, SessionStart},
    save::SaveOutcome,
    story,
    vocabulary::{SessionCommand, SessionEffect, SessionOutcome, SessionRejection},
    waits,
};
use crate::{
    decider::Decider,
    goal,
    request::{Reply, json},
    session_registry::SessionRequest,
    spans,
};

/// The ractor actor of one session.
pub struct SessionActor;

/// What follows a message.
enum Flow {
    Continue,
    Stop,
}

#[ractor::async_trait]
impl Actor for SessionActor {
    type Msg = SessionMessage;
    type State = SessionActorState;
    type Arguments = SessionStart;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionMessage>,
        start: SessionStart,
    ) -> Result<SessionActorState, ActorProcessingErr> {
        myself.cast(SessionMessage::Begin)?;
        Ok(SessionActorState::new(start))
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMessage>,
        message: SessionMessage,
        state: &mut SessionActorState,
    ) -> Result<(), ActorProcessingErr> {
        if matches!(message, SessionMessage::Begin) {
            state.load().await?;
        }
        let span = state.span.clone();
        match state.receive(&myself, message).instrument(span).await? {
            Flow::Continue => {}
            Flow::Stop => myself.stop(None),
        }
        Ok(())
    }
}

impl SessionActorState {
    async fn receive(
        &mut self,
        myself: &ActorRef<SessionMessage>,
        message: SessionMessage,
    ) -> Result<Flow, ActorProcessingErr> {
        match message {
            SessionMessage::Begin => self.begin(myself).await,
            SessionMessage::Performed(performed) => self.settle(myself, performed).await,
            SessionMessage::Request(request) => {
                self.start.deps.sessions.request_taken(self.start.id);
                self.take(myself, request).await
            }
            SessionMessage::Expired => {
                self.expire()?;
                self.drive(myself).await
            }
            SessionMessage::Broken => Err("an effect of the session panicked".into()),
            SessionMessage::StepExpired(step) => {
                let next = self.next();
                let expired = self.session.decide(SessionCommand::ExpireStep { step, next });
                if let Ok(events) = expired {
                    self.stage(events)?;
                }
                self.drive(myself).await
            }
        }
    }

    /// Takes up a request from outside.
    async fn take(
        &mut self,
        myself: &ActorRef<SessionMessage>,
        request: SessionRequest,
    ) -> Result<Flow, ActorProcessingErr> {
        match request {
            SessionRequest::Cancel(reply) => {
                let decided = self.cancel();
                return self.apply_and_reply(myself, decided, reply).await;
            }
            SessionRequest::Resolve(resolution, reply) => {
                let next = self.next();
                let decided = self.session.decide(SessionCommand::Resolve { resolution, next });
                if decided.is_ok() {
                    // The wait for the decision does not count.
                    self.set_deadline();
                }
                return self.apply_and_reply(myself, decided, reply).await;
            }
            SessionRequest::Answer(request, reply) => self.take_answer(&request, reply).await?,
            SessionRequest::Budget(request, reply) => self.take_budget(*request, reply).await?,
            SessionRequest::QuestionExpired => self.expire_question()?,
            SessionRequest::RetryTurn => self.retry_turn()?,
        }
        self.drive(myself).await
    }

    /// Decides what follows from the outcomes of effects.
    async fn settle(
        &mut self,
        myself: &ActorRef<SessionMessage>,
        performed: Vec<PerformedEffect>,
    ) -> Result<Flow, ActorProcessingErr> {
        for PerformedEffect { effect, outcome, blobs, waited } in performed {
            self.in_flight.remove(&effect);
            // The wait for a model's place does not count.
            self.deadline += waited;
            let outcome = match outcome {
                // Refused before anything was recorded: the request was invalid.
                Err(problem) if self.version == 0 && !problem.is_transient() => {
                    return Ok(self.refuse(problem).await);
                }
                // The journal could not be read: another actor performs it again.
                Err(problem) if effect.is_of_turn() => return Err(problem.into()),
                Err(problem) => SessionOutcome::NotProposed { reason: problem.sentence() },
                Ok(outcome) => self.in_time(outcome),
            };
            let events = self.session.settle(outcome);
            if !events.is_empty() {
                self.unsaved_blobs.extend(blobs);
            }
            self.stage(events)?;
        }
        let is_running = self.session.phase() == SessionPhase::Running;
        if is_running && self.session.model().is_some() && Instant::now() >= self.deadline {
            // A call that was under way at the deadline: its answer is kept, no other one follows.
            self.expire()?;
        }
        self.drive(myself).await
    }

    fn cancel(&self) -> Result<Vec<SessionEvent>, SessionRejection> {
        self.session.decide(SessionCommand::Cancel { may_be_sent: self.hold_attempt() })
    }

    /// A failure that the provider wants to be repeated only after the session's time ends it.
    fn in_time(&self, outcome: SessionOutcome) -> SessionOutcome {
        let SessionOutcome::NotAnswered { failed, next } = outcome else { return outcome };
        let left_ms = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        let left_ms = u64::try_from(left_ms).unwrap_or(u64::MAX);
        let is_late = failed.class.is_retried() && failed.retry_after_ms > Some(left_ms);
        if is_late {
            SessionOutcome::TooLate { failed, left_ms }
        } else {
            SessionOutcome::NotAnswered { failed, next }
        }
    }

    fn expire(&mut self) -> Result<(), ActorProcessingErr> {
        match self.session.decide(SessionCommand::Expire { may_be_sent: self.hold_attempt() }) {
            Ok(events) => self.stage(events),
            Err(_) => Ok(()),
        }
    }

    /// Folds the stream if there is one, and enters the session's trace: that of its first event,
    /// so that a session continues its trace after a crash.
    async fn load(&mut self) -> Result<(), ActorProcessingErr> {
        let SessionStart { id, opening, started_before, deps } = &self.start;
        let mut traceparent =
            opening.as_ref().and_then(|opening| opening.context.traceparent.clone());
        self.restarted = started_before.swap(true, Ordering::Relaxed);
        let may_exist = self.restarted || opening.is_none();
        if may_exist && let Some(folded) = story::fold(&*deps.journal, *id).await? {
            self.session = folded.session;
            self.version = folded.version;
            self.found_asked = self.asked();
            self.planned_at = story::planned_at(&folded.recorded);
            if let Some(first) = folded.recorded.into_iter().next() {
                traceparent = first.trail.traceparent;
            }
        }
        self.span = spans::session(*id, self.version > 0);
        if let Some(traceparent) = &traceparent {
            deps.traces.adopt(&self.span, traceparent);
        }
        self.trail.traceparent = deps.traces.of(&self.span).or(traceparent);
        Ok(())
    }

    async fn begin(
        &mut self,
        myself: &ActorRef<SessionMessage>,
    ) -> Result<Flow, ActorProcessingErr> {
        let limits = self.start.deps.limits.clone();
        self.set_deadline();
        let sessions = Arc::clone(&self.start.deps.sessions);
        // A session that waits for somebody was not under way in the crash.
        let waited = sessions.waiting.has(self.start.id);
        if self.version > 0 {
            if let Some(reply) = sessions.early_cancel(self.start.id) {
                // Cancelled before it resumed: no step begins again.
                sessions.actor_started(self.start.id, myself.get_derived());
                let decided = self.cancel();
                return self.apply_and_reply(myself, decided, reply).await;
            }
            if let Err(problem) = self.check_place().await {
                tracing::warn!(id = %self.start.id, %problem, "the session stays as it is");
                return Ok(self.refuse(problem).await);
            }
            sessions.actor_started(self.start.id, myself.get_derived());
            let resume = SessionCommand::Resume {
                repeatable: limits.repeat_unknown && self.start.deps.sandbox.is_repeatable(),
                after_crash: self.restarted || !(waited || self.start.deps.ended_in_order),
                resumes_max: limits.session_resumes_max,
                next: self.next(),
            };
            // A session that is over only has to be answered.
            if let Ok(events) = self.session.decide(resume) {
                self.stage(events)?;
                // I-4: the resumption is on disk before anything else is tried.
                self.save().await?;
            }
            return self.drive(myself).await;
        }
        sessions.actor_started(self.start.id, myself.get_derived());
        let Some(opening) = self.start.opening.clone() else {
            let gone = Problem::not_found(format!("there is no session {}", self.start.id));
            return Ok(self.refuse(gone).await);
        };
        let events = self.session.decide(SessionCommand::Open(Box::new(SessionOpened {
            request_id: opening.context.request_id.clone(),
            goal: opening.goal.clone(),
            task_type: opening.task_type,
            submitted_by: opening.context.submitter.clone(),
            workspace: opening.workspace,
            check: opening.check.clone(),
            protect: opening.protect.clone(),
            model: opening.model.clone(),
        })))?;
        self.stage(events)?;
        self.drive(myself).await
    }

    /// Tells every caller that there will be no session, and records it if the goal was published.
    async fn refuse(&self, mut problem: Problem) -> Flow {
        let SessionStart { id, opening, deps, .. } = &self.start;
        if let Some(opening) = opening
            && let Some(published) = &opening.published
        {
            problem = goal::reject(deps, &opening.context, published, problem).await;
        }
        deps.sessions.notify_refused(*id, &problem).await;
        Flow::Stop
    }

    /// Makes durable what must be, performs pending effects, and ends the session if it is over.
    async fn drive(
        &mut self,
        myself: &ActorRef<SessionMessage>,
    ) -> Result<Flow, ActorProcessingErr> {
        let pending: Vec<_> = self
            .session
            .pending()
            .into_iter()
            .filter(|effect| !self.in_flight.contains(effect))
            .collect();
        let over = self.session.concluded().is_some();
        if let Some(end) = self.session.concluded() {
            spans::concluded(&self.span, end);
        }
        let waits = self.session.phase().is_waiting();
        let recorded = pending.iter().any(SessionEffect::is_recorded);
        // What the effects of turns read must be there: the prompts, and who waits is answered.
        let opens = self.version == 0 && self.session.model().is_some();
        if over || waits || recorded || opens {
            match self.save().await {
                Ok(SaveOutcome::Here) => {}
                Ok(SaveOutcome::DuplicateOf(other)) => {
                    self.redirect_waiters(other).await;
                    return Ok(Flow::Stop);
                }
                // The key belongs to another request, or there is no room: refused, nothing
                // recorded.
                Err(error) if self.version == 0 && !matches!(error, AppendError::Storage(_)) => {
                    return Ok(self.refuse(Problem::from(error)).await);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.notify_abandoned();
        if over {
            let SessionStart { id, deps, .. } = &self.start;
            let answer = async || {
                let (journal, planned_at) = (&*deps.journal, self.planned_at);
                let answer = story::answer_of(journal, *id, &self.session, planned_at).await;
                answer.map(|answer| GoalAnswer::Concluded(Box::new(answer)))
            };
            deps.sessions.notify_ended(*id, answer).await;
            return Ok(Flow::Stop);
        }
        if let Some(awaited) = waits::awaited(&self.session)
            && pending.is_empty()
        {
            // It leaves memory, and its place, until somebody wakes it.
            let SessionStart { id, deps, .. } = &self.start;
            let answer = async || Ok(waits::pending(*id, &self.session));
            let is_gone = deps.sessions.notify_waiting(*id, awaited, answer).await;
            return Ok(if is_gone { Flow::Stop } else { Flow::Continue });
        }
        if !pending.is_empty() {
            self.perform(myself, pending);
        }
        Ok(Flow::Continue)
    }

    async fn apply_and_reply(
        &mut self,
        myself: &ActorRef<SessionMessage>,
        decided: Result<Vec<SessionEvent>, SessionRejection>,
        reply: Reply,
    ) -> Result<Flow, ActorProcessingErr> {
        let events = match decided {
            Ok(events) => events,
            Err(rejection) => {
                reply.send(Err(Problem::conflict(rejection.to_string()))).await;
                // The request may have woken a session that waits: it leaves memory again.
                return self.drive(myself).await;
            }
        };
        self.stage(events)?;
        let status = self.session.phase();
        let next = self.drive(myself).await?;
        reply.send(json(Ok(SessionStatusAnswer { session_id: self.start.id, status }))).await;
        Ok(next)
    }
}
