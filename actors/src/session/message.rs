//! Arguments of a session's actor, and the messages that it receives.

use std::sync::{Arc, atomic::AtomicBool};

use ai_factory_ports::journal::Command;
use ai_factory_schemas::{id::SessionId, plan::TaskType, problem::Problem};
use bytes::Bytes;

use super::vocabulary::{SessionEffect, SessionOutcome};
use crate::{deps::Deps, request::RequestContext, session_registry::SessionRequest};

/// The opening of a session.
#[derive(Clone, Debug)]
pub struct SessionOpening {
    /// The goal.
    pub goal: String,
    /// The kind of work.
    pub task_type: TaskType,
    /// The context of the request.
    pub context: RequestContext,
    /// The command to record, if the request has a key.
    pub command: Option<Command>,
    /// The payload of a published goal; its refusal is recorded. `None` for a request.
    pub published: Option<Bytes>,
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

/// An effect and its outcome. A problem means that there is no plan.
pub struct PerformedEffect {
    /// The effect.
    pub effect: SessionEffect,
    /// The outcome.
    pub outcome: Result<SessionOutcome, Problem>,
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
