//! Commands, effects and outcomes of a session.

use ai_factory_schemas::{
    check::{CheckFinished, CheckMoment},
    id::RunId,
    plan::Plan,
    session::{Recalled, Resolution, SessionOpened, StepFinished},
};

/// Commands of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// Begin with a goal.
    Open(Box<SessionOpened>),
    /// Continue after the death of the actor or the process.
    Resume {
        /// Whether a step whose end is unknown may be repeated without a decision.
        repeatable: bool,
        /// Resumptions allowed before the session is given up.
        resumes_max: u32,
        /// Whether a crash interrupted it; an orderly end does not count as a resumption.
        after_crash: bool,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// Cancel.
    Cancel,
    /// The session's deadline passed.
    Expire,
    /// A step's deadline passed.
    ExpireStep {
        /// The step.
        step: u32,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// Decide about the step whose end is unknown.
    Resolve {
        /// The decision.
        resolution: Resolution,
        /// The id of the run that may follow.
        next_run: RunId,
    },
}

/// Effects of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionEffect {
    /// Ask the planner. A query: repeating it is harmless, so it needs no record.
    Propose,
    /// Ask memory. A query, as above.
    Recall,
    /// Run a step's code in the debugger. Recorded as dispatched before it is performed.
    Run {
        /// The step.
        step: u32,
        /// The run.
        run_id: RunId,
        /// From 1.
        attempt: u32,
    },
    /// Run the check in the debugger. Recorded as dispatched before it is performed.
    Check {
        /// Before the steps or after them.
        moment: CheckMoment,
        /// The run.
        run_id: RunId,
        /// From 1.
        attempt: u32,
    },
}

impl SessionEffect {
    /// Whether it has consequences outside, so that its dispatch must be on disk before it is
    /// performed.
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Check { .. })
    }
}

/// Outcomes of effects. `next_run` is the id for the run that may follow: deciders make no ids.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionOutcome {
    /// The planner's plan.
    Proposed {
        /// The plan.
        plan: Plan,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// There is no plan.
    NotProposed {
        /// Why.
        reason: String,
    },
    /// The recalled memories; none if memory failed.
    Recalled {
        /// Best first.
        items: Vec<Recalled>,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// A run ended.
    Ran {
        /// Its end.
        finished: StepFinished,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// A run could not be done.
    NotRun {
        /// The step.
        step: u32,
        /// The run.
        run_id: RunId,
        /// Why.
        reason: String,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// A run of the check ended.
    Checked {
        /// Its end.
        finished: Box<CheckFinished>,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// A run of the check could not be done.
    NotChecked {
        /// The run.
        run_id: RunId,
        /// Why.
        reason: String,
    },
}

/// Why a session refused a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRejection {
    /// The session was already opened.
    #[error("the session is already open")]
    AlreadyOpen,
    /// The session does not exist.
    #[error("the session does not exist")]
    NotOpen,
    /// The session is over.
    #[error("the session is already over")]
    Over,
    /// No step waits for a decision.
    #[error("the session does not wait for a decision")]
    NothingToResolve,
    /// The step is not under way.
    #[error("the step is not under way")]
    StepNotRunning,
}
