//! Dependencies of every actor: ports, subjects, limits, and the registry of sessions.

use std::sync::Arc;

use ai_factory_ports::{
    bus::Bus,
    clock::{Clock, IdSource},
    journal::Journal,
    model::Model,
    sandbox::Sandbox,
    trace::Traces,
    uploads::Uploads,
    views::Views,
};
use ai_factory_schemas::subject::Subjects;

use crate::{limits::Limits, mask::Mask, metrics::ActorMetrics, session_registry::SessionRegistry};

/// The ports, the subjects, the limits.
pub struct Deps {
    /// The local bus.
    pub bus: Arc<dyn Bus>,
    /// The source of truth.
    pub journal: Arc<dyn Journal>,
    /// The read side.
    pub views: Arc<dyn Views>,
    /// Where code runs.
    pub sandbox: Arc<dyn Sandbox>,
    /// The language model, if one is configured.
    pub model: Arc<dyn Model>,
    /// Hides secrets in what enters a conversation.
    pub mask: Arc<Mask>,
    /// Contents of files for goals to come.
    pub uploads: Arc<dyn Uploads>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// Trace contexts of messages and spans.
    pub traces: Arc<dyn Traces>,
    /// The addresses on the bus.
    pub subjects: Subjects,
    /// Whether sessions unfinished at the start are resumed at once, or only when a request needs
    /// them.
    pub resume_unfinished: bool,
    /// Whether the previous process ended in order, so that no unfinished session can have crashed
    /// it.
    pub ended_in_order: bool,
    /// The limits.
    pub limits: Limits,
    /// What the actors count.
    pub metrics: ActorMetrics,
    /// The sessions under way in this process, with the callers that wait for them.
    pub sessions: Arc<SessionRegistry>,
    /// One permit per start of a service actor: the first starts can be awaited.
    pub started: tokio::sync::Semaphore,
    /// Work of the actors' starts that an orderly end waits for.
    pub starting: tokio_util::task::TaskTracker,
    /// Prefix of the actors' names: ractor's registry is shared by the whole process.
    pub name: String,
}
