//! The limits of the domain.

use std::time::Duration;

use ai_factory_schemas::{
    model::{Budget, ModelParameters, TokenPrices, TurnLimits},
    workspace::WorkspaceLimits,
};

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
    /// The limits of sessions with a model.
    pub model: ModelLimits,
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

/// The limits of sessions with a model, and what they begin with.
#[derive(Clone, Debug)]
pub struct ModelLimits {
    /// The parameters of calls.
    pub parameters: ModelParameters,
    /// The prices, if they are known.
    pub prices: Option<TokenPrices>,
    /// What one session may spend.
    pub budget: Budget,
    /// What all sessions may spend in a day, by UTC.
    pub day: Budget,
    /// The limits of a session's turns.
    pub turns: TurnLimits,
    /// Calls under way at once.
    pub calls_max: usize,
    /// Sessions that wait for somebody.
    pub sessions_waiting_max: usize,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self {
            parameters: ModelParameters {
                temperature_milli: None,
                seed: None,
                output_tokens_max: 8_192,
                context_tokens: 32_768,
            },
            prices: None,
            budget: Budget { tokens_max: 1_000_000, cost_micros_max: None },
            day: Budget { tokens_max: 10_000_000, cost_micros_max: None },
            turns: TurnLimits {
                turns_max: 100,
                retries_max: 4,
                tool_wall_ms_max: 60_000,
                ask_ms_max: 86_400_000,
                session_ms_max: 14_400_000,
            },
            calls_max: 4,
            sessions_waiting_max: 10_000,
        }
    }
}

impl Limits {
    /// Time limit of a session with a check: as of one without, and two runs of the check.
    pub fn session_with_check_max(&self) -> Duration {
        self.session_max.saturating_add(self.check_wall_max.saturating_mul(2))
    }
}
