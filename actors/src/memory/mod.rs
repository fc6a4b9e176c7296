//! Memory: stores and forgets notes, and searches everything remembered.

use std::sync::Arc;

mod forget;
mod import;
mod record;
mod retention;

pub use forget::no_memory;

use ai_factory_ports::views::SearchQuery;
use ai_factory_schemas::{
    answer::{LogRow, RebuildAnswer, Remembered, SearchAnswer, SnapshotAnswer},
    event::Event,
    id::{CommandId, MemoryId},
    limit::{NOTE_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX},
    memory::{MemoryEvent, MemoryRemembered},
    problem::Problem,
    request::{Newest, Rebuild, Remember, SearchMemory},
};

use crate::{
    append,
    deps::Deps,
    service::{Answer, Request, RequestContext, Service, Tasks, bounded, json, unknown_operation},
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

    fn handle(&mut self, request: Request, tasks: &mut Tasks) {
        let deps = Arc::clone(&self.deps);
        let decided = (request.verb == "remember")
            .then(|| request.read().and_then(|note| decide(&request.context, note)));
        tasks.spawn(async move {
            let answer = answer(&deps, &request, decided).await;
            request.reply.send(answer).await;
        });
    }
}

async fn answer(
    deps: &Deps,
    request: &Request,
    decided: Option<Result<MemoryRemembered, Problem>>,
) -> Answer {
    if let Some(decided) = decided {
        return json(remember(deps, &request.context, decided?).await);
    }
    match request.verb.as_str() {
        "logs" => json(logs(deps, request).await),
        "import" => json(import::import(deps, request).await),
        "forget" => json(forget::forget(deps, request).await),
        "rebuild" => json(rebuild(deps, request).await),
        "search" => json(search(deps, request).await),
        "snapshot" => json(snapshot(deps, request).await),
        verb => Err(unknown_operation(Memory::ACTOR, verb)),
    }
}

/// The event that follows from a note, or the problem. Pure, like every decision.
fn decide(context: &RequestContext, note: Remember) -> Result<MemoryRemembered, Problem> {
    let invalid =
        |field: &str, kind: &str, msg: String| Problem::invalid(&["body", field], kind, msg);
    if note.text.trim().is_empty() {
        return Err(invalid("text", "blank", "must not be blank".into()));
    }
    if note.text.len() > NOTE_BYTES_MAX {
        let msg = format!("{} bytes are too long: at most {NOTE_BYTES_MAX}", note.text.len());
        return Err(invalid("text", "too_long", msg));
    }
    if note.tags.len() > TAGS_MAX {
        let msg = format!("{} tags are too many: at most {TAGS_MAX}", note.tags.len());
        return Err(invalid("tags", "too_many", msg));
    }
    if note.tags.iter().any(|tag| tag.trim().is_empty() || tag.len() > TAG_BYTES_MAX) {
        let msg = format!("a tag must not be blank and has at most {TAG_BYTES_MAX} bytes");
        return Err(invalid("tags", "bad_tag", msg));
    }
    Ok(MemoryRemembered {
        request_id: context.request_id.clone(),
        text: note.text,
        tags: note.tags,
    })
}

async fn remember(
    deps: &Deps,
    context: &RequestContext,
    event: MemoryRemembered,
) -> Result<Remembered, Problem> {
    let id = MemoryId(deps.ids.new_id());
    let command = context.command("remember", &(&event.text, &event.tags));
    let append = record::append(deps, id, 0, event, context.trail(), command);
    let appended = append::append(&*deps.journal, append).await.map_err(Problem::from)?;
    // I-5: a repetition gets the first answer.
    let request_id = if appended.repeated {
        let first = deps.journal.load(appended.stream, 0).await.map_err(Problem::from)?;
        match first.first().map(|recorded| &recorded.event) {
            Some(Event::Memory(MemoryEvent::Remembered(first))) => first.request_id.clone(),
            _ => return Err(key_used(context)),
        }
    } else {
        context.request_id.clone()
    };
    Ok(Remembered { request_id, id: MemoryId(appended.stream.id) })
}

/// The problem for a key that belongs to something other than a note.
fn key_used(context: &RequestContext) -> Problem {
    let key = context.key.as_ref().map_or("", CommandId::as_str);
    Problem::conflict(format!("the key `{key}` was already used for something else: use a new key"))
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
