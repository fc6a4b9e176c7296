//! Dependencies of every actor: ports, subjects, limits.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::Bus,
    clock::{Clock, IdSource},
    journal::Journal,
    sandbox::Sandbox,
    trace::Traces,
    views::Views,
};
use ai_factory_schemas::subject::Subjects;

/// The limits of the domain, from the settings of the same names (I-11).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that one actor has in progress before it refuses more.
    pub requests_waiting_max: usize,
    /// Sessions under way at once.
    pub sessions_max: usize,
    /// Time limit of a session, not counting the time in which no process worked on it.
    pub session_max: Duration,
    /// Time limit of a step, its wait for a free slot included.
    pub step_max: Duration,
    /// Resumptions of a session after its actor or process died.
    pub session_resumes_max: u32,
    /// Whether a step whose end is unknown is repeated without a decision.
    pub repeat_unknown: bool,
    /// Wall time limit of one run.
    pub run_wall_max: Duration,
    /// The longest program of one run, in bytes; at most
    /// [`CODE_BYTES_MAX`](ai_factory_schemas::limit::CODE_BYTES_MAX).
    pub run_code_bytes_max: usize,
    /// Runs under way at once.
    pub runs_max: usize,
    /// Runs that wait for a free slot.
    pub runs_waiting_max: usize,
    /// Retention time of a memory; `None` for no limit.
    pub memory_age_max: Option<Duration>,
    /// Number of memories kept; `None` for no limit.
    pub memories_max: Option<u64>,
    /// Restarts of actors within [`Self::restart_window`].
    pub restarts_max: usize,
    /// The time window in which restarts are counted.
    pub restart_window: Duration,
}

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
    /// The sessions under way in this process, with the callers that wait for them.
    pub sessions: Arc<crate::session::registry::SessionRegistry>,
    /// One permit per start of a service actor: the first starts can be awaited.
    pub started: tokio::sync::Semaphore,
    /// Prefix of the actors' names: ractor's registry is shared by the whole process.
    pub name: String,
}
