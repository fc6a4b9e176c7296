//! What every actor is given: the ports, the subjects, the limits.

use std::{sync::Arc, time::Duration};

use ai_factory_schemas::subject::Subjects;

use crate::ports::{
    bus::Bus, journal::Journal, sandbox::Sandbox, trace::Traces, views::Views, world::World,
};

/// The limits of the domain, from the settings of the same names (I-11).
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many requests one actor holds before it refuses more.
    pub requests_waiting_max: usize,
    /// How many sessions are under way at once.
    pub sessions_max: usize,
    /// How long a session may take, not counting the time in which no process had it.
    pub session_max: Duration,
    /// How long a step may take, waiting for its turn included.
    pub step_max: Duration,
    /// How often a session is taken up again after its shell or process had died.
    pub session_resumes_max: u32,
    /// Whether a step whose end is unknown is run again unasked.
    pub repeat_unknown: bool,
    /// The wall limit of one run.
    pub run_wall_max: Duration,
    /// How long the program of one run may be, in bytes; at most
    /// [`CODE_BYTES_MAX`](ai_factory_schemas::limit::CODE_BYTES_MAX).
    pub run_code_bytes_max: usize,
    /// How many runs are under way at once.
    pub runs_max: usize,
    /// How many runs wait for their turn.
    pub runs_waiting_max: usize,
    /// How long a memory is kept, where that is limited.
    pub memory_age_max: Option<Duration>,
    /// How many memories are kept, where that is limited.
    pub memories_max: Option<u64>,
    /// How often an actor may be restarted within [`Self::restart_window`].
    pub restarts_max: usize,
    /// The time in which restarts are counted.
    pub restart_window: Duration,
}

/// The ports, the subjects, the limits.
pub struct Deps {
    /// How actors reach each other.
    pub bus: Arc<dyn Bus>,
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// The read side.
    pub views: Arc<dyn Views>,
    /// Where code runs.
    pub sandbox: Arc<dyn Sandbox>,
    /// Time and ids.
    pub world: Arc<dyn World>,
    /// Traces that began elsewhere.
    pub traces: Arc<dyn Traces>,
    /// The addresses on the bus.
    pub subjects: Subjects,
    /// Whether sessions that are unfinished at the start are taken up at once, or only when they are spoken to.
    pub take_up_unfinished: bool,
    /// Whether the factory before this one ended in order, so that what it left unfinished did not crash it.
    pub ended_in_order: bool,
    /// How much of everything.
    pub limits: Limits,
    /// The sessions under way in this process, and who waits for them.
    pub live: Arc<crate::session::live::Live>,
    /// One permit for each start of a service actor, so that the first starts can be waited for.
    pub started: tokio::sync::Semaphore,
    /// What the names of this factory's actors begin with: ractor's registry is one for the process.
    pub name: String,
}
