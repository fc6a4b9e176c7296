//! Execution of one run, from its request to its recorded end.
//!
//! *Promises.* A dispatch is on disk before the program starts, the end before it is answered. A
//! run is under way at most once at a time: a repeated request joins it, or gets its recorded end.
//! An attempt whose end is unknown is followed by one with the next number, never by a silent
//! re-run.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use ai_factory_ports::{
    journal::{Append, AppendError, Command},
    retry_after,
};
use ai_factory_schemas::{
    answer::RunAnswer,
    envelope::EventDraft,
    event::Event,
    id::{Category, EventId, RunId, StreamId},
    problem::Problem,
    request::RunRequest,
    run::{RunEnd, RunEvent},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    decider::{Run, RunCommand},
    input::{self, Blobs},
    language::unsupported,
    perform::perform,
    workspace,
};
use crate::{append, blobs, decider::Decider, deps::Deps, request::RequestContext, spans};

/// Executes runs and tracks those under way.
pub struct Executor {
    deps: Arc<Deps>,
    slots: Semaphore,
    /// Permits to wait for a slot.
    queue: Semaphore,
    /// The runs under way here.
    active_runs: Mutex<HashMap<RunId, RunTokens>>,
}

/// The two tokens of a run under way.
#[derive(Clone, Default)]
struct RunTokens {
    /// Cancelled by who wants the run to end.
    cancel: CancellationToken,
    /// Cancelled when the run is over.
    over: CancellationToken,
}

/// The entry of a run under way; dropping it removes the entry, whatever ended the run.
struct ActiveRun<'a> {
    executor: &'a Executor,
    run_id: RunId,
    tokens: RunTokens,
}

impl Drop for ActiveRun<'_> {
    fn drop(&mut self) {
        self.executor.active_runs.lock().remove(&self.run_id);
        self.tokens.over.cancel();
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

/// A run's stream, folded.
#[derive(Default)]
struct LoadedRun {
    run: Run,
    version: u64,
}

impl Executor {
    /// An executor with no run under way.
    pub fn new(deps: Arc<Deps>) -> Self {
        let slots = Semaphore::new(deps.limits.runs_max);
        let queue = Semaphore::new(deps.limits.runs_waiting_max);
        Self { deps, slots, queue, active_runs: Mutex::default() }
    }

    /// Ends a run that is under way, and closes the record of one whose end is unknown. The result
    /// says whether it was under way.
    pub async fn cancel(&self, run_id: RunId) -> Result<bool, Problem> {
        if let Some(tokens) = self.active_runs.lock().get(&run_id) {
            tokens.cancel.cancel();
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
            let entry = self.claim(run_id).await;
            let loaded = if is_new { LoadedRun::default() } else { self.load(run_id).await? };
            if loaded.run.is_over() {
                return Ok((run_id, loaded.run));
            }
            match self.execute(context, &asked, command.clone(), entry, loaded).await? {
                Execution::Finished(run) => return Ok((run_id, *run)),
                // I-5: the key took effect in between. The other run is joined, or answered.
                Execution::DuplicateOf(other) => (run_id, is_new) = (other, false),
            }
        }
    }

    /// Registers the run as under way here, waiting until it is not under way elsewhere in the
    /// process.
    async fn claim(&self, run_id: RunId) -> ActiveRun<'_> {
        loop {
            let over = match self.active_runs.lock().entry(run_id) {
                Entry::Occupied(entry) => entry.get().over.clone(),
                Entry::Vacant(entry) => {
                    let tokens = entry.insert(RunTokens::default()).clone();
                    return ActiveRun { executor: self, run_id, tokens };
                }
            };
            over.cancelled().await;
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
        entry: ActiveRun<'_>,
        mut loaded: LoadedRun,
    ) -> Result<Execution, Problem> {
        let run_id = entry.run_id;
        let sandbox = &*self.deps.sandbox;
        let is_supported = sandbox.supports(&asked.language);
        // A refusal for lack of room leaves no record.
        let _slot = if is_supported { Some(self.slot(&entry.tokens.cancel).await?) } else { None };
        let isolation = sandbox.isolation();
        let run_wall_max = self.deps.limits.run_wall_max.as_millis();
        let wall_ms_max =
            asked.wall_ms_max.unwrap_or(u64::try_from(run_wall_max).unwrap_or(u64::MAX));
        let is_repeat = loaded.run.requested().is_some();
        let tree = workspace::tree(asked)?;
        if loaded.run.requested().is_some_and(|requested| requested.input.workspace != tree) {
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
            loaded.run.decide(begin).map_err(|refused| Problem::conflict(refused.to_string()))?;
        let first = self.append(context, run_id, &mut loaded, events, command, blobs).await?;
        if let Some(other) = first {
            return Ok(Execution::DuplicateOf(other));
        }
        if let Some(effect) = loaded.run.pending().into_iter().next() {
            let cancel = &entry.tokens.cancel;
            let (outcome, blobs) =
                perform(&self.deps, context, run_id, effect, asked, cancel).await;
            let events = loaded.run.settle(outcome);
            self.append(context, run_id, &mut loaded, events, None, blobs).await?;
        }
        Ok(Execution::Finished(Box::new(loaded.run)))
    }

    /// Waits for a free slot; refused if the queue is full.
    async fn slot(&self, cancel: &CancellationToken) -> Result<SemaphorePermit<'_>, Problem> {
        if let Ok(slot) = self.slots.try_acquire() {
            return Ok(slot);
        }
        let Ok(_ticket) = self.queue.try_acquire() else {
            let waiting = self.deps.limits.runs_waiting_max;
            let sentence = format!("{waiting} runs are waiting already: try again");
            return Err(Problem::busy(sentence, retry_after::RUN));
        };
        let slot = async {
            tokio::select! {
                slot = self.slots.acquire() => {
                    slot.map_err(|_| Problem::unavailable("the debugger is stopping"))
                }
                () = cancel.cancelled() => Err(Problem::conflict("cancelled before it began")),
            }
        };
        slot.instrument(spans::wait_for_slot()).await
    }

    /// Appends and folds; returns the first run if the command had already taken effect.
    async fn append(
        &self,
        context: &RequestContext,
        run_id: RunId,
        loaded: &mut LoadedRun,
        events: Vec<RunEvent>,
        command: Option<Command>,
        blobs: Blobs,
    ) -> Result<Option<RunId>, Problem> {
        let (clock, ids) = (&self.deps.clock, &self.deps.ids);
        let drafts = events
            .iter()
            .map(|event| EventDraft {
                id: EventId(ids.new_id()),
                time: clock.now(),
                event: event.clone().into(),
                trail: context.trail(),
            })
            .collect();
        let append = Append {
            stream: run_id.into(),
            expected: loaded.version,
            events: drafts,
            command,
            blobs,
        };
        let journal = &*self.deps.journal;
        // A run that has not begun is refused; what has happened is recorded, however long that
        // takes.
        let appended = match loaded.version {
            0 => append::append(journal, append).await,
            _ => append::append_with_retry(journal, append).await,
        }
        .map_err(Problem::from)?;
        if appended.repeated {
            return Ok(Some(RunId(appended.stream.id)));
        }
        for event in &events {
            loaded.run.evolve(event).map_err(|illegal| Problem::internal(illegal.to_string()))?;
        }
        loaded.version = appended.version;
        for event in &events {
            if let RunEvent::Finished(finished) = event {
                self.deps.metrics.run_ended(finished.end.ended_by);
            }
        }
        Ok(None)
    }

    async fn load(&self, run_id: RunId) -> Result<LoadedRun, Problem> {
        let stream = StreamId::from(run_id);
        let recorded = self.deps.journal.load(stream, 0).await.map_err(Problem::from)?;
        let version = recorded.last().map_or(0, |last| last.version);
        let events: Vec<_> = recorded
            .into_iter()
            .filter_map(|recorded| match recorded.event {
                Event::Run(event) => Some(event),
                _ => None,
            })
            .collect();
        let run = Run::fold(&events)
            .map_err(|illegal| Problem::internal(format!("{stream}: {illegal}")))?;
        Ok(LoadedRun { run, version })
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
        let views = &self.deps.views;
        let open = views.open_sessions().await.map_err(Problem::from)?;
        for orphan in views.open_runs().await.map_err(Problem::from)? {
            let awaited = orphan.session_id.is_some_and(|session| open.contains(&session));
            if awaited || self.active_runs.lock().contains_key(&orphan.run_id) {
                continue;
            }
            let reason = "the factory stopped while it ran, and nobody waits for it";
            self.abandon(orphan.run_id, reason).await?;
        }
        Ok(())
    }

    /// Closes the record of a run; no effect if the run is over or does not exist.
    async fn abandon(&self, run_id: RunId, reason: &str) -> Result<(), Problem> {
        let _entry = self.claim(run_id).await;
        let mut loaded = self.load(run_id).await?;
        let reason = reason.to_owned();
        let Ok(events) = loaded.run.decide(RunCommand::Abandon { reason }) else { return Ok(()) };
        let context = RequestContext::internal(&*self.deps.ids);
        self.append(&context, run_id, &mut loaded, events, None, Vec::new()).await?;
        Ok(())
    }
}
