//! Forgetting one memory of any kind: searches do not find it any longer. The journal keeps its
//! events.
//!
//! The record is in the stream of category `memory` with the memory's id: behind the note for a
//! note, in a stream of its own for what another actor left. So a memory is forgotten at most once.

use ai_factory_ports::journal::AppendError;
use ai_factory_schemas::{
    answer::Forgotten,
    event::Event,
    id::MemoryId,
    memory::{MemoryEvent, MemoryForgotten},
    problem::Problem,
    request::Forget,
};

use super::record;
use crate::{append, deps::Deps, request::Request};

/// Forgets the memory, or refuses with 404 if it does not exist.
pub(super) async fn forget(deps: &Deps, request: &Request) -> Result<Forgotten, Problem> {
    let Forget { id } = request.read()?;
    let context = &request.context;
    let command = context.command("forget", &id);
    let Some(position) = deps.views.memory(id).await.map_err(Problem::from)? else {
        return match &command {
            // I-5: a repetition gets the first answer, although the memory is gone.
            Some(command) => first_answer(deps, command, id).await,
            None => Err(no_memory(id)),
        };
    };
    let earlier = deps.journal.load(id.into(), 0).await.map_err(Problem::from)?;
    let event = MemoryForgotten { request_id: context.request_id.clone(), position };
    let expected = earlier.last().map_or(0, |last| last.version);
    let append = record::append(deps, id, expected, event, context.trail(), command.clone());
    match (append::append(&*deps.journal, append).await, command) {
        (Ok(appended), Some(command)) if appended.repeated => {
            first_answer(deps, &command, id).await
        }
        (Ok(_), _) => Ok(Forgotten { request_id: context.request_id.clone(), id }),
        // Another request forgot it first.
        (Err(AppendError::WrongVersion { .. }), None) => Err(no_memory(id)),
        (Err(AppendError::WrongVersion { .. }), Some(command)) => {
            first_answer(deps, &command, id).await
        }
        (Err(error), _) => Err(Problem::from(error)),
    }
}

/// The answer for a memory that does not exist.
pub fn no_memory(id: MemoryId) -> Problem {
    Problem::not_found(format!("there is no memory {id}: take an id from search results"))
}

/// The first answer under this key, if there is one.
async fn first_answer(
    deps: &Deps,
    command: &ai_factory_ports::journal::Command,
    id: MemoryId,
) -> Result<Forgotten, Problem> {
    let found = deps.journal.command(&command.id).await.map_err(Problem::from)?;
    let Some((first, appended)) = found else { return Err(no_memory(id)) };
    let taken = || Problem::conflict("the key was already used for something else");
    if first != *command {
        return Err(taken());
    }
    let stream = deps.journal.load(appended.stream, 0).await.map_err(Problem::from)?;
    let recorded = stream.into_iter().find(|event| event.position == appended.first);
    match recorded.map(|recorded| recorded.event) {
        Some(Event::Memory(MemoryEvent::Forgotten(first))) => {
            Ok(Forgotten { request_id: first.request_id, id })
        }
        _ => Err(taken()),
    }
}
