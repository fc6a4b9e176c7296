//! Memory: stores and forgets notes, and searches everything remembered.

use std::sync::Arc;

mod forget;
mod import;
mod note;
mod record;
mod retention;

pub use forget::no_memory;

use ai_factory_ports::views::SearchQuery;
use ai_factory_schemas::{
    answer::{LogRow, RebuildAnswer, Remembered, SearchAnswer, SnapshotAnswer},
    problem::Problem,
    request::{Newest, Rebuild, SearchMemory},
};

use crate::{
    deps::Deps,
    request::{Answer, Request, bounded, json, unknown_operation},
    service::{Handling, Service},
    tasks::Tasks,
};

/// The memory actor. All of its state is in the journal and the projections.
pub struct Memory {
    deps: Arc<Deps>,
}

impl Service for Memory {
    const ACTOR: &'static str = "memory";
    const QUESTIONS: &'static [&'static str] = &["logs", "search"];

    fn new(deps: Arc<Deps>) -> Self {
        Self { deps }
    }

    fn started(&mut self, tasks: &mut Tasks) {
        tasks.spawn(retention::expire(Arc::clone(&self.deps)));
    }

    fn handle(&mut self, request: Request) -> Handling {
        let deps = Arc::clone(&self.deps);
        let is_search = request.verb == "search";
        let answering = async move {
            let answer = answer(&deps, &request).await;
            request.reply.send(answer).await;
        };
        // The read side waits with a search that is not short.
        if is_search { Handling::in_place(answering) } else { Handling::beside(answering) }
    }
}

async fn answer(deps: &Deps, request: &Request) -> Answer {
    match request.verb.as_str() {
        "logs" => json(logs(deps, request).await),
        "remember" => json(remember(deps, request).await),
        "import" => json(import::import(deps, request).await),
        "forget" => json(forget::forget(deps, request).await),
        "rebuild" => json(rebuild(deps, request).await),
        "search" => json(search(deps, request).await),
        "snapshot" => json(snapshot(deps, request).await),
        verb => Err(unknown_operation(Memory::ACTOR, verb)),
    }
}

async fn remember(deps: &Deps, request: &Request) -> Result<Remembered, Problem> {
    let event = note::decide(&request.context, request.read()?)?;
    note::remember(deps, &request.context, event).await
}

async fn logs(deps: &Deps, request: &Request) -> Result<Vec<LogRow>, Problem> {
    let limit = bounded(request.read::<Newest>()?.limit, "limit", 10, 500)?;
    deps.views.logs(limit).await.map_err(Problem::from)
}

async fn rebuild(deps: &Deps, request: &Request) -> Result<RebuildAnswer, Problem> {
    let Rebuild {} = request.read()?;
    deps.views.start_rebuild().await.map_err(Problem::from)
}

async fn search(deps: &Deps, request: &Request) -> Result<SearchAnswer, Problem> {
    let asked: SearchMemory = request.read()?;
    let n = bounded(asked.n, "n", 3, 20)?;
    if asked.q.is_empty() {
        return Err(Problem::invalid(
            &["query", "q"],
            "too_short",
            "must have at least 1 character",
        ));
    }
    let query = SearchQuery {
        text: asked.q,
        similar_to: None,
        limit: n,
        fold: asked.fold,
        plain: asked.plain,
        kind: asked.kind,
        since: asked.since,
        until: asked.until,
        tag: asked.tag,
        without: asked.without,
        mode: asked.mode,
    };
    let searched = deps.views.search_with_mode(&query).await.map_err(Problem::from)?;
    let mode = searched.other_mode(query.mode);
    Ok(SearchAnswer { query: query.text, results: searched.found, mode })
}

async fn snapshot(deps: &Deps, request: &Request) -> Result<SnapshotAnswer, Problem> {
    let limit = bounded(request.read::<Newest>()?.limit, "limit", 100, 2000)?;
    deps.views.snapshot(limit).await.map_err(Problem::from)
}
