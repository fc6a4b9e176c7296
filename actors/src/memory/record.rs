//! The one place where memory's appends are made (I-3).

use ai_factory_ports::journal::{Append, Command};
use ai_factory_schemas::{
    envelope::{EventDraft, Trail},
    event::Event,
    id::{EventId, MemoryId},
};

use crate::deps::Deps;

/// One event of a memory's stream, behind `expected` others.
pub(super) fn append(
    deps: &Deps,
    id: MemoryId,
    expected: u64,
    event: impl Into<Event>,
    trail: Trail,
    command: Option<Command>,
) -> Append {
    let draft = EventDraft {
        id: EventId(deps.ids.new_id()),
        time: deps.clock.now(),
        event: event.into(),
        trail,
    };
    Append { stream: id.into(), expected, events: vec![draft], command, blobs: Vec::new() }
}
