//! What the actor of a session holds: the session's state, and what of it is not yet on disk.

use std::collections::HashSet;

use ai_factory_schemas::{
    envelope::Trail, id::RunId, session::SessionEvent, text::Blob, time::Timestamp,
};
use tokio::time::Instant;
use tracing::Span;

use super::{message::SessionStart, state::Session, vocabulary::SessionEffect};
use crate::tasks::Tasks;

/// The state of a [`SessionActor`](super::actor::SessionActor).
pub struct SessionActorState {
    pub(super) start: SessionStart,
    pub(super) session: Session,
    /// The version of the stream on disk.
    pub(super) version: u64,
    /// The time of the plan's record, once it is on disk.
    pub(super) planned_at: Option<Timestamp>,
    /// Decided and evolved, not yet on disk.
    pub(super) unsaved: Vec<SessionEvent>,
    /// The blobs that they refer to.
    pub(super) unsaved_blobs: Vec<Blob>,
    pub(super) in_flight: HashSet<SessionEffect>,
    /// When the session's work must be done.
    pub(super) deadline: Instant,
    /// Abandoned runs; the debugger is told once that is on disk.
    pub(super) abandoned_runs: Vec<RunId>,
    pub(super) tasks: Tasks,
    /// The trail of the session's events and requests.
    pub(super) trail: Trail,
    /// Set by [`SessionMessage::Begin`]; in the trace of the session's first event.
    pub(super) span: Span,
    /// Whether an earlier actor of the session died in this process.
    pub(super) restarted: bool,
}

impl SessionActorState {
    pub(super) fn new(start: SessionStart) -> Self {
        Self {
            trail: Trail { causation: None, correlation: Some(start.id.0), traceparent: None },
            start,
            session: Session::default(),
            version: 0,
            planned_at: None,
            unsaved: Vec::new(),
            unsaved_blobs: Vec::new(),
            in_flight: HashSet::new(),
            deadline: Instant::now(),
            abandoned_runs: Vec::new(),
            tasks: Tasks::default(),
            span: Span::none(),
            restarted: false,
        }
    }
}
