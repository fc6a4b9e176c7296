//! Many notes in one request: each is read and judged on its own and answered at its place, and
//! they share the journal's commits.
//!
//! *Promises.* Sent again under the same key, a request keeps no note twice, also where the first time broke off in the
//! middle. A note that is wrong costs no other one its place; a request of which every note is wrong is wrong itself.
//!
//! *Limits.* `NOTES_MAX` notes a request, and as many bytes as the bridge takes.

use ai_factory_schemas::{
    answer::{Imported, ImportedNote, Remembered},
    id::CommandId,
    limit::NOTES_MAX,
    problem::{Detail, Fault, Place, Problem},
    request::{self, Remember},
    text::BlobHash,
};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{decide, remember};
use crate::{
    body::read_object,
    deps::Deps,
    service::{Context, Request},
};

/// So many notes are on their way to the disk at once.
const NOTES_AT_ONCE: usize = 256;
/// The status of what is wrong in itself.
const INVALID: u16 = 422;
/// The status of what contradicts what is so already.
const CONFLICT: u16 = 409;

/// The request with its notes as they came: one that cannot be read is no reason to refuse the
/// others.
#[derive(Deserialize)]
struct Unread {
    notes: Vec<Box<RawValue>>,
}

/// Keeps the notes.
pub(super) async fn import(deps: &Deps, request: &Request) -> Result<Imported, Problem> {
    let Unread { notes } = request.read()?;
    if notes.is_empty() || notes.len() > NOTES_MAX {
        let msg = format!("must have 1 to {NOTES_MAX} notes, not {}", notes.len());
        return Err(Problem::invalid(&["body", "notes"], "out_of_range", msg));
    }
    let keeping = stream::iter(notes.into_iter().enumerate()).map(|(index, note)| async move {
        match keep(deps, &request.context, index, &note).await {
            Ok(Remembered { id, .. }) => ImportedNote::Kept { id },
            Err(Problem { status, detail, .. }) => ImportedNote::Refused { status, detail },
        }
    });
    let notes: Vec<_> = keeping.buffered(NOTES_AT_ONCE).collect().await;
    if let Some(faults) = all_wrong(&notes) {
        let detail = Detail::Faults(faults);
        return Err(Problem { status: INVALID, detail, retry_after: None });
    }
    Ok(Imported { request_id: request.context.request_id.clone(), notes })
}

/// Keeps one note.
async fn keep(
    deps: &Deps,
    context: &Context,
    index: usize,
    note: &RawValue,
) -> Result<Remembered, Problem> {
    let place = || vec!["body".into(), "notes".into(), Place::Item(index as u64)];
    let note: request::ImportedNote = read_object(note.get().as_bytes(), place())?;
    let derived_from = context.key.as_ref().filter(|_| note.key.is_none());
    let key = note.key.or_else(|| derived(index, derived_from?));
    let context = Context { key, ..context.clone() };
    let event = decide(&context, Remember { text: note.text, tags: note.tags })
        .map_err(|problem| below(problem, &place()))?;
    let kept = remember(deps, &context, event).await;
    kept.map_err(|problem| match derived_from {
        // The key that was derived is nobody's but ours.
        Some(key) if problem.status == CONFLICT => Problem::conflict(format!(
            "the key `{key}` was already used for a request whose note {index} is another one: use a new key"
        )),
        _ => problem,
    })
}

/// The key of a note that has none of its own, in a request that has one.
fn derived(index: usize, key: &CommandId) -> Option<CommandId> {
    BlobHash::of(format!("import {index} {key}").as_bytes()).to_string().parse().ok()
}

/// A refusal of a note alone as one of the note at `place`: its faults begin with `body`.
fn below(mut problem: Problem, place: &[Place]) -> Problem {
    if let Detail::Faults(faults) = &mut problem.detail {
        for fault in faults {
            fault.loc.splice(..1, place.iter().cloned());
        }
    }
    problem
}

/// The faults of all notes, where each of them has some.
fn all_wrong(notes: &[ImportedNote]) -> Option<Vec<Fault>> {
    let faults = notes.iter().map(|note| match note {
        ImportedNote::Refused { status: INVALID, detail: Detail::Faults(faults) } => Some(faults),
        _ => None,
    });
    Some(faults.collect::<Option<Vec<_>>>()?.into_iter().flatten().cloned().collect())
}
