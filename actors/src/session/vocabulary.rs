//! Commands, effects and outcomes of a session.

use ai_factory_schemas::{
    chat::MessageRef,
    check::{CheckFinished, CheckMoment},
    id::{CallId, RunId, SessionId, ToolCallId},
    model::Budget,
    plan::Plan,
    session::{Recalled, Resolution, SessionOpened, StepFinished, Submitter},
    turn::{
        MessageReplaced, QuestionAnswered, QuestionAsked, ToolFinished, TurnFailed, TurnFinished,
    },
};

/// The ids of what may follow from a command or an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextIds {
    /// The session: the ids of the effects of its turns are made from it.
    pub session: SessionId,
    /// The next run of a step, or of a check in a session without a model.
    pub run: RunId,
}

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
        /// The ids of what may follow.
        next: NextIds,
    },
    /// Cancel.
    Cancel {
        /// Whether the attempt of a call under way may have reached the provider.
        may_be_sent: bool,
    },
    /// The session's deadline passed.
    Expire {
        /// As above.
        may_be_sent: bool,
    },
    /// A step's deadline passed.
    ExpireStep {
        /// The step.
        step: u32,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// Answer the open question, or give it up.
    Answer {
        /// The answer, or none.
        answered: Box<QuestionAnswered>,
        /// The result of the tool call that asked.
        result: Box<ToolFinished>,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// Set another budget.
    ChangeBudget {
        /// The new limits.
        budget: Budget,
        /// Who changed them.
        by: Option<Submitter>,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// Try a turn again that the day's budget had no room for.
    RetryTurn {
        /// The ids of what may follow.
        next: NextIds,
    },
    /// Decide about the step whose end is unknown.
    Resolve {
        /// The decision.
        resolution: Resolution,
        /// The ids of what may follow.
        next: NextIds,
    },
}

/// What the factory has to say before the next turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WordsDue {
    /// The conversation's beginning: system prompt, goal, memories, files, the check's output, and
    /// the request for a plan.
    Opening,
    /// The last answer is no plan.
    PlanFault {
        /// Why.
        fault: String,
    },
    /// There is a plan: the work begins.
    CarryOut {
        /// Whether the plan is the heuristic one, because the model made none.
        heuristic: bool,
    },
    /// The last answer was cut or refused: none of its tool calls was carried out.
    NotExecuted {
        /// Its tool calls.
        calls: Vec<ToolCallId>,
        /// Why.
        reason: String,
    },
    /// The last answer has more tool calls than are carried out: the first were, these were not.
    LeftOut {
        /// How many were carried out.
        carried_out: u32,
        /// Those that were not, in their order.
        calls: Vec<ToolCallId>,
    },
    /// The check of the last end failed.
    CheckFailed {
        /// The call of `finish`; `None` if the end was a text without tool calls.
        finish: Option<ToolCallId>,
    },
    /// Without a check: the end cannot be a success, since the last run failed.
    NotDone {
        /// The call of `finish`; `None` if the end was a text without tool calls.
        finish: Option<ToolCallId>,
    },
}

/// Effects of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionEffect {
    /// Compose what the factory says before a turn. A query: repeating it is harmless.
    Prepare {
        /// The turn, from 1.
        turn: u32,
        /// What is due.
        words: WordsDue,
    },
    /// Shorten results in the conversation. A query, as above.
    Compact {
        /// The turn that follows.
        turn: u32,
        /// The places of the results, from 0.
        at: Vec<u32>,
    },
    /// Ask the model. Recorded as dispatched before it is performed.
    Call {
        /// The turn, from 1.
        turn: u32,
        /// The call.
        call_id: CallId,
        /// From 1.
        attempt: u32,
        /// How long to wait first, in milliseconds.
        delay_ms: u64,
    },
    /// Carry out a tool call.
    Tool {
        /// The turn, from 1.
        turn: u32,
        /// The tool call in its answer, from 0.
        index: u32,
        /// The run and its attempt, if it is one.
        run: Option<(RunId, u32)>,
    },
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
    /// Whether it is an effect of a turn.
    pub fn is_of_turn(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. } | Self::Compact { .. } | Self::Call { .. } | Self::Tool { .. }
        )
    }

    /// Whether it has consequences outside, so that its dispatch must be on disk before it is
    /// performed.
    pub fn is_recorded(&self) -> bool {
        // What an earlier tool wrote must be on disk before a later one reads it.
        matches!(
            self,
            Self::Run { .. } | Self::Check { .. } | Self::Call { .. } | Self::Tool { .. }
        )
    }
}

/// Outcomes of effects. `next` has the ids of what may follow: deciders make none.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionOutcome {
    /// The planner's plan.
    Proposed {
        /// The plan.
        plan: Plan,
        /// The ids of what may follow.
        next: NextIds,
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
        /// The ids of what may follow.
        next: NextIds,
    },
    /// A run ended.
    Ran {
        /// Its end.
        finished: StepFinished,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// A run could not be done.
    NotRun {
        /// The step.
        step: u32,
        /// The run.
        run_id: RunId,
        /// Why.
        reason: String,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// The words before a turn.
    Prepared {
        /// The turn.
        turn: u32,
        /// The messages.
        messages: Vec<MessageRef>,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// The model answered.
    Answered {
        /// Its answer.
        finished: Box<TurnFinished>,
        /// The plan that it is, if one was asked for and it is one.
        plan: Option<Plan>,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// An attempt of a call failed.
    NotAnswered {
        /// The failure.
        failed: TurnFailed,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// An attempt failed, and the provider wants to be asked again only after the session's time.
    TooLate {
        /// The failure.
        failed: TurnFailed,
        /// What is left of the session's time, in milliseconds.
        left_ms: u64,
    },
    /// A tool call has its result.
    ToolEnded {
        /// The result.
        finished: Box<ToolFinished>,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// A tool call asks a person.
    Asks {
        /// The question.
        asked: QuestionAsked,
    },
    /// Results were shortened.
    Shortened {
        /// The turn that follows.
        turn: u32,
        /// The replaced messages.
        replaced: Vec<MessageReplaced>,
        /// The ids of what may follow.
        next: NextIds,
    },
    /// A run of the check ended.
    Checked {
        /// Its end.
        finished: Box<CheckFinished>,
        /// The ids of what may follow.
        next: NextIds,
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
    /// No question waits for an answer, or another one does.
    #[error("the session does not wait for an answer to this question")]
    NothingAsked,
    /// The session has no model.
    #[error("the session has no model, and so no budget")]
    NoModel,
    /// The budget would be below what is spent and set aside.
    #[error("the budget would be below what is spent already: it can be lowered to that")]
    BudgetSpent,
    /// The step is not under way.
    #[error("the step is not under way")]
    StepNotRunning,
}
