//! State of a session: the fold of its stream.

use ai_factory_schemas::{
    answer::Submitted,
    check::{Check, CheckDispatched, CheckFinished, CheckMoment},
    id::{RunId, SessionId},
    plan::{Code, Plan},
    session::{
        Recalled, Resolution, SessionConcluded, SessionEvent, SessionOpened, SessionPhase,
        SessionPlanned, SessionRecalled, SessionResumed, StepDispatched, StepFailed, StepFinished,
        StepResolved, StepSkipped, StepUnknown, WaitReason,
    },
    turn::TurnPurpose,
    workspace::ChangeList,
};

use super::{
    check::{CheckState, SessionChecks},
    vocabulary::SessionRejection,
};
use crate::{
    agent::conversation::Conversation,
    decider::IllegalEvent,
    workspace::tree::{self, SessionWorkspace},
};

/// The state of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Not reached.
    Planned,
    /// Handed to the debugger, or about to be.
    Dispatched {
        /// The run.
        run_id: RunId,
        /// From 1.
        attempt: u32,
    },
    /// Dispatched before a crash and not finished; waits for a decision.
    Unknown {
        /// The run.
        run_id: RunId,
        /// The attempt whose end is unknown.
        attempt: u32,
    },
    /// The run ended.
    Finished(Box<StepFinished>),
    /// No code to run, or not reached.
    Skipped(String),
    /// The run could not be done.
    Failed(String),
}

/// The fold of a session's stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    pub(super) opened: Option<SessionOpened>,
    pub(super) plan: Option<Plan>,
    pub(super) recalled: Option<Vec<Recalled>>,
    pub(super) steps: Vec<StepState>,
    /// The runs of the check, if the goal has one.
    pub(super) checks: Option<SessionChecks>,
    /// Its files, if it has some or a check.
    workspace: Option<SessionWorkspace>,
    /// The conversation with the model, if it has one.
    pub(super) conversation: Option<Box<Conversation>>,
    pub(super) resumes: u32,
    pub(super) concluded: Option<SessionConcluded>,
}

impl Session {
    /// The opening.
    pub fn opened(&self) -> Option<&SessionOpened> {
        self.opened.as_ref()
    }

    /// The answer to `supervisor.submit`.
    pub fn submitted(&self, session_id: SessionId) -> Option<Submitted> {
        let request_id = self.opened.as_ref()?.request_id.clone();
        Some(Submitted { request_id, session_id })
    }

    /// The plan, once there is one.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// The recalled memories.
    pub fn recalled(&self) -> &[Recalled] {
        self.recalled.as_deref().unwrap_or_default()
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[StepState] {
        &self.steps
    }

    /// The end, once the session is over.
    pub fn concluded(&self) -> Option<&SessionConcluded> {
        self.concluded.as_ref()
    }

    /// The code of a step.
    pub fn code(&self, step: u32) -> Option<&Code> {
        self.plan.as_ref()?.steps.get(step as usize)?.code.as_ref()
    }

    /// What decides whether the goal is done.
    pub fn check(&self) -> Option<&Check> {
        self.opened.as_ref()?.check.as_ref()
    }

    /// The last run of the check that ended.
    pub fn last_check(&self) -> Option<&CheckFinished> {
        self.checks.as_ref()?.last()
    }

    /// The files, if the session has some or a check.
    pub fn workspace(&self) -> Option<&SessionWorkspace> {
        self.workspace.as_ref()
    }

    /// Resumptions after a crash.
    pub fn resumes(&self) -> u32 {
        self.resumes
    }

    /// How far it has come.
    pub fn phase(&self) -> SessionPhase {
        match &self.concluded {
            Some(end) => SessionPhase::Concluded(end.status),
            None if self.unknown().is_some() => SessionPhase::Waiting(WaitReason::Decision),
            None => self.wait().map_or(SessionPhase::Running, SessionPhase::Waiting),
        }
    }

    /// The step whose end is unknown and undecided.
    pub(super) fn unknown(&self) -> Option<(u32, RunId, u32)> {
        self.find(|step| match step {
            StepState::Unknown { run_id, attempt } => Some((*run_id, *attempt)),
            _ => None,
        })
    }

    /// The step whose run the debugger has.
    pub(super) fn dispatched(&self) -> Option<(u32, RunId, u32)> {
        self.find(|step| match step {
            StepState::Dispatched { run_id, attempt } => Some((*run_id, *attempt)),
            _ => None,
        })
    }

    /// The check whose run the debugger has.
    pub(super) fn dispatched_check(&self) -> Option<(CheckMoment, RunId, u32)> {
        self.checks.as_ref().filter(|_| self.concluded.is_none())?.dispatched()
    }

    /// The runs that are under way or wait for a decision.
    pub fn open_runs(&self) -> impl Iterator<Item = RunId> {
        let of_steps = self.steps.iter().filter_map(|step| match step {
            StepState::Dispatched { run_id, .. } | StepState::Unknown { run_id, .. } => {
                Some(*run_id)
            }
            _ => None,
        });
        let of_tool = self.conversation().filter(|_| self.concluded.is_none());
        let of_tool = of_tool.and_then(|all| all.answer()?.run()).map(|(_, run_id, _)| run_id);
        of_steps.chain(of_tool).chain(self.dispatched_check().map(|(_, run_id, _)| run_id))
    }

    fn find(
        &self,
        which: impl Fn(&StepState) -> Option<(RunId, u32)>,
    ) -> Option<(u32, RunId, u32)> {
        (0..)
            .zip(&self.steps)
            .find_map(|(index, step)| which(step).map(|(run_id, attempt)| (index, run_id, attempt)))
    }

    pub(super) fn require_open(&self) -> Result<(), SessionRejection> {
        match (&self.opened, &self.concluded) {
            (None, _) => Err(SessionRejection::NotOpen),
            (_, Some(_)) => Err(SessionRejection::Over),
            _ => Ok(()),
        }
    }

    /// Applies an event, or says why it cannot have happened.
    pub(super) fn apply(&mut self, event: &SessionEvent) -> Result<(), IllegalEvent> {
        if self.concluded.is_some() {
            return Err(IllegalEvent::new("session event", "the session is over"));
        }
        if self.opened.is_none() && !matches!(event, SessionEvent::Opened(_)) {
            return Err(IllegalEvent::new("session event", "the session was not opened"));
        }
        match event {
            SessionEvent::Opened(opened) => {
                if self.opened.replace(opened.clone()).is_some() {
                    return Err(IllegalEvent::new("session.opened", "it was opened before"));
                }
                self.conversation =
                    opened.model.as_deref().map(|terms| Box::new(Conversation::new(terms)));
                self.checks = opened.check.is_some().then(SessionChecks::default);
                self.workspace =
                    opened.workspace.map(|opened| SessionWorkspace { opened, changes: Vec::new() });
            }
            SessionEvent::Planned(SessionPlanned { plan }) => {
                if self.plan.is_some() {
                    return Err(IllegalEvent::new("session.planned", "it was planned before"));
                }
                match &self.conversation {
                    None => self.steps = vec![StepState::Planned; plan.steps.len()],
                    // The model carries it out: it has no steps that the factory runs.
                    Some(conversation) if conversation.answer().is_some() => {}
                    Some(_) => {
                        return Err(IllegalEvent::new("session.planned", "no plan was asked for"));
                    }
                }
                self.plan = Some(plan.clone());
            }
            SessionEvent::Recalled(SessionRecalled { items }) => {
                if self.recalled.replace(items.clone()).is_some() {
                    return Err(IllegalEvent::new("session.recalled", "it had recalled before"));
                }
            }
            SessionEvent::StepDispatched(StepDispatched { step, run_id, attempt }) => {
                if self.checks.as_ref().is_some_and(|checks| checks.before.finished().is_none()) {
                    let why = "the check before the steps did not end";
                    return Err(IllegalEvent::new("session.step_dispatched", why));
                }
                let earlier = |state: &StepState| match state {
                    StepState::Planned => *attempt == 1,
                    StepState::Dispatched { run_id: run, attempt: last }
                    | StepState::Unknown { run_id: run, attempt: last } => {
                        run == run_id && last + 1 == *attempt
                    }
                    _ => false,
                };
                *self.step_mut("session.step_dispatched", *step, earlier)? =
                    StepState::Dispatched { run_id: *run_id, attempt: *attempt };
            }
            SessionEvent::StepFinished(finished) => {
                let same = |state: &StepState| matches!(state, StepState::Dispatched { run_id, .. } if *run_id == finished.run_id);
                *self.step_mut("session.step_finished", finished.step, same)? =
                    StepState::Finished(Box::new(finished.clone()));
            }
            SessionEvent::StepSkipped(StepSkipped { step, reason }) => {
                let planned = |state: &StepState| *state == StepState::Planned;
                *self.step_mut("session.step_skipped", *step, planned)? =
                    StepState::Skipped(reason.clone());
            }
            SessionEvent::StepFailed(StepFailed { step, reason }) => {
                let under_way = |state: &StepState| {
                    matches!(state, StepState::Dispatched { .. } | StepState::Unknown { .. })
                };
                *self.step_mut("session.step_failed", *step, under_way)? =
                    StepState::Failed(reason.clone());
            }
            SessionEvent::StepUnknown(StepUnknown { step, run_id, attempt }) => {
                let lost = |state: &StepState| {
                    *state == StepState::Dispatched { run_id: *run_id, attempt: *attempt }
                };
                *self.step_mut("session.step_unknown", *step, lost)? =
                    StepState::Unknown { run_id: *run_id, attempt: *attempt };
            }
            SessionEvent::StepResolved(StepResolved { step, resolution }) => {
                let unknown = |state: &StepState| matches!(state, StepState::Unknown { .. });
                let state = self.step_mut("session.step_resolved", *step, unknown)?;
                if *resolution == Resolution::Skip {
                    *state = StepState::Failed("how it ended is unknown".to_owned());
                }
            }
            SessionEvent::CheckDispatched(CheckDispatched { moment, run_id, attempt, turn }) => {
                let is_due = match &self.conversation {
                    None => {
                        self.plan.is_some()
                            && (*moment == CheckMoment::Before || self.are_steps_over())
                    }
                    Some(conversation) => match moment {
                        CheckMoment::Before => {
                            self.recalled.is_some() && conversation.turn().is_none()
                        }
                        CheckMoment::After => conversation.ends_at(*turn),
                    },
                };
                let state = self.check_mut("session.check_dispatched", *moment, |state| {
                    is_due
                        && match state {
                            CheckState::Planned => *attempt == 1,
                            CheckState::Dispatched { run_id: run, attempt: last } => {
                                run == run_id && last + 1 == *attempt
                            }
                            // A later end is checked again.
                            CheckState::Finished(end) => {
                                *attempt == 1 && turn.is_some() && end.turn != *turn
                            }
                        }
                })?;
                *state = CheckState::Dispatched { run_id: *run_id, attempt: *attempt };
            }
            SessionEvent::CheckFinished(finished) => {
                *self.check_mut("session.check_finished", finished.moment, |state| {
                    state.dispatched().is_some_and(|(run, _)| run == finished.run_id)
                })? = CheckState::Finished(Box::new(finished.clone()));
            }
            SessionEvent::TurnDispatched(_)
            | SessionEvent::TurnFinished(_)
            | SessionEvent::TurnFailed(_)
            | SessionEvent::ToolDispatched(_)
            | SessionEvent::ToolFinished(_)
            | SessionEvent::QuestionAsked(_)
            | SessionEvent::QuestionAnswered(_)
            | SessionEvent::BudgetChanged(_)
            | SessionEvent::Compacted(_) => self.apply_turn(event)?,
            SessionEvent::Resumed(SessionResumed { count }) => self.resumes = *count,
            SessionEvent::Concluded(concluded) => self.concluded = Some(concluded.clone()),
        }
        self.change(tree::changes_of(event));
        Ok(())
    }

    /// Applies an event of a session with a model.
    fn apply_turn(&mut self, event: &SessionEvent) -> Result<(), IllegalEvent> {
        let terms = self.opened.as_ref().and_then(|opened| opened.model.as_deref());
        let Some((conversation, terms)) = self.conversation.as_deref_mut().zip(terms) else {
            return Err(IllegalEvent::new("session event", "the session has no model"));
        };
        if let SessionEvent::TurnDispatched(dispatched) = event {
            let purpose = if self.plan.is_none() { TurnPurpose::Plan } else { TurnPurpose::Work };
            let is_blocked = self.checks.as_ref().is_some_and(SessionChecks::hold_turns);
            if self.recalled.is_none() || is_blocked || dispatched.purpose != purpose {
                let why = "another thing is due before this turn";
                return Err(IllegalEvent::new("session.turn_dispatched", why));
            }
        }
        conversation.apply(event, terms)
    }

    /// Whether no step is to come, under way or undecided.
    fn are_steps_over(&self) -> bool {
        let is_over = |step: &StepState| {
            matches!(step, StepState::Finished(_) | StepState::Skipped(_) | StepState::Failed(_))
        };
        self.steps.iter().all(is_over)
    }

    fn change(&mut self, changes: Option<&ChangeList>) {
        if let Some(workspace) = &mut self.workspace {
            workspace.changes.extend(changes.cloned());
        }
    }

    fn check_mut(
        &mut self,
        event: &'static str,
        moment: CheckMoment,
        allowed: impl Fn(&CheckState) -> bool,
    ) -> Result<&mut CheckState, IllegalEvent> {
        self.checks
            .as_mut()
            .map(|checks| checks.of_mut(moment))
            .filter(|state| allowed(state))
            .ok_or(IllegalEvent::new(event, "no such check in that state"))
    }

    fn step_mut(
        &mut self,
        event: &'static str,
        step: u32,
        allowed: impl Fn(&StepState) -> bool,
    ) -> Result<&mut StepState, IllegalEvent> {
        self.steps
            .get_mut(step as usize)
            .filter(|state| allowed(state))
            .ok_or(IllegalEvent::new(event, "no such step in that state"))
    }
}
