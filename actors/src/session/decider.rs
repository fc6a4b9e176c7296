//! Decider of a session: plan and recall, then the steps one after the other, then the end.

use ai_factory_schemas::{
    id::RunId,
    session::{
        Resolution, SessionConcluded, SessionEnd, SessionEvent, SessionOpened, SessionPlanned,
        SessionRecalled, SessionResumed, StepDispatched, StepFailed, StepResolved, StepSkipped,
        StepUnknown,
    },
};

use super::{
    aggregate,
    state::{Session, StepState},
    vocabulary::{SessionCommand, SessionEffect, SessionOutcome, SessionRejection},
};
use crate::decider::{Decider, IllegalEvent};

impl Session {
    /// `first` and everything that follows from it without an effect.
    fn then_advance(&self, first: SessionEvent, next_run: RunId) -> Vec<SessionEvent> {
        let mut state = self.clone();
        let mut events = Vec::new();
        let mut next = Some(first);
        while let Some(event) = next {
            if state.evolve(&event).is_err() {
                // An outcome that came too late for this state: nothing follows from it.
                break;
            }
            events.push(event);
            next = state.next_event(next_run);
        }
        events
    }

    /// The event that follows from this state alone, if there is one.
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

    /// Skips or fails the steps that are not over, and concludes the session.
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
}

impl Decider for Session {
    type Command = SessionCommand;
    type Event = SessionEvent;
    type Effect = SessionEffect;
    type Outcome = SessionOutcome;
    type Rejection = SessionRejection;

    fn decide(&self, command: SessionCommand) -> Result<Vec<SessionEvent>, SessionRejection> {
        if let SessionCommand::Open { request_id, goal, task_type, submitted_by } = command {
            let opened = SessionOpened {
                request_id,
                goal,
                task_type,
                submitted_by,
                check: None,
                protect: Vec::new(),
                workspace: None,
            };
            return match self.opened {
                Some(_) => Err(SessionRejection::AlreadyOpen),
                None => Ok(vec![opened.into()]),
            };
        }
        self.require_open()?;
        match command {
            SessionCommand::Open { .. } => Err(SessionRejection::AlreadyOpen),
            // The session waits for a decision, not for an actor: nothing to resume.
            SessionCommand::Resume { .. } if self.unknown().is_some() => Ok(Vec::new()),
            SessionCommand::Resume { repeatable, after_crash, resumes_max } => {
                let count = self.resumes + u32::from(after_crash);
                if after_crash && count > resumes_max {
                    let reason = format!(
                        "given up after a crash: it was resumed {} times before",
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
        self.apply(event)
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
