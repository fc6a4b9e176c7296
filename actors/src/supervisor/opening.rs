//! The opening of sessions.

use std::sync::Arc;

use ai_factory_ports::{
    journal::{AppendError, Command},
    retry_after,
};
use ai_factory_schemas::{
    id::{CommandId, SessionId},
    problem::Problem,
    request::Goal,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Supervisor, terms::ModelTerms};
use crate::{
    goal,
    request::{Reply, Request, json},
    session::{lookup, message::SessionOpening, story, waits},
    session_registry::Milestone,
    tasks::spawn_detached,
    workspace::intake::{self, GivenContents},
};

/// A goal that was taken in: the contents of its files beside it, by their hash.
pub(super) struct TakenGoal {
    goal: Goal,
    contents: GivenContents,
}

impl From<Goal> for TakenGoal {
    /// A goal without files.
    fn from(goal: Goal) -> Self {
        Self { goal, contents: GivenContents::new() }
    }
}

impl Supervisor {
    /// Answers a refused goal. The refusal of a published goal is recorded, that of a request is
    /// not.
    pub(super) async fn refuse(&self, request: Request, problem: Problem) {
        let problem = if request.verb == "accept" {
            goal::reject(&self.deps, &request.context, &request.body, problem).await
        } else {
            problem
        };
        request.reply.send(Err(problem)).await;
    }

    /// Opens a session with a workspace, or joins the one that the request's key opened before.
    pub(super) async fn open_with_files(&self, request: Request, goal: Goal) {
        match intake::take_in(goal) {
            Ok((goal, contents)) => {
                self.open_or_join(request, TakenGoal { goal, contents }).await;
            }
            Err(problem) => self.refuse(request, problem).await,
        }
    }

    /// Opens a session, or joins the one that the request's key opened before.
    pub(super) async fn open_or_join(&self, request: Request, goal: TakenGoal) {
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

    /// Opens a session for a goal without files and key.
    pub(super) async fn open_without_files(&self, request: Request, goal: Goal) {
        self.open(request, goal.into(), None).await;
    }

    async fn open(&self, request: Request, goal: TakenGoal, command: Option<Command>) {
        let TakenGoal { goal, contents } = goal;
        let terms = match self.terms(&goal).await {
            Ok(terms) => terms,
            Err(problem) => return self.refuse(request, problem).await,
        };
        let (workspace, blobs) = if terms.is_some() || intake::has_workspace(&goal) {
            match intake::gather(&self.deps, &self.opening, &goal, contents).await {
                Ok((workspace, blobs)) => (Some(workspace), Some(blobs)),
                Err(problem) => return self.refuse(request, problem).await,
            }
        } else {
            (None, None)
        };
        let (model, blobs) = match (terms, blobs) {
            (Some(ModelTerms { model, blobs: lacking }), Some(mut blobs)) => {
                blobs.blobs.extend(lacking);
                (Some(model), Some(blobs))
            }
            (_, blobs) => (None, blobs),
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
        if model.is_some() {
            self.answer_in_time(id, milestone);
        }
        let opening = SessionOpening {
            goal: goal.goal,
            task_type: goal.task_type,
            workspace,
            check: goal.check,
            protect: goal.protect,
            model,
            blobs: Mutex::new(blobs),
            context,
            command,
            published,
        };
        self.start(id, Some(Arc::new(opening))).await;
    }

    /// Joins a repeated request to the first session of its key, resuming that one if nothing runs
    /// it.
    pub(super) async fn join(&self, id: SessionId, milestone: Milestone, reply: Reply) {
        let journal = &*self.deps.journal;
        let Milestone::End { until } = milestone else {
            return reply.send(json(story::submitted(journal, id).await)).await;
        };
        let Err(reply) = self.deps.sessions.join(id, reply, until) else {
            return self.answer_in_time(id, milestone);
        };
        match story::fold(journal, id).await {
            Ok(Some(folded)) if waits::awaited(&folded.session).is_some() => {
                reply.send(json(Ok(waits::pending(id, &folded.session)))).await;
            }
            Ok(Some(folded)) if folded.session.concluded().is_none() => {
                if self.deps.sessions.enter(id, Some((milestone, reply))) {
                    self.start(id, None).await;
                }
                self.answer_in_time(id, milestone);
            }
            _ => reply.send(json(story::goal_answer(journal, id).await)).await,
        }
    }

    async fn opened_by(&self, key: &CommandId) -> Result<Option<(Command, SessionId)>, Problem> {
        match lookup::of_key(&*self.deps.journal, key).await? {
            None => Ok(None),
            Some((command, Some(id))) => Ok(Some((command, id))),
            Some((_, None)) => Err(key_used(key)),
        }
    }

    /// Answers the callers of a session with a model that want to hear how far it is by a time, if
    /// it is not over by then.
    fn answer_in_time(&self, id: SessionId, milestone: Milestone) {
        let Milestone::End { until: Some(until) } = milestone else { return };
        let deps = Arc::clone(&self.deps);
        spawn_detached(async move {
            tokio::time::sleep_until(until).await;
            let folded = story::fold(&*deps.journal, id).await;
            // Only sessions with a model are answered so.
            let Ok(Some(folded)) = folded else { return };
            if folded.session.model().is_none() || folded.session.concluded().is_some() {
                return;
            }
            for reply in deps.sessions.overdue(id, until) {
                reply.send(json(Ok(waits::pending(id, &folded.session)))).await;
            }
        });
    }
}

/// What the caller of an opening waits for.
pub(super) fn milestone(request: &Request) -> Milestone {
    if request.verb == "submit" || request.verb == "accept" {
        return Milestone::Acceptance;
    }
    let within = request.context.answer_within;
    Milestone::End { until: within.and_then(|within| Instant::now().checked_add(within)) }
}

fn key_used(key: &CommandId) -> Problem {
    Problem::from(AppendError::CommandConflict { id: key.clone() })
}
