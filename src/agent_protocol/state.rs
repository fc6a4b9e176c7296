//! State shared by the agent's endpoints, and their names.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::Bus,
    clock::{Clock, IdSource},
    journal::Journal,
};
use ai_factory_schemas::subject::Subjects;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    claims::Claims, follow::StreamWatchers, identity::AgentIdentity, peers::Peers, sender::Nonces,
};

/// State shared by the endpoints.
pub(super) struct AgentState {
    pub(super) outside: Arc<dyn Bus>,
    pub(super) message_bytes_max: Arc<dyn Fn() -> usize + Send + Sync>,
    pub(super) inside: Arc<dyn Bus>,
    pub(super) subjects: Subjects,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdSource>,
    pub(super) watchers: Arc<StreamWatchers>,
    pub(super) prompt_permits: Semaphore,
    pub(super) prompts_max: usize,
    pub(super) submit_max: Duration,
    pub(super) silence_max: Duration,
    pub(super) question_max: Duration,
    /// Whether a model may ask the callers.
    pub(super) may_ask: bool,
    /// Changes with each new connection of the outside bus.
    pub(super) connections: watch::Receiver<u64>,
    /// Cancelled when work in progress has ended for good.
    pub(super) ended: CancellationToken,
    pub(super) event_permits: Semaphore,
    pub(super) nonces: Nonces,
    pub(super) peers: Peers,
    pub(super) claims: Claims,
    pub(super) identity: AgentIdentity,
    pub(super) instance_id: String,
    /// Triggers a heartbeat before its time.
    pub(super) beat_now: Notify,
    pub(super) heartbeat_s: u64,
}

/// The endpoints.
#[derive(Clone, Copy, Debug)]
pub(super) enum AgentEndpoint {
    Prompt,
    Status,
    Cancel,
    Events,
}

impl AgentEndpoint {
    pub(super) const ALL: [Self; 4] = [Self::Prompt, Self::Status, Self::Cancel, Self::Events];

    /// The endpoint's name, also the verb in its subject (§2).
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Status => "status",
            Self::Cancel => "cancel",
            Self::Events => "events",
        }
    }

    /// The endpoint with this verb.
    pub(super) fn from_name(verb: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|asked| asked.verb() == verb)
    }
}
