//! Notes: whether one is accepted, and how it is stored.

use ai_factory_schemas::{
    answer::Remembered,
    event::Event,
    id::{CommandId, MemoryId},
    limit::{NOTE_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX},
    memory::{MemoryEvent, MemoryRemembered},
    problem::Problem,
    request::Remember,
};

use super::record;
use crate::{append, deps::Deps, request::RequestContext};

/// The event that follows from a note, or the problem. Pure, like every decision.
pub(super) fn decide(
    context: &RequestContext,
    note: Remember,
) -> Result<MemoryRemembered, Problem> {
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

/// Stores the note.
pub(super) async fn remember(
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
