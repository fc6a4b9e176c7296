//! The actor of one session: appends its decisions and performs its effects.
//!
//! *Promises.* Events are on disk before they are answered and before a recorded effect is
//! performed; events between two such points share one append, so a session without code costs one
//! sync. An actor that finds a stream at its start folds it and continues.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ai_factory_schemas::{
    envelope::{Draft, Trail},
    event::Event,
    id::{EventId, RunId, SessionId},
    plan::TaskType,
    problem::Problem,
    session::{Resolution, SessionEvent},
    time::Timestamp,
};
use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::{
    live::told,
    perform::{self, Performed},
    state::Session,
    story,
    vocabulary::{SessionCommand, SessionEffect, SessionOutcome, SessionRejection},
};
use crate::{
    append,
    convert::not_appended,
    decider::Decider,
    deps::Deps,
    goal,
    ports::journal::{Append, AppendError, Command},
    service::{Context, Reply, Tasks, json},
    spans,
};

/// The opening of a session.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The goal.
    pub goal: String,
    /// The kind of work.
    pub task_type: TaskType,
    /// The context of the request.
    pub context: Context,
    /// The command to record, if the request has a key.
    pub command: Option<Command>,
    /// The payload of a published goal; its refusal is recorded. `None` for a request.
    pub published: Option<Bytes>,
}

/// Arguments of the actor.
#[derive(Clone)]
pub struct Start {
    /// The session.
    pub id: SessionId,
    /// The opening; `None` for a session that is already in the journal.
    pub opening: Option<Arc<Opening>>,
    /// Whether an actor was started with these arguments earlier: then the stream may exist.
    pub started_before: Arc<AtomicBool>,
    /// The ports.
    pub deps: Arc<Deps>,
}

/// Messages to the actor.
pub enum SessionMessage {
    /// Begin, or continue.
    Begin,
    /// An effect was performed.
    Performed(Performed),
    /// Cancel the session.
    Cancel(Reply),
    /// Decide about the step whose end is unknown.
    Resolve(Resolution, Reply),
    /// The session's deadline passed.
    Expired,
    /// A step's deadline passed.
    StepExpired(u32),
}

/// The ractor actor of one session.
pub struct SessionShell;

/// The state of a [`SessionShell`].
pub struct Running {
    start: Start,
    session: Session,
    /// The version of the stream on disk.
    version: u64,
    /// The time of the plan's record, once it is on disk.
    planned_at: Option<Timestamp>,
    /// Decided and evolved, not yet on disk.
    unsaved: Vec<SessionEvent>,
    in_flight: HashSet<SessionEffect>,
    /// Abandoned runs; the debugger is told once that is on disk.
    let_go: Vec<RunId>,
    tasks: Tasks,
    /// The trail of the session's events and requests.
    trail: Trail,
    /// Set by [`SessionMessage::Begin`]; in the trace of the session's first event.
    span: Span,
    /// Whether an earlier actor of the session died in this process.
    restarted: bool,
}

/// What follows a message.
enum Next {
    GoOn,
    Stop,
}

#[ractor::async_trait]
impl Actor for SessionShell {
    type Msg = SessionMessage;
    type State = Running;
    type Arguments = Start;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionMessage>,
        start: Start,
    ) -> Result<Running, ActorProcessingErr> {
        myself.cast(SessionMessage::Begin)?;
        Ok(Running {
            trail: Trail { causation: None, correlation: Some(start.id.0), traceparent: None },
            start,
            session: Session::default(),
            version: 0,
            planned_at: None,
            unsaved: Vec::new(),
            in_flight: HashSet::new(),
            let_go: Vec::new(),
            tasks: Tasks::default(),
            span: Span::none(),
            restarted: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMessage>,
        message: SessionMessage,
        state: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        if matches!(message, SessionMessage::Begin) {
            state.load().await?;
        }
        let span = state.span.clone();
        match state.receive(&myself, message).instrument(span).await? {
            Next::GoOn => {}
            Next::Stop => myself.stop(None),
        }
        Ok(())
    }
}

impl Running {
    fn next_run(&self) -> RunId {
        RunId(self.start.deps.world.new_id())
    }

    async fn receive(
        &mut self,
        myself: &ActorRef<SessionMessage>,
        message: SessionMessage,
    ) -> Result<Next, ActorProcessingErr> {
        match message {
            SessionMessage::Begin => self.begin(myself).await,
            SessionMessage::Performed(performed) => {
                let Performed { effect, outcome } = performed;
                self.in_flight.remove(&effect);
                let outcome = match outcome {
                    // Refused before anything was recorded: the request was invalid.
                    Err(problem) if self.version == 0 && !problem.is_transient() => {
                        return Ok(self.refuse(problem).await);
                    }
                    Err(problem) => SessionOutcome::NotProposed { reason: problem.sentence() },
                    Ok(outcome) => outcome,
                };
                let events = self.session.settle(outcome);
                self.take(events)?;
                self.drive(myself).await
            }
            SessionMessage::Cancel(reply) => {
                let decided = self.session.decide(SessionCommand::Cancel);
                self.tell(myself, decided, reply).await
            }
            SessionMessage::Resolve(resolution, reply) => {
                let next_run = self.next_run();
                let decided = self.session.decide(SessionCommand::Resolve { resolution, next_run });
                if decided.is_ok() {
                    self.arm_deadline(myself);
                }
                self.tell(myself, decided, reply).await
            }
            // The deadline is for the session's work; a decision by a user has none.
            SessionMessage::Expired if self.session.status_word() == "waiting" => Ok(Next::GoOn),
            SessionMessage::Expired => {
                if let Ok(events) = self.session.decide(SessionCommand::Expire) {
                    self.take(events)?;
                }
                self.drive(myself).await
            }
            SessionMessage::StepExpired(step) => {
                let next_run = self.next_run();
                let expired = self.session.decide(SessionCommand::ExpireStep { step, next_run });
                if let Ok(events) = expired {
                    self.take(events)?;
                }
                self.drive(myself).await
            }
        }
    }

    fn arm_deadline(&mut self, myself: &ActorRef<SessionMessage>) {
        self.send_after(self.start.deps.limits.session_max, myself, SessionMessage::Expired);
    }

    /// Sends a message to the actor after a delay. The task ends with the actor: a timer of ractor
    /// would keep what is left of the actor until it fires.
    fn send_after(
        &mut self,
        time: Duration,
        myself: &ActorRef<SessionMessage>,
        message: SessionMessage,
    ) {
        let shell = myself.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(time).await;
            let _ = shell.cast(message);
        });
    }

    /// Folds the stream if there is one, and enters the session's trace: that of its first event,
    /// so that a session continues its trace after a crash.
    async fn load(&mut self) -> Result<(), ActorProcessingErr> {
        let Start { id, opening, started_before, deps } = &self.start;
        let mut traceparent =
            opening.as_ref().and_then(|opening| opening.context.traceparent.clone());
        self.restarted = started_before.swap(true, Ordering::Relaxed);
        let may_exist = self.restarted || opening.is_none();
        if may_exist && let Some(folded) = story::fold(&*deps.journal, *id).await? {
            self.session = folded.session;
            self.version = folded.version;
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
    ) -> Result<Next, ActorProcessingErr> {
        let limits = self.start.deps.limits.clone();
        self.arm_deadline(myself);
        let live = Arc::clone(&self.start.deps.live);
        if self.version > 0 {
            if let Some(reply) = live.early_cancel(self.start.id) {
                // Cancelled before it resumed: no step begins again.
                live.shell_started(self.start.id, myself.clone());
                let decided = self.session.decide(SessionCommand::Cancel);
                return self.tell(myself, decided, reply).await;
            }
            live.shell_started(self.start.id, myself.clone());
            let resume = SessionCommand::Resume {
                repeatable: limits.repeat_unknown && self.start.deps.sandbox.is_repeatable(),
                after_crash: self.restarted || !self.start.deps.ended_in_order,
                resumes_max: limits.session_resumes_max,
            };
            // A session that is over only has to be answered.
            if let Ok(events) = self.session.decide(resume) {
                self.take(events)?;
                // I-4: the resumption is on disk before anything else is tried.
                self.save().await?;
            }
            return self.drive(myself).await;
        }
        live.shell_started(self.start.id, myself.clone());
        let Some(opening) = self.start.opening.clone() else {
            let gone = Problem::not_found(format!("there is no session {}", self.start.id));
            return Ok(self.refuse(gone).await);
        };
        let events = self.session.decide(SessionCommand::Open {
            request_id: opening.context.request_id.clone(),
            goal: opening.goal.clone(),
            task_type: opening.task_type,
            submitted_by: opening.context.submitter.clone(),
        })?;
        self.take(events)?;
        self.drive(myself).await
    }

    /// Evolves what was decided (I-1); it is appended at the next durable point.
    fn take(&mut self, events: Vec<SessionEvent>) -> Result<(), ActorProcessingErr> {
        for event in events {
            let awaited: Vec<_> = self.session.open_runs().collect();
            self.session.evolve(&event)?;
            if matches!(event, SessionEvent::StepFailed(_) | SessionEvent::StepResolved(_)) {
                let open: Vec<_> = self.session.open_runs().collect();
                self.let_go.extend(awaited.into_iter().filter(|run| !open.contains(run)));
            }
            self.unsaved.push(event);
        }
        Ok(())
    }

    /// Tells every caller that there will be no session, and records it if the goal was published.
    async fn refuse(&self, mut problem: Problem) -> Next {
        let Start { id, opening, deps, .. } = &self.start;
        if let Some(opening) = opening
            && let Some(published) = &opening.published
        {
            problem = goal::reject(deps, &opening.context, published, problem).await;
        }
        deps.live.refused(*id, &problem).await;
        Next::Stop
    }

    /// Makes durable what must be, performs pending effects, and ends the session if it is over.
    async fn drive(
        &mut self,
        myself: &ActorRef<SessionMessage>,
    ) -> Result<Next, ActorProcessingErr> {
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
        let waits = self.session.status_word() == "waiting";
        let recorded = pending.iter().any(SessionEffect::is_recorded);
        if over || waits || recorded {
            match self.save().await {
                Ok(Saved::Here) => {}
                Ok(Saved::Elsewhere(other)) => {
                    self.hand_over(other).await;
                    return Ok(Next::Stop);
                }
                // The key belongs to another request, or there is no room: refused, nothing
                // recorded.
                Err(error) if self.version == 0 && !matches!(error, AppendError::Storage(_)) => {
                    return Ok(self.refuse(not_appended(&error)).await);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.tell_debugger();
        if over {
            let Start { id, deps, .. } = &self.start;
            let answer = async || {
                story::answer_of(&*deps.journal, *id, &self.session, self.planned_at).await
            };
            deps.live.ended(*id, answer).await;
            return Ok(Next::Stop);
        }
        for effect in pending {
            self.in_flight.insert(effect.clone());
            if let SessionEffect::Run { step, .. } = effect {
                let step_max = self.start.deps.limits.step_max;
                self.send_after(step_max, myself, SessionMessage::StepExpired(step));
            }
            let span = spans::effect(&effect);
            let performing = perform::effect(
                Arc::clone(&self.start.deps),
                self.trail.clone(),
                self.start.id,
                effect,
                &self.session,
            );
            let myself = myself.clone();
            let performing = performing.instrument(span);
            self.tasks.spawn(async move {
                let _ = myself.cast(SessionMessage::Performed(performing.await));
            });
        }
        Ok(Next::GoOn)
    }

    /// Appends what is not yet on disk, and answers the callers that waited for it.
    async fn save(&mut self) -> Result<Saved, AppendError> {
        if self.unsaved.is_empty() {
            return Ok(Saved::Here);
        }
        let world = &self.start.deps.world;
        let drafts: Vec<_> = self
            .unsaved
            .iter()
            .map(|event| Draft {
                id: EventId(world.new_id()),
                time: world.now(),
                event: Event::from(event.clone()),
                trail: self.trail.clone(),
            })
            .collect();
        let planned = self.unsaved.iter().position(story::is_plan);
        let planned_at = self.planned_at.or(planned.map(|at| drafts[at].time));
        let last: Option<Uuid> = drafts.last().map(|draft| draft.id.0);
        let command = match (self.version, &self.start.opening) {
            (0, Some(opening)) => opening.command.clone(),
            _ => None,
        };
        let append = Append {
            stream: self.start.id.into(),
            expected: self.version,
            events: drafts,
            command,
            blobs: Vec::new(),
        };
        let journal = &*self.start.deps.journal;
        // A goal that was not yet accepted is refused; a session under way waits for room.
        let appended = match self.version {
            0 => append::at_once(journal, append).await?,
            _ => append::patiently(journal, append).await?,
        };
        if appended.repeated {
            return Ok(Saved::Elsewhere(SessionId(appended.stream.id)));
        }
        self.version = appended.version;
        self.planned_at = planned_at;
        self.unsaved.clear();
        self.trail.causation = last;
        if let Some(submitted) = self.session.submitted(self.start.id) {
            self.start.deps.live.accepted(self.start.id, &submitted).await;
        }
        Ok(Saved::Here)
    }

    /// The key had already opened another session: its callers join that one (I-5).
    async fn hand_over(&self, other: SessionId) {
        let journal = &*self.start.deps.journal;
        let (acceptance, end) = self.start.deps.live.withdraw(self.start.id);
        for reply in acceptance {
            reply.send(json(story::submitted(journal, other).await)).await;
        }
        for reply in end {
            if let Err(reply) = self.start.deps.live.join(other, reply) {
                reply.send(json(story::answer(journal, other).await)).await;
            }
        }
    }

    async fn tell(
        &mut self,
        myself: &ActorRef<SessionMessage>,
        decided: Result<Vec<SessionEvent>, SessionRejection>,
        reply: Reply,
    ) -> Result<Next, ActorProcessingErr> {
        let events = match decided {
            Ok(events) => events,
            Err(rejection) => {
                reply.send(Err(Problem::conflict(rejection.to_string()))).await;
                return Ok(Next::GoOn);
            }
        };
        self.take(events)?;
        let status = self.session.status_word();
        let next = self.drive(myself).await?;
        reply.send(json(Ok(told(self.start.id, status)))).await;
        Ok(next)
    }

    /// Tells the debugger of abandoned runs. Best effort: a run that is not cancelled ends by its
    /// wall time limit, and its record is closed at the next start.
    fn tell_debugger(&mut self) {
        for run_id in self.let_go.drain(..) {
            let telling = perform::cancel(Arc::clone(&self.start.deps), run_id);
            tokio::spawn(telling.in_current_span());
        }
    }
}

/// The result of a session's first append.
enum Saved {
    /// Appended to its own stream.
    Here,
    /// Nothing was written: the key had already opened the named session.
    Elsewhere(SessionId),
}
