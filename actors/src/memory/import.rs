//! Import of many notes in one request: each is checked on its own and answered at its index, and
//! they share the journal's commits.
//!
//! *Promises.* A request repeated under the same key stores no note twice, also if the first one
//! broke off halfway. An invalid note does not affect the others; a request in which every note is
//! invalid is refused as a whole.
//!
//! *Limits.* `NOTES_MAX` notes per request, and the bridge's limit on its body.

use ai_factory_ports::body::read_object;
use ai_factory_schemas::{
    answer::{Imported, NoteOutcome, Remembered},
    id::CommandId,
    limit::NOTES_MAX,
    problem::{Detail, FieldFault, PathSegment, Problem},
    request::{NoteInput, Remember},
    text::BlobHash,
};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::note::{decide, remember};
use crate::{
    deps::Deps,
    request::{Request, RequestContext},
};

/// Appends of notes in flight at once.
const NOTES_AT_ONCE: usize = 256;
/// The status of an invalid note.
const INVALID: u16 = 422;
/// The status of a note that conflicts with an earlier request.
const CONFLICT: u16 = 409;

/// The request with its notes unread: an unreadable note is no reason to refuse the others.
#[derive(Deserialize)]
struct Unread {
    notes: Vec<Box<RawValue>>,
}

/// Stores the notes.
pub(super) async fn import(deps: &Deps, request: &Request) -> Result<Imported, Problem> {
    let Unread { notes } = request.read()?;
    if notes.is_empty() || notes.len() > NOTES_MAX {
        let msg = format!("must have 1 to {NOTES_MAX} notes, not {}", notes.len());
        return Err(Problem::invalid(&["body", "notes"], "out_of_range", msg));
    }
    let keeping = stream::iter(notes.into_iter().enumerate()).map(|(index, note)| async move {
        match keep(deps, &request.context, index, &note).await {
            Ok(Remembered { id, .. }) => NoteOutcome::Kept { id },
            Err(Problem { status, detail, .. }) => NoteOutcome::Refused { status, detail },
        }
    });
    let notes: Vec<_> = keeping.buffered(NOTES_AT_ONCE).collect().await;
    if let Some(faults) = all_wrong(&notes) {
        let detail = Detail::Faults(faults);
        return Err(Problem { status: INVALID, detail, retry_after: None });
    }
    Ok(Imported { request_id: request.context.request_id.clone(), notes })
}

/// Stores one note.
async fn keep(
    deps: &Deps,
    context: &RequestContext,
    index: usize,
    note: &RawValue,
) -> Result<Remembered, Problem> {
    let place = || vec!["body".into(), "notes".into(), PathSegment::Item(index as u64)];
    let note: NoteInput = read_object(note.get().as_bytes(), place())?;
    let derived_from = context.key.as_ref().filter(|_| note.key.is_none());
    let key = note.key.or_else(|| derived(index, derived_from?));
    let context = RequestContext { key, ..context.clone() };
    let event = decide(&context, Remember { text: note.text, tags: note.tags })
        .map_err(|problem| below(problem, &place()))?;
    let kept = remember(deps, &context, event).await;
    kept.map_err(|problem| match derived_from {
        // A derived key is unknown to the caller.
        Some(key) if problem.status == CONFLICT => Problem::conflict(format!(
            "the key `{key}` was already used for a request with a different note {index}: use a new key"
        )),
        _ => problem,
    })
}

/// The key of a note without one, derived from the request's key if it has one.
fn derived(index: usize, key: &CommandId) -> Option<CommandId> {
    BlobHash::of(format!("import {index} {key}").as_bytes()).to_string().parse().ok()
}

/// The refusal of a single note as one of the note at `place`: the paths of its faults begin with
/// `body`.
fn below(mut problem: Problem, place: &[PathSegment]) -> Problem {
    if let Detail::Faults(faults) = &mut problem.detail {
        for fault in faults {
            fault.loc.splice(..1, place.iter().cloned());
        }
    }
    problem
}

/// The faults of all notes, if every note has some.
fn all_wrong(notes: &[NoteOutcome]) -> Option<Vec<FieldFault>> {
    let faults = notes.iter().map(|note| match note {
        NoteOutcome::Refused { status: INVALID, detail: Detail::Faults(faults) } => Some(faults),
        _ => None,
    });
    Some(faults.collect::<Option<Vec<_>>>()?.into_iter().flatten().cloned().collect())
}
