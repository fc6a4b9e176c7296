//! What a session does next: plan and recall, then its steps one after the other, then the end.

use ai_factory_schemas::{
    answer::Submitted,
    id::{RequestId, RunId, SessionId},
    plan::{Code, Plan, TaskType},
    session::{
        Recalled, Resolution, SessionConcluded, SessionEnd, SessionEvent, SessionOpened,
        SessionPlanned, SessionRecalled, SessionResumed, StepDispatched, StepFailed, StepFinished,
        StepResolved, StepSkipped, StepUnknown, Submitter,
    },
};

use super::aggregate;
use crate::decider::{Decider, IllegalEvent};

/// Where one step stands.
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
    /// Found dispatched and not finished; somebody must decide.
    Unknown {
        /// The run.
        run_id: RunId,
        /// The attempt whose end is unknown.
        attempt: u32,
    },
    /// Its run ended.
    Finished(StepFinished),
    /// It had nothing to run, or was not reached.
    Skipped(String),
    /// It could not be run.
    Failed(String),
}

/// The fold of a session's stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    opened: Option<SessionOpened>,
    plan: Option<Plan>,
    recalled: Option<Vec<Recalled>>,
    steps: Vec<StepState>,
    resumes: u32,
    concluded: Option<SessionConcluded>,
}

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

impl Session {
    /// How it began.
    pub fn opened(&self) -> Option<&SessionOpened> {
        self.opened.as_ref()
    }

    /// What is answered to whoever submitted it.
    pub fn submitted(&self, session_id: SessionId) -> Option<Submitted> {
        let request_id = self.opened.as_ref()?.request_id.clone();
        Some(Submitted { request_id, session_id })
    }

    /// Its plan, once there is one.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What was recalled.
    pub fn recalled(&self) -> &[Recalled] {
        self.recalled.as_deref().unwrap_or_default()
    }

    /// Its steps, in order.
    pub fn steps(&self) -> &[StepState] {
        &self.steps
    }

    /// Its end, once it is over.
    pub fn concluded(&self) -> Option<&SessionConcluded> {
        self.concluded.as_ref()
    }

    /// The code of a step.
    pub fn code(&self, step: u32) -> Option<&Code> {
        self.plan.as_ref()?.steps.get(step as usize)?.code.as_ref()
    }

    /// How often it was taken up again after a crash.
    pub fn resumes(&self) -> u32 {
        self.resumes
    }

    /// `running`, `waiting`, or how it ended.
    pub fn status_word(&self) -> &'static str {
        match &self.concluded {
            Some(end) => end.status.as_str(),
            None if self.unknown().is_some() => "waiting",
            None => "running",
        }
    }

    /// The step whose end is unknown and undecided.
    fn unknown(&self) -> Option<(u32, RunId, u32)> {
        self.find(|step| match step {
            StepState::Unknown { run_id, attempt } => Some((*run_id, *attempt)),
            _ => None,
        })
    }

    /// The step that the debugger has.
    fn dispatched(&self) -> Option<(u32, RunId, u32)> {
        self.find(|step| match step {
            StepState::Dispatched { run_id, attempt } => Some((*run_id, *attempt)),
            _ => None,
        })
    }

    /// The runs that it waits for, or that somebody must decide about.
    pub fn open_runs(&self) -> impl Iterator<Item = RunId> {
        self.steps.iter().filter_map(|step| match step {
            StepState::Dispatched { run_id, .. } | StepState::Unknown { run_id, .. } => {
                Some(*run_id)
            }
            _ => None,
        })
    }

    fn find(
        &self,
        which: impl Fn(&StepState) -> Option<(RunId, u32)>,
    ) -> Option<(u32, RunId, u32)> {
        (0..)
            .zip(&self.steps)
            .find_map(|(index, step)| which(step).map(|(run_id, attempt)| (index, run_id, attempt)))
    }

    fn require_open(&self) -> Result<(), SessionRejection> {
        match (&self.opened, &self.concluded) {
            (None, _) => Err(SessionRejection::NotOpen),
            (_, Some(_)) => Err(SessionRejection::Over),
            _ => Ok(()),
        }
    }

    /// `first` and all that follows from it without asking the world.
    fn then_advance(&self, first: SessionEvent, next_run: RunId) -> Vec<SessionEvent> {
        let mut state = self.clone();
        let mut events = Vec::new();
        let mut next = Some(first);
        while let Some(event) = next {
            if state.evolve(&event).is_err() {
                // An answer that came too late for this state: nothing follows from it.
                break;
            }
            events.push(event);
            next = state.next_event(next_run);
        }
        events
    }

    /// The event that follows from this state alone, if one does.
    fn next_event(&self, next_run: RunId) -> Option<SessionEvent> {
        if self.concluded.is_some() || self.recalled.is_none() {
            return None;
        }
        let plan = self.plan.as_ref()?;
        if self.dispatched().is_some() || self.unknown().is_some() {
            return None;
        }
        let Some(index) = self.steps.iter().position(|step| *step == StepState::Planned) else {
            return Some(self.conclusion(SessionEnd::Completed, None).into());
        };
        let step = &plan.steps[index];
        Some(if step.code.is_some() {
            StepDispatched { step: step.index, run_id: next_run, attempt: 1 }.into()
        } else {
            StepSkipped { step: step.index, reason: "no code to run".to_owned() }.into()
        })
    }

    fn conclusion(&self, end: SessionEnd, reason: Option<String>) -> SessionConcluded {
        let result = aggregate::result(aggregate::heads(&self.steps));
        SessionConcluded {
            end,
            status: aggregate::status(end, &self.steps),
            summary: aggregate::summary(&result),
            reason,
        }
    }

    /// The steps that are not over are skipped or failed, and the session ends.
    fn give_up(&self, end: SessionEnd, reason: &str) -> Vec<SessionEvent> {
        let mut state = self.clone();
        let mut events = Vec::new();
        for (index, step) in (0..).zip(&self.steps) {
            let event: SessionEvent = match step {
                StepState::Planned => {
                    StepSkipped { step: index, reason: format!("not reached: {reason}") }.into()
                }
                StepState::Dispatched { .. } | StepState::Unknown { .. } => {
                    StepFailed { step: index, reason: reason.to_owned() }.into()
                }
                StepState::Finished(_) | StepState::Skipped(_) | StepState::Failed(_) => continue,
            };
            if state.evolve(&event).is_ok() {
                events.push(event);
            }
        }
        events.push(state.conclusion(end, Some(reason.to_owned())).into());
        events
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

impl Decider for Session {
    type Command = SessionCommand;
    type Event = SessionEvent;
    type Effect = SessionEffect;
    type Outcome = SessionOutcome;
    type Rejection = SessionRejection;

    fn decide(&self, command: SessionCommand) -> Result<Vec<SessionEvent>, SessionRejection> {
        if let SessionCommand::Open { request_id, goal, task_type, submitted_by } = command {
            let opened = SessionOpened { request_id, goal, task_type, submitted_by };
            return match self.opened {
                Some(_) => Err(SessionRejection::AlreadyOpen),
                None => Ok(vec![opened.into()]),
            };
        }
        self.require_open()?;
        match command {
            SessionCommand::Open { .. } => Err(SessionRejection::AlreadyOpen),
            // It waits for somebody, not for a shell: nothing happened to it.
            SessionCommand::Resume { .. } if self.unknown().is_some() => Ok(Vec::new()),
            SessionCommand::Resume { repeatable, after_crash, resumes_max } => {
                let count = self.resumes + u32::from(after_crash);
                if after_crash && count > resumes_max {
                    let reason = format!(
                        "given up after a crash: it was taken up again {} times before",
                        self.resumes
                    );
                    return Ok(self.give_up(SessionEnd::Failed, &reason));
                }
                let mut events = vec![SessionResumed { count }.into()];
                if let Some((step, run_id, attempt)) = self.dispatched() {
                    events.push(if repeatable {
                        StepDispatched { step, run_id, attempt: attempt + 1 }.into()
                    } else {
                        StepUnknown { step, run_id, attempt }.into()
                    });
                }
                Ok(events)
            }
            SessionCommand::Cancel => Ok(self.give_up(SessionEnd::Cancelled, "cancelled")),
            SessionCommand::Expire => {
                Ok(self.give_up(SessionEnd::Expired, "the session's deadline passed"))
            }
            SessionCommand::ExpireStep { step, next_run } => match self.dispatched() {
                Some((running, ..)) if running == step => {
                    let failed =
                        StepFailed { step, reason: "the step's deadline passed".to_owned() };
                    Ok(self.then_advance(failed.into(), next_run))
                }
                _ => Err(SessionRejection::StepNotRunning),
            },
            SessionCommand::Resolve { resolution, next_run } => {
                let (step, run_id, attempt) =
                    self.unknown().ok_or(SessionRejection::NothingToResolve)?;
                let resolved = StepResolved { step, resolution }.into();
                Ok(match resolution {
                    Resolution::Repeat => {
                        vec![resolved, StepDispatched { step, run_id, attempt: attempt + 1 }.into()]
                    }
                    Resolution::Skip => self.then_advance(resolved, next_run),
                })
            }
        }
    }

    fn evolve(&mut self, event: &SessionEvent) -> Result<(), IllegalEvent> {
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
            }
            SessionEvent::Planned(SessionPlanned { plan }) => {
                if self.plan.is_some() {
                    return Err(IllegalEvent::new("session.planned", "it was planned before"));
                }
                self.steps = vec![StepState::Planned; plan.steps.len()];
                self.plan = Some(plan.clone());
            }
            SessionEvent::Recalled(SessionRecalled { items }) => {
                if self.recalled.replace(items.clone()).is_some() {
                    return Err(IllegalEvent::new("session.recalled", "it had recalled before"));
                }
            }
            SessionEvent::StepDispatched(StepDispatched { step, run_id, attempt }) => {
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
                    StepState::Finished(finished.clone());
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
            SessionEvent::Resumed(SessionResumed { count }) => self.resumes = *count,
            SessionEvent::Concluded(concluded) => self.concluded = Some(concluded.clone()),
        }
        Ok(())
    }

    fn pending(&self) -> Vec<SessionEffect> {
        if self.opened.is_none() || self.concluded.is_some() {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if self.plan.is_none() {
            effects.push(SessionEffect::Propose);
        }
        if self.recalled.is_none() {
            effects.push(SessionEffect::Recall);
        }
        if let Some((step, run_id, attempt)) = self.dispatched() {
            effects.push(SessionEffect::Run { step, run_id, attempt });
        }
        effects
    }

    fn settle(&self, outcome: SessionOutcome) -> Vec<SessionEvent> {
        if self.require_open().is_err() {
            return Vec::new();
        }
        match outcome {
            SessionOutcome::Proposed { plan, next_run } => {
                self.then_advance(SessionPlanned { plan }.into(), next_run)
            }
            SessionOutcome::NotProposed { reason } if self.plan.is_none() => {
                self.give_up(SessionEnd::Failed, &reason)
            }
            SessionOutcome::NotProposed { .. } => Vec::new(),
            SessionOutcome::Recalled { items, next_run } => {
                self.then_advance(SessionRecalled { items }.into(), next_run)
            }
            SessionOutcome::Ran { finished, next_run } => {
                self.then_advance(finished.into(), next_run)
            }
            SessionOutcome::NotRun { step, run_id, reason, next_run } => match self.dispatched() {
                Some((running, run, _)) if (running, run) == (step, run_id) => {
                    self.then_advance(StepFailed { step, reason }.into(), next_run)
                }
                _ => Vec::new(),
            },
        }
    }
}
