//! A decider with its stream: loaded, folded, appended to.

use ai_factory_ports::journal::{Append, Command, Journal};
use ai_factory_schemas::{
    envelope::EventDraft,
    event::Event,
    id::{EventId, StreamId},
    problem::Problem,
    text::Blob,
};

use crate::{append, decider::Decider, deps::Deps, request::RequestContext};

/// A decider with a stream of its own.
pub(crate) trait Streamed: Decider<Event: Into<Event>> {
    /// The event as one of this decider; `None` if it is of another category.
    fn own(event: Event) -> Option<Self::Event>;
}

/// The fold of a stream, and its version.
#[derive(Debug, Default)]
pub(crate) struct Loaded<D> {
    /// The fold.
    pub(crate) state: D,
    version: u64,
}

impl<D: Streamed> Loaded<D> {
    /// The fold of the whole stream.
    pub(crate) async fn load(journal: &dyn Journal, stream: StreamId) -> Result<Self, Problem> {
        let recorded = journal.load(stream, 0).await.map_err(Problem::from)?;
        let version = recorded.last().map_or(0, |last| last.version);
        let events: Vec<_> =
            recorded.into_iter().filter_map(|recorded| D::own(recorded.event)).collect();
        let state = D::fold(&events)
            .map_err(|illegal| Problem::internal(format!("{stream}: {illegal}")))?;
        Ok(Self { state, version })
    }

    /// Appends and folds; returns the first stream if the command had already taken effect.
    ///
    /// The first append is refused if the journal has no room, for the effect has not begun; what
    /// has happened is recorded, however long that takes.
    pub(crate) async fn append(
        &mut self,
        deps: &Deps,
        context: &RequestContext,
        stream: StreamId,
        events: &[D::Event],
        command: Option<Command>,
        blobs: Vec<Blob>,
    ) -> Result<Option<StreamId>, Problem> {
        let draft = |event: &D::Event| EventDraft {
            id: EventId(deps.ids.new_id()),
            time: deps.clock.now(),
            event: event.clone().into(),
            trail: context.trail(),
        };
        let append = Append {
            stream,
            expected: self.version,
            events: events.iter().map(draft).collect(),
            command,
            blobs,
        };
        let appended = match self.version {
            0 => append::append(&*deps.journal, append).await,
            _ => append::append_with_retry(&*deps.journal, append).await,
        }
        .map_err(Problem::from)?;
        if appended.repeated {
            return Ok(Some(appended.stream));
        }
        for event in events {
            let evolved = self.state.evolve(event);
            evolved.map_err(|illegal| Problem::internal(illegal.to_string()))?;
        }
        self.version = appended.version;
        Ok(None)
    }
}
