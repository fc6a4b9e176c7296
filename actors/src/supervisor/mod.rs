//! The supervisor actor: accepts goals, starts an actor for each session, and answers queries about
//! sessions.
//!
//! *Promises.* At each start it resumes every unfinished session of the journal that does not wait
//! for somebody.

mod answers;
mod changes;
mod naming;
mod opening;
mod queries;
mod resuming;
mod starting;
mod terms;
mod waiting;
mod window;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    deps::Deps,
    goal,
    request::{Request, json, unknown_operation},
    service::{Handling, Service},
    tasks::Tasks,
    workspace::{
        intake::{self, FILES_OPENING_BYTES_MAX},
        trees::SessionTrees,
    },
};
use window::ModelWindow;

/// The supervisor actor. Its sessions are children of a supervisor of their own and survive its
/// death.
#[derive(Clone)]
pub struct Supervisor {
    deps: Arc<Deps>,
    /// Room for the files of sessions that are about to be opened, in bytes.
    opening: Arc<Semaphore>,
    /// The files of sessions that were asked for last.
    trees: Arc<SessionTrees>,
    /// The window of the configured model.
    window: Arc<ModelWindow>,
}

impl Service for Supervisor {
    const ACTOR: &'static str = "supervisor";
    const QUESTIONS: &'static [&'static str] = &["session", "sessions", "status", "history"];
    const RECORDED: &'static [&'static str] = &["accept"];

    fn new(deps: Arc<Deps>) -> Self {
        let opening = Arc::new(Semaphore::new(FILES_OPENING_BYTES_MAX));
        Self { deps, opening, trees: Arc::default(), window: Arc::default() }
    }

    fn started(&mut self, tasks: &mut Tasks) {
        let supervisor = self.clone();
        tasks.spawn(async move { supervisor.ask_for_window().await });
        let supervisor = self.clone();
        tasks.spawn(async move { supervisor.follow_waiting().await });
        let supervisor = self.clone();
        tasks.spawn(async move { supervisor.follow_days().await });
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
            // Without a key there is nothing to look up, and without a model nothing to look for in
            // the goal: the session is started in place.
            Ok(goal) if request.context.key.is_none() && !self.may_use_model(&goal) => {
                Handling::in_place(
                    async move { supervisor.open_without_files(request, goal).await },
                )
            }
            Ok(goal) => Handling::beside(async move {
                supervisor.open_or_join(request, goal.into()).await;
            }),
            // The refusal of a published goal is recorded.
            Err(problem) if request.verb == "accept" => {
                Handling::beside(async move { supervisor.refuse(request, problem).await })
            }
            Err(problem) => Handling::answer(request, Err(problem)),
        }
    }
}

impl Supervisor {
    async fn answer(&self, request: Request) {
        let answer = match request.verb.as_str() {
            "cancel" => return self.cancel(request).await,
            "resolve" => return self.resolve(request).await,
            "answer" => return self.answer_question(request).await,
            "budget" => return self.change_budget(request).await,
            "wait" => return self.wait(request).await,
            "session" => json(self.session(&request).await),
            "sessions" | "status" => json(self.sessions(&request).await),
            "history" => json(self.history(&request).await),
            "calls" => json(self.calls(&request).await),
            "files" => json(self.files(&request).await),
            "file" => json(self.file(&request).await),
            "missing" => json(self.missing(&request).await),
            "upload" => json(self.upload(&request).await),
            verb => Err(unknown_operation(Self::ACTOR, verb)),
        };
        request.reply.send(answer).await;
    }
}
