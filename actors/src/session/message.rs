//! Arguments of a session's actor, and the messages that it receives.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use ai_factory_ports::{
    journal::{AppendError, Command},
    retry_after,
};
use ai_factory_schemas::{
    check::Check, id::SessionId, model::SessionModel, plan::TaskType, problem::Problem, text::Blob,
    workspace::WorkspaceRef,
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::vocabulary::{SessionEffect, SessionOutcome};
use crate::{
    deps::Deps, request::RequestContext, session_registry::SessionRequest,
    workspace::intake::OpeningBlobs,
};

/// The opening of a session.
#[derive(Debug)]
pub struct SessionOpening {
    /// The goal.
    pub goal: String,
    /// The kind of work.
    pub task_type: TaskType,
    /// The files that came in, if the session has a workspace.
    pub workspace: Option<WorkspaceRef>,
    /// What decides whether the goal is done.
    pub check: Option<Check>,
    /// Patterns of files that are restored before the check after the steps.
    pub protect: Vec<String>,
    /// The model that does the work, and its terms.
    pub model: Option<Box<SessionModel>>,
    /// The blobs of the files, until they are on disk.
    pub(crate) blobs: Mutex<Option<OpeningBlobs>>,
    /// The context of the request.
    pub context: RequestContext,
    /// The command to record, if the request has a key.
    pub command: Option<Command>,
    /// The payload of a published goal; its refusal is recorded. `None` for a request.
    pub published: Option<Bytes>,
}

impl SessionOpening {
    /// The blobs of the files for the session's first append, and the room that they take.
    ///
    /// # Errors
    /// If an earlier actor of the session died over its append: the caller has to try again.
    pub(crate) fn take_blobs(&self) -> Result<OpeningBlobs, AppendError> {
        if self.workspace.is_none() {
            return Ok(OpeningBlobs::default());
        }
        let gone = AppendError::Busy { retry_after: retry_after::SESSION };
        self.blobs.lock().take().ok_or(gone)
    }
}

/// Arguments of the actor.
#[derive(Clone)]
pub struct SessionStart {
    /// The session.
    pub id: SessionId,
    /// The opening; `None` for a session that is already in the journal.
    pub opening: Option<Arc<SessionOpening>>,
    /// Whether an actor was started with these arguments earlier: then the stream may exist.
    pub started_before: Arc<AtomicBool>,
    /// The ports.
    pub deps: Arc<Deps>,
}

/// An effect and its outcome. A problem means that there is no plan, or that an effect of a turn
/// could not be performed.
pub struct PerformedEffect {
    /// The effect.
    pub effect: SessionEffect,
    /// The outcome.
    pub outcome: Result<SessionOutcome, Problem>,
    /// The blobs that the outcome's events refer to.
    pub blobs: Vec<Blob>,
    /// How long it waited for a place that others had: that does not count as work of the session.
    pub waited: Duration,
}

impl PerformedEffect {
    /// An effect without blobs that waited for nobody.
    pub fn new(effect: SessionEffect, outcome: Result<SessionOutcome, Problem>) -> Self {
        Self { effect, outcome, blobs: Vec::new(), waited: Duration::ZERO }
    }
}

/// Messages to the actor.
pub enum SessionMessage {
    /// Begin, or continue.
    Begin,
    /// Effects were performed.
    Performed(Vec<PerformedEffect>),
    /// A request from outside.
    Request(SessionRequest),
    /// The session's deadline passed.
    Expired,
    /// A step's deadline passed.
    StepExpired(u32),
    /// The task that performs effects panicked.
    Broken,
}

impl From<SessionRequest> for SessionMessage {
    fn from(request: SessionRequest) -> Self {
        Self::Request(request)
    }
}

impl TryFrom<SessionMessage> for SessionRequest {
    type Error = SessionMessage;

    fn try_from(message: SessionMessage) -> Result<Self, SessionMessage> {
        match message {
            SessionMessage::Request(request) => Ok(request),
            other => Err(other),
        }
    }
}
