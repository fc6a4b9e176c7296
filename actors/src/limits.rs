//! The limits of the domain.

use std::time::Duration;

use ai_factory_schemas::workspace::WorkspaceLimits;

/// The limits of the domain, from the settings of the same names (I-11).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that one actor has in progress before it refuses more.
    pub requests_waiting_max: usize,
    /// Sessions under way at once.
    pub sessions_max: usize,
    /// Time limit of a session, not counting the time in which no process worked on it; with a
    /// check, twice [`Self::check_wall_max`] more.
    pub session_max: Duration,
    /// Time limit of a step, its wait for a free slot included.
    pub step_max: Duration,
    /// Resumptions of a session after its actor or process died.
    pub session_resumes_max: u32,
    /// Whether a step whose end is unknown is repeated without a decision.
    pub repeat_unknown: bool,
    /// Wall time limit of one run.
    pub run_wall_max: Duration,
    /// Wall time limit of one run of a check, and its processor time limit.
    pub check_wall_max: Duration,
    /// What a session's workspace may hold.
    pub workspace: WorkspaceLimits,
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

impl Limits {
    /// Time limit of a session with a check: as of one without, and two runs of the check.
    pub fn session_with_check_max(&self) -> Duration {
        self.session_max.saturating_add(self.check_wall_max.saturating_mul(2))
    }
}
