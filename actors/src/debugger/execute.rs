//! Execution of one run, from its request to its recorded end.
//!
//! *Promises.* A dispatch is on disk before the program starts, the end before it is answered. A
//! run is under way at most once at a time: a repeated request joins it, or gets its recorded end.
//! An attempt whose end is unknown is followed by one with the next number, never by a silent
//! re-run.

use std::sync::Arc;

use ai_factory_ports::{
    journal::{AppendError, Command},
    retry_after,
};
use ai_factory_schemas::{
    answer::RunAnswer,
    event::Event,
    id::{Category, RunId},
    problem::Problem,
    request::RunRequest,
    run::{RunEnd, RunEvent},
};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{
    decider::{Run, RunCommand},
    input::{self, Blobs},
    language::unsupported,
    perform::perform,
    workspace,
};
use crate::{
    blobs,
    decider::Decider,
    deps::Deps,
    effect::{
        active::{ActiveEffect, ActiveEffects},
        loaded::{Loaded, Streamed},
        orphans::orphans,
        slots::{EffectSlots, NoSlot},
    },
    request::RequestContext,
};

/// Executes runs and tracks those under way.
pub struct Executor {
    deps: Arc<Deps>,
    slots: EffectSlots,
    active: ActiveEffects<RunId>,
}

impl Streamed for Run {
    fn own(event: Event) -> Option<RunEvent> {
        match event {
            Event::Run(event) => Some(event),
            _ => None,
        }
    }
}

/// The result of carrying a run out.
enum Execution {
    /// The run is over.
    Finished(Box<Run>),
    /// Nothing was done: the key had already taken effect, for the named run.
    DuplicateOf(RunId),
}

/// The problem for a run whose record was closed without an end.
fn end_unknown() -> Problem {
    Problem::conflict("the end of the run is unknown, and nobody waits for it")
}

/// The command of a request's key. Input beside the code is part of the fingerprint only if there
/// is any, so that fingerprints of programs without input stay stable.
fn command(context: &RequestContext, asked: &RunRequest) -> Option<Command> {
    let RunRequest { language, code, stdin, files, return_files, .. } = asked;
    if stdin.is_none() && files.is_empty() && return_files.is_empty() {
        return context.command("run", &(language, code));
    }
    context.command("run", &(language, code, stdin, files, return_files))
}

impl Executor {
    /// An executor with no run under way.
    pub fn new(deps: Arc<Deps>) -> Self {
        let slots = EffectSlots::bounded(deps.limits.runs_max, deps.limits.runs_waiting_max);
        Self { deps, slots, active: ActiveEffects::default() }
    }

    /// Ends a run that is under way, and closes the record of one whose end is unknown. The result
    /// says whether it was under way.
    pub async fn cancel(&self, run_id: RunId) -> Result<bool, Problem> {
        if self.active.cancel(run_id) {
            return Ok(true);
        }
        self.abandon(run_id, "its end is unknown, and nobody waits for it").await?;
        Ok(false)
    }

    /// Executes a run; joins it if it is under way, and answers it if it has ended. The answer has
    /// the complete outputs.
    pub async fn run(
        &self,
        context: &RequestContext,
        asked: RunRequest,
    ) -> Result<RunAnswer, Problem> {
        let (run_id, run) = self.ended_run(context, asked).await?;
        self.answer(run_id, &run).await
    }

    /// As [`Self::run`], with the end as it is recorded: large outputs as head and hash.
    pub async fn step(
        &self,
        context: &RequestContext,
        asked: RunRequest,
    ) -> Result<RunEnd, Problem> {
        let (_, run) = self.ended_run(context, asked).await?;
        run.finished().map(|finished| finished.end.clone()).ok_or_else(end_unknown)
    }

    /// The run after its end.
    async fn ended_run(
        &self,
        context: &RequestContext,
        asked: RunRequest,
    ) -> Result<(RunId, Run), Problem> {
        let command = command(context, &asked);
        let mut run_id = match (&command, asked.run_id) {
            (_, Some(run_id)) => run_id,
            (Some(command), None) => self.first_run_of(command).await?,
            (None, None) => RunId(self.deps.ids.new_id()),
        };
        let mut is_new = asked.run_id.is_none() && command.is_none();
        loop {
            let entry = self.active.claim(run_id).await;
            let loaded = if is_new { Loaded::default() } else { self.load(run_id).await? };
            if loaded.state.is_over() {
                return Ok((run_id, loaded.state));
            }
            match self.execute(context, &asked, command.clone(), entry, loaded).await? {
                Execution::Finished(run) => return Ok((run_id, *run)),
                // I-5: the key took effect in between. The other run is joined, or answered.
                Execution::DuplicateOf(other) => (run_id, is_new) = (other, false),
            }
        }
    }

    /// The run of a command's key: the first one under it, or a new one.
    async fn first_run_of(&self, command: &Command) -> Result<RunId, Problem> {
        let known = self.deps.journal.command(&command.id).await.map_err(Problem::from)?;
        match known {
            None => Ok(RunId(self.deps.ids.new_id())),
            Some((first, appended))
                if first.fingerprint == command.fingerprint
                    && appended.stream.category == Category::Run =>
            {
                Ok(RunId(appended.stream.id))
            }
            Some(_) => Err(Problem::from(AppendError::CommandConflict { id: command.id.clone() })),
        }
    }

    async fn execute(
        &self,
        context: &RequestContext,
        asked: &RunRequest,
        command: Option<Command>,
        entry: ActiveEffect<'_, RunId>,
        mut loaded: Loaded<Run>,
    ) -> Result<Execution, Problem> {
        let run_id = entry.id();
        let sandbox = &*self.deps.sandbox;
        let is_supported = sandbox.supports(&asked.language);
        // A refusal for lack of room leaves no record.
        let _slot = if is_supported { Some(self.slot(entry.cancel()).await?) } else { None };
        let isolation = sandbox.isolation();
        let run_wall_max = self.deps.limits.run_wall_max.as_millis();
        let wall_ms_max =
            asked.wall_ms_max.unwrap_or(u64::try_from(run_wall_max).unwrap_or(u64::MAX));
        let is_repeat = loaded.state.requested().is_some();
        let tree = workspace::tree(asked)?;
        if loaded.state.requested().is_some_and(|requested| requested.input.workspace != tree) {
            let sentence = format!("the run {run_id} was requested with other files before");
            return Err(Problem::conflict(sentence));
        }
        // The key took effect with the request; another attempt is no second effect.
        let command = command.filter(|_| !is_repeat);
        let mut blobs = Blobs::new();
        let begin = if is_repeat {
            RunCommand::Repeat { isolation, wall_ms_max }
        } else {
            let (input, given) = input::record_input(asked, tree);
            blobs = given;
            RunCommand::Request {
                request_id: context.request_id.clone(),
                session_id: asked.session_id,
                language: asked.language.clone(),
                code: asked.code.clone(),
                input: Box::new(input),
                isolation: if is_supported {
                    Ok(isolation)
                } else {
                    Err(unsupported(&asked.language, &sandbox.languages().await))
                },
                wall_ms_max,
            }
        };
        let events =
            loaded.state.decide(begin).map_err(|refused| Problem::conflict(refused.to_string()))?;
        let first = self.append(context, run_id, &mut loaded, events, command, blobs).await?;
        if let Some(other) = first {
            return Ok(Execution::DuplicateOf(other));
        }
        if let Some(effect) = loaded.state.pending().into_iter().next() {
            let (outcome, blobs) =
                perform(&self.deps, context, run_id, effect, asked, entry.cancel()).await;
            let events = loaded.state.settle(outcome);
            self.append(context, run_id, &mut loaded, events, None, blobs).await?;
        }
        Ok(Execution::Finished(Box::new(loaded.state)))
    }

    /// Waits for a free slot; refused if the queue is full.
    async fn slot(&self, cancel: &CancellationToken) -> Result<SemaphorePermit<'_>, Problem> {
        self.slots.take(cancel).await.map_err(|reason| match reason {
            NoSlot::Full => {
                let waiting = self.deps.limits.runs_waiting_max;
                let sentence = format!("{waiting} runs are waiting already: try again");
                Problem::busy(sentence, retry_after::RUN)
            }
            NoSlot::Cancelled => Problem::conflict("cancelled before it began"),
            NoSlot::Stopping => Problem::unavailable("the debugger is stopping"),
        })
    }

    /// Appends and folds; returns the first run if the command had already taken effect.
    async fn append(
        &self,
        context: &RequestContext,
        run_id: RunId,
        loaded: &mut Loaded<Run>,
        events: Vec<RunEvent>,
        command: Option<Command>,
        blobs: Blobs,
    ) -> Result<Option<RunId>, Problem> {
        let stream = run_id.into();
        let first = loaded.append(&self.deps, context, stream, &events, command, blobs).await?;
        if let Some(first) = first {
            return Ok(Some(RunId(first.id)));
        }
        for event in &events {
            if let RunEvent::Finished(finished) = event {
                self.deps.metrics.run_ended(finished.end.ended_by);
            }
        }
        Ok(None)
    }

    async fn load(&self, run_id: RunId) -> Result<Loaded<Run>, Problem> {
        Loaded::load(&*self.deps.journal, run_id.into()).await
    }

    async fn answer(&self, run_id: RunId, run: &Run) -> Result<RunAnswer, Problem> {
        let Some(requested) = run.requested() else {
            return Err(Problem::not_found(format!("there is no run {run_id}")));
        };
        let finished = run.finished().ok_or_else(end_unknown)?;
        let end = &finished.end;
        let promised = run.dispatched().map(|dispatched| &dispatched.isolation);
        let isolation = end.isolation.as_ref().or(promised).cloned().unwrap_or_default();
        let journal = &*self.deps.journal;
        let unread = Problem::from;
        Ok(RunAnswer {
            request_id: requested.request_id.clone(),
            stdout: blobs::load_text(journal, &end.stdout).await.map_err(unread)?,
            stderr: blobs::load_text(journal, &end.stderr).await.map_err(unread)?,
            stdout_bytes: end.stdout_bytes,
            stderr_bytes: end.stderr_bytes,
            exit_code: end.exit_code,
            status: end.status,
            run_id,
            ended_by: end.ended_by,
            attempts: run.attempts(),
            isolation,
            duration_ms: end.duration_ms,
            files: input::load_files(journal, &end.files).await.map_err(unread)?,
            files_left_out: end.files_left_out.clone(),
            reason: end.reason.clone(),
            diagnosis: end.diagnosis.as_deref().cloned(),
        })
    }

    /// Closes the records of runs that were under way when the process died and that nobody waits
    /// for: runs without a session, or of a session that is over. Open sessions request theirs
    /// again.
    pub async fn abandon_orphans(&self) {
        if let Err(problem) = self.try_abandon_orphans().await {
            tracing::warn!(%problem, "the records of abandoned runs could not be closed");
        }
    }

    async fn try_abandon_orphans(&self) -> Result<(), Problem> {
        let views = &*self.deps.views;
        let open = async {
            let open = views.open_runs().await?;
            Ok(open.into_iter().map(|open| (open.run_id, open.session_id)).collect())
        };
        for run_id in orphans(views, open).await? {
            if !self.active.contains(run_id) {
                let reason = "the factory stopped while it ran, and nobody waits for it";
                self.abandon(run_id, reason).await?;
            }
        }
        Ok(())
    }

    /// Closes the record of a run; no effect if the run is over or does not exist.
    async fn abandon(&self, run_id: RunId, reason: &str) -> Result<(), Problem> {
        let _entry = self.active.claim(run_id).await;
        let mut loaded = self.load(run_id).await?;
        let reason = reason.to_owned();
        let Ok(events) = loaded.state.decide(RunCommand::Abandon { reason }) else { return Ok(()) };
        let context = RequestContext::internal(&*self.deps.ids);
        self.append(&context, run_id, &mut loaded, events, None, Vec::new()).await?;
        Ok(())
    }
}
