//! Decider of a session: plan and recall, then the steps one after the other, then the end. With a
//! check, it runs before the first step and after the last one.

use ai_factory_schemas::{
    check::{CheckDispatched, CheckMoment},
    session::{
        Resolution, SessionConcluded, SessionEnd, SessionEvent, SessionPlanned, SessionRecalled,
        SessionResumed, SessionStatus, StepDispatched, StepFailed, StepResolved, StepSkipped,
        StepUnknown,
    },
};

use super::{
    aggregate,
    check::{CheckState, SessionChecks},
    due::Due,
    state::{Session, StepState},
    vocabulary::{NextIds, SessionCommand, SessionEffect, SessionOutcome, SessionRejection},
};
use crate::decider::{Decider, IllegalEvent};

impl Session {
    /// `first` and everything that follows from it without an effect.
    pub(super) fn then_advance(&self, first: SessionEvent, next: NextIds) -> Vec<SessionEvent> {
        self.all_then_advance([first], next)
    }

    /// As [`Self::then_advance`], with several events that belong together.
    pub(super) fn all_then_advance(
        &self,
        first: impl IntoIterator<Item = SessionEvent>,
        next: NextIds,
    ) -> Vec<SessionEvent> {
        let mut state = self.clone();
        let mut events = Vec::new();
        let mut first = first.into_iter();
        while let Some(event) = first.next().or_else(|| state.next_event(next)) {
            if state.evolve(&event).is_err() {
                // An outcome that came too late for this state: nothing follows from it.
                break;
            }
            events.push(event);
        }
        events
    }

    /// The event that follows from this state alone, if there is one.
    fn next_event(&self, next: NextIds) -> Option<SessionEvent> {
        if let Some(due) = self.due() {
            return self.event_of(due, next);
        }
        if self.concluded.is_some() || self.recalled.is_none() {
            return None;
        }
        let plan = self.plan.as_ref()?;
        if self.dispatched().is_some()
            || self.unknown().is_some()
            || self.dispatched_check().is_some()
        {
            return None;
        }
        let check =
            |moment| CheckDispatched { moment, run_id: next.run, attempt: 1, turn: None }.into();
        let is_due = |state: fn(&SessionChecks) -> &CheckState| {
            self.checks.as_ref().is_some_and(|checks| *state(checks) == CheckState::Planned)
        };
        if is_due(|checks| &checks.before) {
            return Some(check(CheckMoment::Before));
        }
        let obstacle = self.checks.as_ref().and_then(SessionChecks::obstacle);
        let Some(index) = self.steps.iter().position(|step| *step == StepState::Planned) else {
            return Some(match obstacle {
                Some(obstacle) => self.conclusion(SessionEnd::Failed, Some(obstacle)).into(),
                None if is_due(|checks| &checks.after) => check(CheckMoment::After),
                None => self.conclusion(SessionEnd::Completed, None).into(),
            });
        };
        let step = &plan.steps[index];
        Some(if let Some(obstacle) = obstacle {
            let reason = format!("not reached: {obstacle}");
            StepSkipped { step: step.index, reason }.into()
        } else if step.code.is_some() {
            StepDispatched { step: step.index, run_id: next.run, attempt: 1 }.into()
        } else {
            StepSkipped { step: step.index, reason: "no code to run".to_owned() }.into()
        })
    }

    /// The end of the session. With a check, the check after the steps decides: there is no partial
    /// success.
    pub(super) fn conclusion(&self, end: SessionEnd, reason: Option<String>) -> SessionConcluded {
        if self.conversation.is_some() {
            return self.conclusion_with_model(end, reason);
        }
        let result = aggregate::result(aggregate::heads(&self.steps));
        let status = match &self.checks {
            None => aggregate::status(end, &self.steps),
            Some(checks) if end == SessionEnd::Completed && checks.is_passed() => {
                SessionStatus::Success
            }
            Some(_) => SessionStatus::Error,
        };
        SessionConcluded {
            end,
            status,
            summary: aggregate::summary(&result),
            reason: reason.or_else(|| self.checks.as_ref().and_then(SessionChecks::failure)),
        }
    }

    /// Continues after the death of the actor or the process. A check is repeated whatever the
    /// isolation: what it changes is discarded.
    fn resume(&self, count: u32, repeatable: bool, next: NextIds) -> Vec<SessionEvent> {
        let mut events = self.then_advance(SessionResumed { count }.into(), next);
        events.extend(self.repeated_run());
        events.extend(self.retry_turn(next));
        if let Some((step, run_id, attempt)) = self.dispatched() {
            events.push(if repeatable {
                StepDispatched { step, run_id, attempt: attempt + 1 }.into()
            } else {
                StepUnknown { step, run_id, attempt }.into()
            });
        }
        if let Some((moment, run_id, attempt)) = self.dispatched_check() {
            let turn = self.checked_turn(moment);
            events.push(CheckDispatched { moment, run_id, attempt: attempt + 1, turn }.into());
        }
        events
    }

    /// Skips or fails the steps that are not over, and concludes the session. An attempt of a call
    /// under way may have reached the provider.
    pub(super) fn give_up(&self, end: SessionEnd, reason: &str) -> Vec<SessionEvent> {
        self.give_up_attempt(end, reason, true)
    }

    /// As [`Self::give_up`]; `may_be_sent` says whether an attempt under way may have reached the
    /// provider.
    fn give_up_attempt(
        &self,
        end: SessionEnd,
        reason: &str,
        may_be_sent: bool,
    ) -> Vec<SessionEvent> {
        let mut state = self.clone();
        let mut events = Vec::new();
        if let Some(failed) = self.attempt_given_up(reason, may_be_sent)
            && state.evolve(&failed).is_ok()
        {
            events.push(failed);
        }
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
        if let SessionCommand::Open(opened) = command {
            return match self.opened {
                Some(_) => Err(SessionRejection::AlreadyOpen),
                None => Ok(vec![(*opened).into()]),
            };
        }
        self.require_open()?;
        match command {
            SessionCommand::Open(_) => Err(SessionRejection::AlreadyOpen),
            // The session waits for somebody, not for an actor: nothing to resume.
            SessionCommand::Resume { .. }
                if self.phase().is_waiting() && !self.is_waiting_for_day() =>
            {
                Ok(Vec::new())
            }
            SessionCommand::Resume { repeatable, after_crash, resumes_max, next } => {
                let count = self.resumes + u32::from(after_crash);
                if after_crash && count > resumes_max {
                    let reason = format!(
                        "given up after a crash: it was resumed {} times before",
                        self.resumes
                    );
                    return Ok(self.give_up(SessionEnd::Failed, &reason));
                }
                Ok(self.resume(count, repeatable, next))
            }
            SessionCommand::Cancel { may_be_sent } => {
                Ok(self.give_up_attempt(SessionEnd::Cancelled, "cancelled", may_be_sent))
            }
            SessionCommand::Expire { may_be_sent } => {
                let reason = match self.conversation {
                    Some(_) => "its time is over: raise `model_session_ms_max`, or split the goal",
                    None => "the session's deadline passed",
                };
                Ok(self.give_up_attempt(SessionEnd::Expired, reason, may_be_sent))
            }
            SessionCommand::ExpireStep { step, next } => match self.dispatched() {
                Some((running, ..)) if running == step => {
                    let failed =
                        StepFailed { step, reason: "the step's deadline passed".to_owned() };
                    Ok(self.then_advance(failed.into(), next))
                }
                _ => Err(SessionRejection::StepNotRunning),
            },
            SessionCommand::Answer { answered, result, next } => {
                self.answer(*answered, *result, next)
            }
            SessionCommand::ChangeBudget { budget, by, next } => {
                self.change_budget(budget, by, next)
            }
            SessionCommand::RetryTurn { next } => Ok(self.retry_turn(next)),
            SessionCommand::Resolve { resolution, next } => {
                let (step, run_id, attempt) =
                    self.unknown().ok_or(SessionRejection::NothingToResolve)?;
                let resolved = StepResolved { step, resolution }.into();
                Ok(match resolution {
                    Resolution::Repeat => {
                        vec![resolved, StepDispatched { step, run_id, attempt: attempt + 1 }.into()]
                    }
                    Resolution::Skip => self.then_advance(resolved, next),
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
        if let Some(due) = self.due() {
            return match due {
                Due::Effect(effect) => vec![effect],
                _ => Vec::new(),
            };
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
        if let Some((moment, run_id, attempt)) = self.dispatched_check() {
            effects.push(SessionEffect::Check { moment, run_id, attempt });
        }
        effects
    }

    fn settle(&self, outcome: SessionOutcome) -> Vec<SessionEvent> {
        if self.require_open().is_err() {
            return Vec::new();
        }
        match outcome {
            SessionOutcome::Proposed { plan, next } => {
                self.then_advance(SessionPlanned { plan }.into(), next)
            }
            SessionOutcome::NotProposed { reason }
                if self.pending().contains(&SessionEffect::Propose) =>
            {
                self.give_up(SessionEnd::Failed, &reason)
            }
            SessionOutcome::NotProposed { .. } => Vec::new(),
            SessionOutcome::Recalled { items, next } => {
                self.then_advance(SessionRecalled { items }.into(), next)
            }
            SessionOutcome::Ran { finished, next } => self.then_advance(finished.into(), next),
            SessionOutcome::NotRun { step, run_id, reason, next } => match self.dispatched() {
                Some((running, run, _)) if (running, run) == (step, run_id) => {
                    self.then_advance(StepFailed { step, reason }.into(), next)
                }
                _ => Vec::new(),
            },
            SessionOutcome::Prepared { .. }
            | SessionOutcome::Answered { .. }
            | SessionOutcome::NotAnswered { .. }
            | SessionOutcome::TooLate { .. }
            | SessionOutcome::ToolEnded { .. }
            | SessionOutcome::Asks { .. }
            | SessionOutcome::Shortened { .. } => self.settle_turn(outcome),
            SessionOutcome::Checked { mut finished, next } => {
                finished.turn = self.checked_turn(finished.moment);
                self.then_advance((*finished).into(), next)
            }
            SessionOutcome::NotChecked { run_id, reason } => match self.dispatched_check() {
                Some((_, run, _)) if run == run_id => {
                    let reason = format!("the check cannot be run: {reason}");
                    self.give_up(SessionEnd::Failed, &reason)
                }
                _ => Vec::new(),
            },
        }
    }
}
