//! What a session is asked, what it owes to the world, and what comes back.

use ai_factory_schemas::{
    id::{RequestId, RunId},
    plan::{Plan, TaskType},
    session::{Recalled, Resolution, StepFinished, Submitter},
};

/// What a session is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// Begin with a goal.
    Open {
        /// The request that brought it.
        request_id: RequestId,
        /// The goal.
        goal: String,
        /// What kind of work it is.
        task_type: TaskType,
        /// Who submitted it, where the door says so.
        submitted_by: Option<Submitter>,
    },
    /// Go on after the shell or the process had died.
    Resume {
        /// Whether a step whose end is unknown may be run again unasked.
        repeatable: bool,
        /// How often a session may be taken up again before it is given up.
        resumes_max: u32,
        /// Whether it was under way when something crashed; an end in order is not counted.
        after_crash: bool,
    },
    /// Stop.
    Cancel,
    /// The session's deadline passed.
    Expire,
    /// A step's deadline passed.
    ExpireStep {
        /// Which step.
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

/// What a session owes to the world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionEffect {
    /// Ask the planner. A question: asking twice does no harm, so it needs no record of its own.
    Propose,
    /// Ask memory. A question, as above.
    Recall,
    /// Have the debugger run a step's code. On disk as dispatched before it is performed.
    Run {
        /// Which step.
        step: u32,
        /// The run.
        run_id: RunId,
        /// From 1.
        attempt: u32,
    },
}

impl SessionEffect {
    /// Whether it changes the world, so that its dispatch must be on disk before it is performed.
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Run { .. })
    }
}

/// What the world answered. `next_run` is the id of the run that may follow: deciders make no ids.
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
    /// What memory recalled; nothing where it could not.
    Recalled {
        /// Best first.
        items: Vec<Recalled>,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// A run ended.
    Ran {
        /// How.
        finished: StepFinished,
        /// The id of the run that may follow.
        next_run: RunId,
    },
    /// A run could not be done.
    NotRun {
        /// Which step.
        step: u32,
        /// The run.
        run_id: RunId,
        /// Why.
        reason: String,
        /// The id of the run that may follow.
        next_run: RunId,
    },
}

/// Why a session refused a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRejection {
    /// It was opened before.
    #[error("the session is already open")]
    AlreadyOpen,
    /// There is no such session yet.
    #[error("the session does not exist")]
    NotOpen,
    /// It is over.
    #[error("the session is already over")]
    Over,
    /// No step's end is unknown.
    #[error("the session does not wait for a decision")]
    NothingToResolve,
    /// The step is not under way.
    #[error("the step is not under way")]
    StepNotRunning,
}
