//! Forgetting one memory, whatever it is of: it is found no more. The journal keeps its events.
//!
//! The record stands in the stream of category `memory` that has the memory's id: for a note behind the note, for what
//! another actor left in a stream of its own. So a memory is forgotten at most once.

use ai_factory_schemas::{
    answer::Forgotten,
    event::Event,
    id::MemoryId,
    memory::{MemoryEvent, MemoryForgotten},
    problem::Problem,
    request,
};

use super::record;
use crate::{
    append,
    convert::{not_appended, not_read, not_viewed},
    deps::Deps,
    ports::journal::AppendError,
    service::Request,
};

/// Forgets the memory, or refuses with 404 where there is none.
pub(super) async fn forget(deps: &Deps, request: &Request) -> Result<Forgotten, Problem> {
    let request::Forget { id } = request.read()?;
    let context = &request.context;
    let command = context.command("forget", &id);
    let Some(position) = deps.views.memory(id).await.map_err(|error| not_viewed(&error))? else {
        return match &command {
            // I-5: the second time gets the first answer, though the memory is gone.
            Some(command) => first_answer(deps, command, id).await,
            None => Err(no_memory(id)),
        };
    };
    let earlier = deps.journal.load(id.into(), 0).await.map_err(|error| not_read(&error))?;
    let event = MemoryForgotten { request_id: context.request_id.clone(), position };
    let expected = earlier.last().map_or(0, |last| last.version);
    let append = record::append(deps, id, expected, event, context.trail(), command.clone());
    match (append::at_once(&*deps.journal, append).await, command) {
        (Ok(appended), Some(command)) if appended.repeated => {
            first_answer(deps, &command, id).await
        }
        (Ok(_), _) => Ok(Forgotten { request_id: context.request_id.clone(), id }),
        // Somebody else was faster.
        (Err(AppendError::WrongVersion { .. }), None) => Err(no_memory(id)),
        (Err(AppendError::WrongVersion { .. }), Some(command)) => {
            first_answer(deps, &command, id).await
        }
        (Err(error), _) => Err(not_appended(&error)),
    }
}

/// The answer to whoever names a memory that there is not.
pub fn no_memory(id: MemoryId) -> Problem {
    Problem::not_found(format!("there is no memory {id}: a search names those that there are"))
}

/// The answer that was given under this key before, if one was.
async fn first_answer(
    deps: &Deps,
    command: &crate::ports::journal::Command,
    id: MemoryId,
) -> Result<Forgotten, Problem> {
    let found = deps.journal.command(&command.id).await.map_err(|error| not_read(&error))?;
    let Some((first, appended)) = found else { return Err(no_memory(id)) };
    let taken = || Problem::conflict("the key was already used for something else");
    if first != *command {
        return Err(taken());
    }
    let stream = deps.journal.load(appended.stream, 0).await.map_err(|error| not_read(&error))?;
    let recorded = stream.into_iter().find(|event| event.position == appended.first);
    match recorded.map(|recorded| recorded.event) {
        Some(Event::Memory(MemoryEvent::Forgotten(first))) => {
            Ok(Forgotten { request_id: first.request_id, id })
        }
        _ => Err(taken()),
    }
}
