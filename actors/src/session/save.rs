//! The durable points of a session's actor: its appends, and what follows from them.

use ai_factory_ports::journal::{Append, AppendError};
use ai_factory_schemas::{
    envelope::EventDraft,
    event::Event,
    id::{EventId, SessionId},
};
use uuid::Uuid;

use super::{active::SessionActorState, story};
use crate::{
    append,
    request::json,
    workspace::intake::{self, OpeningBlobs},
};

/// The result of a session's first append.
pub(super) enum SaveOutcome {
    /// Appended to its own stream.
    Here,
    /// Nothing was written: the key had already opened the named session.
    DuplicateOf(SessionId),
}

impl SessionActorState {
    /// Appends what is not yet on disk, and answers the callers that waited for it.
    pub(super) async fn save(&mut self) -> Result<SaveOutcome, AppendError> {
        if self.unsaved.is_empty() {
            return Ok(SaveOutcome::Here);
        }
        let (clock, ids) = (&self.start.deps.clock, &self.start.deps.ids);
        let drafts: Vec<_> = self
            .unsaved
            .iter()
            .map(|event| EventDraft {
                id: EventId(ids.new_id()),
                time: clock.now(),
                event: Event::from(event.clone()),
                trail: self.trail.clone(),
            })
            .collect();
        let planned = self.unsaved.iter().position(story::is_plan);
        let planned_at = self.planned_at.or(planned.map(|at| drafts[at].time));
        let last: Option<Uuid> = drafts.last().map(|draft| draft.id.0);
        let command = match (self.version, &self.start.opening) {
            (0, Some(opening)) => opening.command.clone(),
            _ => self.command.take(),
        };
        // The room for the files is given back when they are on disk.
        let OpeningBlobs { mut blobs, room: _room, uploads } =
            match (self.version, &self.start.opening) {
                (0, Some(opening)) => opening.take_blobs()?,
                _ => OpeningBlobs::default(),
            };
        blobs.append(&mut self.unsaved_blobs);
        let append = Append {
            stream: self.start.id.into(),
            expected: self.version,
            events: drafts,
            command,
            blobs,
        };
        let journal = &*self.start.deps.journal;
        // A goal that was not yet accepted is refused; a session under way waits for room.
        let appended = match self.version {
            0 => append::append(journal, append).await?,
            _ => append::append_with_retry(journal, append).await?,
        };
        // Of a repeated goal the first session stored the files.
        intake::release_uploads(&self.start.deps, uploads).await;
        if appended.repeated {
            return Ok(SaveOutcome::DuplicateOf(SessionId(appended.stream.id)));
        }
        self.version = appended.version;
        self.planned_at = planned_at;
        self.unsaved.clear();
        self.trail.causation = last;
        if let Some(submitted) = self.session.submitted(self.start.id) {
            self.start.deps.sessions.notify_accepted(self.start.id, &submitted).await;
        }
        Ok(SaveOutcome::Here)
    }

    /// The key had already opened another session: its callers join that one (I-5).
    pub(super) async fn redirect_waiters(&self, other: SessionId) {
        let journal = &*self.start.deps.journal;
        let (acceptance, end) = self.start.deps.sessions.withdraw(self.start.id);
        for reply in acceptance {
            reply.send(json(story::submitted(journal, other).await)).await;
        }
        for reply in end {
            if let Err(reply) = self.start.deps.sessions.join(other, reply, None) {
                reply.send(json(story::goal_answer(journal, other).await)).await;
            }
        }
    }
}
