//! Many notes in one request: each is judged on its own and answered at its place, and they share the journal's commits.
//!
//! *Promises.* Sent again under the same key, a request keeps no note twice, also where the first time broke off in the
//! middle.
//!
//! *Limits.* `NOTES_MAX` notes a request, and as many bytes as the door takes.

use ai_factory_schemas::{
    answer::{Imported, ImportedNote, Remembered},
    id::CommandId,
    limit::NOTES_MAX,
    problem::{Detail, Place, Problem},
    request,
    text::BlobHash,
};
use futures_util::{StreamExt as _, stream};

use super::{decide, remember};
use crate::{
    deps::Deps,
    service::{Context, Request},
};

/// So many notes are on their way to the disk at once.
const NOTES_AT_ONCE: usize = 256;

/// Keeps the notes.
pub(super) async fn import(deps: &Deps, request: &Request) -> Result<Imported, Problem> {
    let request::Import { notes } = request.read()?;
    if notes.is_empty() || notes.len() > NOTES_MAX {
        let msg = format!("must have 1 to {NOTES_MAX} notes, not {}", notes.len());
        return Err(Problem::invalid(&["body", "notes"], "out_of_range", msg));
    }
    let keeping = stream::iter(notes.into_iter().enumerate()).map(|(index, note)| async move {
        let context = one_of(&request.context, index, note.key);
        let kept = async {
            let event = decide(&context, note.note)?;
            remember(deps, &context, event).await
        };
        match kept.await {
            Ok(Remembered { id, .. }) => ImportedNote::Kept { id },
            Err(problem) => refused(problem, index),
        }
    });
    let notes = keeping.buffered(NOTES_AT_ONCE).collect().await;
    Ok(Imported { request_id: request.context.request_id.clone(), notes })
}

/// The context of one note.
fn one_of(context: &Context, index: usize, key: Option<CommandId>) -> Context {
    let derived = || {
        let key = context.key.as_ref()?;
        BlobHash::of(format!("import {index} {key}").as_bytes()).to_string().parse().ok()
    };
    Context { key: key.or_else(derived), ..context.clone() }
}

/// What is answered for a note that was refused: its faults are at its place in the list.
fn refused(problem: Problem, index: usize) -> ImportedNote {
    let mut detail = problem.detail;
    if let Detail::Faults(faults) = &mut detail {
        for fault in faults {
            let place = [Place::from("notes"), Place::Item(index as u64)];
            fault.loc.splice(1..1, place);
        }
    }
    ImportedNote::Refused { status: problem.status, detail }
}
