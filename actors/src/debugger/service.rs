//! The debugger actor: accepts runs, and lists and searches recorded ones.

use std::sync::Arc;

use ai_factory_ports::sandbox::Program;
use ai_factory_schemas::{
    answer::{RunAnswer, RunCancelAnswer, RunRow, RunSearchAnswer},
    problem::Problem,
    request::{CancelRun, Newest, RunRequest, SearchRuns},
    run::RunEnd,
};

use super::{
    execute::Executor,
    input::{self, LANGUAGE_BYTES_MAX, with_line_feeds},
    workspace,
};
use crate::{
    deps::Deps,
    request::{Answer, Request, bounded, json, unknown_operation},
    service::{Handling, Service},
    tasks::Tasks,
};

/// The debugger actor. Runs are its tasks: when it dies they end, and their records say that their
/// end is unknown.
pub struct Debugger {
    executor: Arc<Executor>,
    deps: Arc<Deps>,
}

impl Service for Debugger {
    const ACTOR: &'static str = "debugger";
    const QUESTIONS: &'static [&'static str] = &["logs", "search"];

    fn new(deps: Arc<Deps>) -> Self {
        Self { executor: Arc::new(Executor::new(Arc::clone(&deps))), deps }
    }

    fn started(&mut self, tasks: &mut Tasks) {
        let executor = Arc::clone(&self.executor);
        let starting = self.deps.starting.token();
        tasks.spawn(async move {
            executor.abandon_orphans().await;
            drop(starting);
        });
    }

    fn handle(&mut self, request: Request) -> Handling {
        let (deps, executor) = (Arc::clone(&self.deps), Arc::clone(&self.executor));
        Handling::beside(async move {
            let answer = answer(&deps, &executor, &request).await;
            request.reply.send(answer).await;
        })
    }
}

/// The request as it is recorded, or the problem.
fn check(mut asked: RunRequest, deps: &Deps, of_session: bool) -> Result<RunRequest, Problem> {
    let code_bytes_max = deps.limits.run_code_bytes_max;
    if asked.code.is_empty() {
        return Err(Problem::bad_request("`code` is missing or empty: send the program to run"));
    }
    if asked.code.len() > code_bytes_max {
        let bytes = asked.code.len();
        let sentence = format!("`code` of {bytes} bytes is too long: at most {code_bytes_max}");
        return Err(Problem::too_large(sentence));
    }
    asked.language = asked.language.trim().to_lowercase();
    if asked.language.len() > LANGUAGE_BYTES_MAX {
        return Err(Problem::bad_request(format!(
            "`language` is too long: at most {LANGUAGE_BYTES_MAX} bytes"
        )));
    }
    asked.code = with_line_feeds(asked.code);
    input::check(&asked)?;
    workspace::check(&asked, deps, of_session)?;
    let workspace = asked.workspace.as_ref().map(|files| workspace::of_program(deps, files));
    let program = Program { workspace, ..input::program(&asked, deps.limits.run_wall_max)? };
    deps.sandbox.check(&program).map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(asked)
}

async fn answer(deps: &Deps, executor: &Executor, request: &Request) -> Answer {
    match request.verb.as_str() {
        "run" if request.context.as_recorded => json(step(deps, executor, request).await),
        "run" => json(run(deps, executor, request).await),
        "cancel" => json(cancel(executor, request).await),
        "logs" => json(logs(deps, request).await),
        "search" => json(search(deps, request).await),
        verb => Err(unknown_operation(Debugger::ACTOR, verb)),
    }
}

async fn run(deps: &Deps, executor: &Executor, request: &Request) -> Result<RunAnswer, Problem> {
    executor.run(&request.context, check(request.read()?, deps, false)?).await
}

async fn step(deps: &Deps, executor: &Executor, request: &Request) -> Result<RunEnd, Problem> {
    executor.step(&request.context, check(request.read()?, deps, true)?).await
}

async fn cancel(executor: &Executor, request: &Request) -> Result<RunCancelAnswer, Problem> {
    let CancelRun { run_id } = request.read()?;
    Ok(RunCancelAnswer { run_id, was_running: executor.cancel(run_id).await? })
}

async fn logs(deps: &Deps, request: &Request) -> Result<Vec<RunRow>, Problem> {
    let limit = bounded(request.read::<Newest>()?.limit, "limit", 10, 200)?;
    deps.views.runs(limit).await.map_err(Problem::from)
}

async fn search(deps: &Deps, request: &Request) -> Result<RunSearchAnswer, Problem> {
    let asked: SearchRuns = request.read()?;
    let n = bounded(asked.n, "n", 5, 50)?;
    if asked.q.is_empty() {
        return Err(Problem::invalid(
            &["query", "q"],
            "too_short",
            "must have at least 1 character",
        ));
    }
    let results = deps.views.search_runs(&asked.q, n).await.map_err(Problem::from)?;
    Ok(RunSearchAnswer { query: asked.q, results })
}
