//! The supervisor actor: accepts goals, starts an actor for each session, and answers queries about
//! sessions.
//!
//! *Promises.* At each start it resumes every unfinished session of the journal.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ai_factory_ports::{
    journal::{AppendError, Command},
    retry_after,
    views::SessionFilter,
};
use ai_factory_schemas::{
    answer::{
        HistoryRow, MissingFilesAnswer, SessionFilePart, SessionFiles, SessionRow,
        SessionStatusAnswer, SessionStory, Uploaded,
    },
    id::{CommandId, SessionId},
    problem::Problem,
    request::{Goal, ListSessions, ReadSessionFile, Resolve, SessionSelector},
    session::SessionPhase,
};
use parking_lot::Mutex;
use ractor::{ActorProcessingErr, ActorRef, registry};
use ractor_supervisor::{
    ChildBackoffFn, ChildSpec, DynamicSupervisor, DynamicSupervisorMsg, Restart, SpawnFn,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
};

use crate::{
    deps::Deps,
    goal,
    request::{Reply, Request, bounded, json, unknown_operation},
    service::{Handling, Service},
    session::{
        actor::SessionActor,
        lookup,
        message::{SessionOpening, SessionStart},
        story,
    },
    session_registry::{Milestone, SessionRequest},
    supervision::{back_off, sessions_name},
    tasks::{Tasks, note_hand_over, spawn_detached},
    workspace::{
        intake::{self, FILES_OPENING_BYTES_MAX, GivenContents},
        operations,
        trees::SessionTrees,
    },
};

/// Crashes after which a session resumes alone. One common crash is chance; after two the wait is
/// worth it.
const SUSPECT_AFTER: u32 = 2;

/// The supervisor actor. Its sessions are children of a supervisor of their own and survive its
/// death.
#[derive(Clone)]
pub struct Supervisor {
    deps: Arc<Deps>,
    /// Room for the files of sessions that are about to be opened, in bytes.
    opening: Arc<Semaphore>,
    /// The files of sessions that were asked for last.
    trees: Arc<SessionTrees>,
}

/// A goal that was taken in: the contents of its files beside it, by their hash.
struct TakenGoal {
    goal: Goal,
    contents: GivenContents,
}

impl From<Goal> for TakenGoal {
    /// A goal without files.
    fn from(goal: Goal) -> Self {
        Self { goal, contents: GivenContents::new() }
    }
}

impl Service for Supervisor {
    const ACTOR: &'static str = "supervisor";
    const QUESTIONS: &'static [&'static str] = &["session", "sessions", "status", "history"];
    const RECORDED: &'static [&'static str] = &["accept"];

    fn new(deps: Arc<Deps>) -> Self {
        let opening = Arc::new(Semaphore::new(FILES_OPENING_BYTES_MAX));
        Self { deps, opening, trees: Arc::default() }
    }

    fn started(&mut self, tasks: &mut Tasks) {
        // Session actors survive the death of this actor: only a start of the factory finds
        // sessions without one.
        if self.deps.resume_unfinished {
            let supervisor = self.clone();
            tasks.spawn(async move { supervisor.resume_all().await });
        }
    }

    fn handle(&mut self, mut request: Request) -> Handling {
        let supervisor = self.clone();
        let goal = match request.verb.as_str() {
            "run" | "submit" => request.read().and_then(goal::check),
            "accept" => match request.context.fault.take() {
                Some(problem) => Err(problem),
                None => goal::read(&request.body),
            },
            _ => return Handling::beside(async move { supervisor.answer(request).await }),
        };
        match goal {
            Ok(goal) if intake::has_workspace(&goal) => {
                Handling::beside(async move { supervisor.open_with_files(request, goal).await })
            }
            // Without a key there is nothing to look up: the session is started in place.
            Ok(goal) if request.context.key.is_none() => {
                Handling::in_place(async move { supervisor.open(request, goal.into(), None).await })
            }
            Ok(goal) => {
                Handling::beside(async move { supervisor.open_or_join(request, goal.into()).await })
            }
            // The refusal of a published goal is recorded.
            Err(problem) if request.verb == "accept" => {
                Handling::beside(async move { supervisor.refuse(request, problem).await })
            }
            Err(problem) => Handling::answer(request, Err(problem)),
        }
    }
}

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

/// Selects one of the sessions with the same name.
type Choice = fn(&[SessionRow], &str) -> Result<Option<SessionId>, Problem>;

/// What the caller of an opening waits for.
fn milestone(request: &Request) -> Milestone {
    if request.verb == "run" { Milestone::End } else { Milestone::Acceptance }
}

fn key_used(key: &CommandId) -> Problem {
    Problem::from(AppendError::CommandConflict { id: key.clone() })
}

impl Supervisor {
    /// Answers a refused goal. The refusal of a published goal is recorded, that of a request is
    /// not.
    async fn refuse(&self, request: Request, problem: Problem) {
        let problem = if request.verb == "accept" {
            goal::reject(&self.deps, &request.context, &request.body, problem).await
        } else {
            problem
        };
        request.reply.send(Err(problem)).await;
    }

    /// Opens a session with a workspace, or joins the one that the request's key opened before.
    async fn open_with_files(&self, request: Request, goal: Goal) {
        match intake::take_in(goal) {
            Ok((goal, contents)) => {
                self.open_or_join(request, TakenGoal { goal, contents }).await;
            }
            Err(problem) => self.refuse(request, problem).await,
        }
    }

    /// Opens a session, or joins the one that the request's key opened before.
    async fn open_or_join(&self, request: Request, goal: TakenGoal) {
        // The verb is no part of the command: through any ingress a key opens one session.
        let Some(command) = intake::command(&request.context, &goal.goal) else {
            return self.open(request, goal, None).await;
        };
        match self.opened_by(&command.id).await {
            Ok(Some((first, id))) if first == command => {
                self.join(id, milestone(&request), request.reply).await;
            }
            Ok(Some(_)) => self.refuse(request, key_used(&command.id)).await,
            Ok(None) => self.open(request, goal, Some(command)).await,
            Err(problem) => self.refuse(request, problem).await,
        }
    }

    async fn open(&self, request: Request, goal: TakenGoal, command: Option<Command>) {
        let TakenGoal { goal, contents } = goal;
        let (workspace, blobs) = if intake::has_workspace(&goal) {
            match intake::gather(&self.deps, &self.opening, &goal, contents).await {
                Ok((workspace, blobs)) => (Some(workspace), Some(blobs)),
                Err(problem) => return self.refuse(request, problem).await,
            }
        } else {
            (None, None)
        };
        let milestone = milestone(&request);
        let published = (request.verb == "accept").then(|| request.body.clone());
        let Request { context, reply, .. } = request;
        let id = SessionId(self.deps.ids.new_id());
        let sessions_max = self.deps.limits.sessions_max;
        if let Err(reply) = self.deps.sessions.admit(id, milestone, reply, sessions_max) {
            let sentence = format!("{sessions_max} sessions are under way already: try again");
            return reply.send(Err(Problem::busy(sentence, retry_after::SESSION))).await;
        }
        let opening = SessionOpening {
            goal: goal.goal,
            task_type: goal.task_type,
            workspace,
            check: goal.check,
            protect: goal.protect,
            blobs: Mutex::new(blobs),
            context,
            command,
            published,
        };
        self.start(id, Some(Arc::new(opening))).await;
    }

    /// Joins a repeated request to the first session of its key, resuming that one if nothing runs
    /// it.
    async fn join(&self, id: SessionId, milestone: Milestone, reply: Reply) {
        let journal = &*self.deps.journal;
        if matches!(milestone, Milestone::Acceptance) {
            return reply.send(json(story::submitted(journal, id).await)).await;
        }
        let Err(reply) = self.deps.sessions.join(id, reply) else { return };
        match story::fold(journal, id).await {
            Ok(Some(folded)) if folded.session.concluded().is_none() => {
                if self.deps.sessions.enter(id, Some((milestone, reply))) {
                    self.start(id, None).await;
                }
            }
            _ => reply.send(json(story::answer(journal, id).await)).await,
        }
    }

    async fn opened_by(&self, key: &CommandId) -> Result<Option<(Command, SessionId)>, Problem> {
        match lookup::of_key(&*self.deps.journal, key).await? {
            None => Ok(None),
            Some((command, Some(id))) => Ok(Some((command, id))),
            Some((_, None)) => Err(key_used(key)),
        }
    }

    /// Starts the actor of a session that has entered
    /// [`SessionRegistry`](crate::session_registry::SessionRegistry). Does not wait for its start:
    /// if there is none, dropping the [`PendingStart`] answers the session's callers.
    async fn start(&self, id: SessionId, opening: Option<Arc<SessionOpening>>) {
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
            id: format!("{}.session-{id}", self.deps.name),
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

    /// Resumes every session of the journal that is not over and not under way here: first all that
    /// are no suspects; then, one at a time, those that were under way in several crashes. So a
    /// session that crashes the factory is counted alone, and the others are not given up because
    /// of it.
    async fn resume_all(&self) {
        let open = match self.deps.views.open_sessions().await {
            Ok(open) => open,
            Err(error) => return tracing::error!(%error, "unfinished sessions could not be listed"),
        };
        let mut suspects = Vec::new();
        for id in open {
            if self.is_suspect(id).await {
                suspects.push(id);
            } else {
                self.resume_session(id).await;
            }
        }
        for id in suspects {
            // It may have been cancelled, or resumed by its key, in the meantime.
            if self.is_suspect(id).await {
                self.resume_session(id).await;
            }
            self.deps.sessions.wait_until_ended(id).await;
        }
    }

    async fn resume_session(&self, id: SessionId) {
        if self.deps.sessions.enter(id, None) {
            tracing::info!(%id, "resuming an unfinished session");
            self.start(id, None).await;
        }
    }

    /// Whether an unfinished session may be the cause of crashes. One that waits for a decision is
    /// not.
    async fn is_suspect(&self, id: SessionId) -> bool {
        match story::fold(&*self.deps.journal, id).await {
            Ok(Some(folded)) => {
                let session = &folded.session;
                session.phase() == SessionPhase::Running && session.resumes() >= SUSPECT_AFTER
            }
            _ => false,
        }
    }

    async fn answer(&self, request: Request) {
        let answer = match request.verb.as_str() {
            "cancel" => return self.cancel(request).await,
            "resolve" => return self.resolve(request).await,
            "session" => json(self.session(&request).await),
            "sessions" | "status" => json(self.sessions(&request).await),
            "history" => json(self.history(&request).await),
            "files" => json(self.files(&request).await),
            "file" => json(self.file(&request).await),
            "missing" => json(self.missing(&request).await),
            "upload" => json(self.upload(&request).await),
            verb => Err(unknown_operation(Supervisor::ACTOR, verb)),
        };
        request.reply.send(answer).await;
    }

    /// The session named by the request; `choose` decides between several that a request id opened.
    async fn which(&self, which: SessionSelector, choose: Choice) -> Result<SessionId, Problem> {
        let (journal, views) = (&*self.deps.journal, &*self.deps.views);
        match which {
            SessionSelector { id: Some(name), request_id: None, key: None } => {
                if let Ok(id) = name.as_str().parse()
                    && self.deps.sessions.has(id)
                {
                    // It may not be on disk yet.
                    return Ok(id);
                }
                let found = lookup::called(journal, views, &name).await?;
                choose(&found, name.as_str())?.ok_or_else(|| {
                    Problem::not_found(format!(
                        "there is no session {name}, and none that a request or key of that name opened"
                    ))
                })
            }
            SessionSelector { id: None, request_id: Some(request), key: None } => {
                let found = lookup::of_request(views, &request).await?;
                choose(&found, request.as_str())?.ok_or_else(|| {
                    Problem::not_found(format!("no session was opened by the request `{request}`"))
                })
            }
            SessionSelector { id: None, request_id: None, key: Some(key) } => {
                let known = lookup::of_key(journal, &key).await?;
                known.and_then(|(_, id)| id).ok_or_else(|| {
                    Problem::not_found(format!("no session was opened under the key `{key}`"))
                })
            }
            _ => {
                let sentence = "name the session by one of `id`, `request_id` and `key`";
                Err(Problem::bad_request(sentence))
            }
        }
    }

    async fn cancel(&self, request: Request) {
        let asked = match request.read::<SessionSelector>() {
            Ok(asked) => self.which(asked, lookup::only).await,
            Err(problem) => Err(problem),
        };
        match asked {
            Ok(id) => self.pass_on(id, SessionRequest::Cancel(request.reply)).await,
            Err(problem) => request.reply.send(Err(problem)).await,
        }
    }

    async fn resolve(&self, request: Request) {
        let asked = match request.read::<Resolve>() {
            Ok(Resolve { id, resolution }) => {
                let which = SessionSelector { id: Some(id), ..SessionSelector::default() };
                self.which(which, lookup::only).await.map(|id| (id, resolution))
            }
            Err(problem) => Err(problem),
        };
        match asked {
            Ok((id, resolution)) => {
                self.pass_on(id, SessionRequest::Resolve(resolution, request.reply)).await;
            }
            Err(problem) => request.reply.send(Err(problem)).await,
        }
    }

    /// Passes a request on to a session's actor, started if there is none; answers for a session
    /// that is over.
    async fn pass_on(&self, id: SessionId, request: SessionRequest) {
        let Err(request) = self.deps.sessions.send(id, request) else { return };
        let answer = match story::fold(&*self.deps.journal, id).await {
            Ok(Some(folded)) if folded.session.concluded().is_none() => {
                let is_new = self.deps.sessions.enter(id, None);
                // Removed again in between: dropping the request answers it.
                let _ = self.deps.sessions.send(id, *request);
                if is_new {
                    self.start(id, None).await;
                }
                return;
            }
            Ok(Some(folded)) => {
                Ok(SessionStatusAnswer { session_id: id, status: folded.session.phase() })
            }
            Ok(None) => Err(Problem::not_found(format!("there is no session {id}"))),
            Err(problem) => Err(problem),
        };
        request.into_reply().send(json(answer)).await;
    }

    async fn session(&self, request: &Request) -> Result<SessionStory, Problem> {
        let id = self.which(request.read()?, |found, _| Ok(lookup::newest(found))).await?;
        story::load(&*self.deps.journal, &*self.deps.views, id)
            .await?
            .map(|story| story.story)
            .ok_or_else(|| Problem::not_found(format!("there is no session {id}")))
    }

    async fn files(&self, request: &Request) -> Result<SessionFiles, Problem> {
        let id = self.which(request.read()?, |found, _| Ok(lookup::newest(found))).await?;
        operations::files(&self.deps, &self.trees, id, request.read()?).await
    }

    async fn file(&self, request: &Request) -> Result<SessionFilePart, Problem> {
        let asked: ReadSessionFile = request.read()?;
        let which = SessionSelector { id: Some(asked.id.clone()), ..SessionSelector::default() };
        let id = self.which(which, |found, _| Ok(lookup::newest(found))).await?;
        operations::file(&self.deps, &self.trees, id, asked).await
    }

    async fn missing(&self, request: &Request) -> Result<MissingFilesAnswer, Problem> {
        operations::missing(&self.deps, request.read()?).await
    }

    async fn upload(&self, request: &Request) -> Result<Uploaded, Problem> {
        operations::upload(&self.deps, request.read()?).await
    }

    /// Number and filter of the sessions to list; `None` if the named key opened none.
    async fn listed(&self, request: &Request) -> Result<(usize, Option<SessionFilter>), Problem> {
        let ListSessions { limit, request_id, key } = request.read()?;
        let limit = bounded(limit, "limit", 10, 100)?;
        let Some(key) = key else {
            return Ok((limit, Some(SessionFilter { request_id, session_id: None })));
        };
        let known = lookup::of_key(&*self.deps.journal, &key).await?;
        let id = known.and_then(|(_, id)| id);
        Ok((limit, id.map(|id| SessionFilter { request_id, session_id: Some(id) })))
    }

    async fn sessions(&self, request: &Request) -> Result<Vec<SessionRow>, Problem> {
        let (limit, Some(filter)) = self.listed(request).await? else { return Ok(Vec::new()) };
        let rows = self.deps.views.sessions_where(&filter, limit).await;
        rows.map_err(Problem::from)
    }

    async fn history(&self, request: &Request) -> Result<Vec<HistoryRow>, Problem> {
        let (limit, Some(filter)) = self.listed(request).await? else { return Ok(Vec::new()) };
        let rows = self.deps.views.history_where(&filter, limit).await;
        rows.map_err(Problem::from)
    }
}
