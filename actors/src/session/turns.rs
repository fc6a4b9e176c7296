//! Decider of a session with a model: the events of its turns.

use ai_factory_schemas::{
    chat::MessageRef,
    check::{CheckDispatched, CheckMoment},
    id::{CallId, EffectPlace, RunId, SessionId},
    model::{Budget, Charge, ModelErrorClass},
    plan::Plan,
    session::{
        SessionConcluded, SessionEnd, SessionEvent, SessionPlanned, SessionStatus, Submitter,
    },
    turn::{
        BudgetChanged, Compacted, MessageReplaced, QuestionAnswered, ToolDispatched, ToolFinished,
        TurnDispatched, TurnFailed, TurnFinished, TurnPurpose,
    },
};

use super::{
    aggregate,
    due::{Due, NO_PLAN, NextAttempt},
    state::Session,
    vocabulary::{NextIds, SessionEffect, SessionOutcome, SessionRejection},
    with_model::call_request,
};
use crate::{
    agent::{conversation::Conversation, turn::TurnState},
    decider::Decider as _,
};

impl Session {
    /// The event that is due, if what is due is one.
    pub(super) fn event_of(&self, due: Due, next: NextIds) -> Option<SessionEvent> {
        match due {
            Due::Check { moment, turn } => Some(check_event(moment, turn, next.session)),
            Due::Run { turn, index } => {
                // At most `TOOL_CALLS_MAX` are carried out.
                let place = EffectPlace::tool(turn, u8::try_from(index).ok()?);
                let run_id = RunId(place.id(next.session));
                Some(ToolDispatched { turn, index, run_id, attempt: 1 }.into())
            }
            Due::Attempt(attempt) => self.attempt_event(attempt, Vec::new(), next.session),
            Due::End(end, reason) => Some(self.conclusion(end, reason).into()),
            Due::Effect(_) | Due::Question | Due::Budget(_) | Due::Day => None,
        }
    }

    fn attempt_event(
        &self,
        next: NextAttempt,
        appended: Vec<MessageRef>,
        session: SessionId,
    ) -> Option<SessionEvent> {
        let NextAttempt { turn, attempt, purpose, reserved } = next;
        let mut request = call_request(self.model()?, purpose, self.conversation()?);
        request.messages.extend(&appended);
        Some(
            TurnDispatched {
                turn,
                call_id: CallId(EffectPlace::call(turn).id(session)),
                attempt,
                purpose,
                request_hash: request.hash(),
                appended,
                reserved,
            }
            .into(),
        )
    }

    /// The turn whose end the check under way checks.
    pub(super) fn checked_turn(&self, moment: CheckMoment) -> Option<u32> {
        let turn = self.conversation()?.turn()?.number;
        (moment == CheckMoment::After).then_some(turn)
    }

    /// The events that follow from the outcome of an effect of a turn.
    pub(super) fn settle_turn(&self, outcome: SessionOutcome) -> Vec<SessionEvent> {
        match outcome {
            SessionOutcome::Prepared { turn, messages, next } => {
                self.prepared(turn, messages, next)
            }
            SessionOutcome::Answered { finished, plan, next } => {
                self.answered(*finished, plan, next)
            }
            SessionOutcome::NotAnswered { failed, next } => self.then_advance(failed.into(), next),
            SessionOutcome::TooLate { failed, left_ms } => self.too_late(failed, left_ms),
            SessionOutcome::ToolEnded { finished, next } => {
                self.then_advance((*finished).into(), next)
            }
            SessionOutcome::Asks { asked } => {
                let asked = SessionEvent::from(asked);
                let is_awaited = self.clone().evolve(&asked).is_ok();
                if is_awaited { vec![asked] } else { Vec::new() }
            }
            SessionOutcome::Shortened { turn, replaced, next } => {
                self.shortened(turn, replaced, next)
            }
            _ => Vec::new(),
        }
    }

    /// The end of a session whose next attempt would begin after its time.
    fn too_late(&self, failed: TurnFailed, left_ms: u64) -> Vec<SessionEvent> {
        let asked_ms = failed.retry_after_ms.unwrap_or_default();
        let reason = format!(
            "the model gave no answer ({}): {}; the provider wants to be asked again in {} s, and the session has {} s \
             left (`model_session_ms_max`): run the goal again later",
            failed.class,
            failed.reason,
            asked_ms.div_ceil(1_000),
            left_ms / 1_000
        );
        let mut state = self.clone();
        let failed = SessionEvent::from(failed);
        if state.evolve(&failed).is_err() {
            return Vec::new();
        }
        let mut events = vec![failed];
        events.extend(state.give_up(SessionEnd::Failed, &reason));
        events
    }

    fn prepared(&self, turn: u32, messages: Vec<MessageRef>, next: NextIds) -> Vec<SessionEvent> {
        let Some(Due::Effect(SessionEffect::Prepare { turn: awaited, .. })) = self.due() else {
            return Vec::new();
        };
        let bytes = messages.iter().fold(0, |sum: u64, message| sum.saturating_add(message.bytes));
        let attempt = self.attempt_after_words(turn, bytes, messages.len() as u64);
        match attempt.filter(|_| awaited == turn) {
            None => Vec::new(),
            Some(Err(short)) => self.give_up(
                SessionEnd::Failed,
                &format!(
                    "the budget has no room for what there is to say: it lacks {} tokens and {} \
                     millionths of the currency: run the goal again with a larger budget",
                    short.tokens, short.cost_micros
                ),
            ),
            Some(Ok(attempt)) => self
                .attempt_event(attempt, messages, next.session)
                .map(|event| self.then_advance(event, next))
                .unwrap_or_default(),
        }
    }

    fn answered(
        &self,
        mut finished: TurnFinished,
        plan: Option<Plan>,
        next: NextIds,
    ) -> Vec<SessionEvent> {
        let purpose = self.conversation().and_then(|all| Some(all.turn()?.purpose));
        if purpose != Some(TurnPurpose::Plan) {
            return self.then_advance(finished.into(), next);
        }
        let plan = plan.filter(|_| finished.fault.is_none() && finished.tool_calls.is_empty());
        if plan.is_none() {
            finished.fault.get_or_insert_with(|| NO_PLAN.to_owned());
        }
        let planned = plan.map(|plan| SessionPlanned { plan }.into());
        let events = [finished.into()].into_iter().chain(planned);
        self.all_then_advance(events, next)
    }

    fn shortened(
        &self,
        turn: u32,
        mut replaced: Vec<MessageReplaced>,
        next: NextIds,
    ) -> Vec<SessionEvent> {
        let Some(Due::Effect(SessionEffect::Compact { turn: awaited, at })) = self.due() else {
            return Vec::new();
        };
        replaced.retain(|one| at.contains(&one.at));
        if awaited != turn {
            Vec::new()
        } else if replaced.is_empty() {
            let reason = "context full: no result of a tool could be shortened: use a model with a \
                          larger window (`model_context_tokens`), or split the goal";
            self.give_up(SessionEnd::Failed, reason)
        } else {
            self.then_advance(Compacted { turn, replaced }.into(), next)
        }
    }

    /// The attempt under way as failed. If it may have been sent, whether it was answered is
    /// unknown, and it is charged whole; else it is charged nothing.
    pub(super) fn attempt_given_up(&self, reason: &str, may_be_sent: bool) -> Option<SessionEvent> {
        let turn = self.conversation()?.turn().filter(|turn| turn.state == TurnState::Asked)?;
        let (class, charged) = if may_be_sent {
            (ModelErrorClass::Unknown, Charge::whole(&turn.reserved))
        } else {
            (ModelErrorClass::Cancelled, Charge::nothing())
        };
        Some(
            TurnFailed {
                turn: turn.number,
                call_id: turn.call_id,
                attempt: turn.attempt,
                class,
                reason: reason.to_owned(),
                retry_after_ms: None,
                charged,
            }
            .into(),
        )
    }

    /// The tool's run that a crash interrupted, as the next attempt.
    pub(super) fn repeated_run(&self) -> Option<SessionEvent> {
        let answer = self.conversation()?.answer()?;
        let (index, run_id, attempt) = answer.run()?;
        let turn = answer.finished().turn;
        Some(ToolDispatched { turn, index, run_id, attempt: attempt + 1 }.into())
    }

    /// Tries a turn again that the day's budget had no room for.
    pub(super) fn retry_turn(&self, next: NextIds) -> Vec<SessionEvent> {
        let retried = self.attempt_of_day().filter(|_| self.is_waiting_for_day());
        retried
            .and_then(|attempt| self.attempt_event(attempt, Vec::new(), next.session))
            .map(|event| self.then_advance(event, next))
            .unwrap_or_default()
    }

    /// Answers the open question, or gives it up.
    pub(super) fn answer(
        &self,
        answered: QuestionAnswered,
        result: ToolFinished,
        next: NextIds,
    ) -> Result<Vec<SessionEvent>, SessionRejection> {
        let asked = self.conversation().and_then(|all| all.question());
        let is_open = asked.is_some_and(|asked| {
            asked.question_id == answered.question_id
                && (asked.turn, asked.index) == (result.turn, result.index)
        });
        if !is_open {
            return Err(SessionRejection::NothingAsked);
        }
        Ok(self.all_then_advance([answered.into(), result.into()], next))
    }

    /// Sets another budget.
    pub(super) fn change_budget(
        &self,
        budget: Budget,
        by: Option<Submitter>,
        next: NextIds,
    ) -> Result<Vec<SessionEvent>, SessionRejection> {
        let conversation = self.conversation().ok_or(SessionRejection::NoModel)?;
        if !conversation.spend().is_held_by(&budget) {
            return Err(SessionRejection::BudgetSpent);
        }
        Ok(self.then_advance(BudgetChanged { budget, by }.into(), next))
    }

    /// The end of a session with a model.
    pub(super) fn conclusion_with_model(
        &self,
        end: SessionEnd,
        reason: Option<String>,
    ) -> SessionConcluded {
        let declared = self.conversation().and_then(Conversation::declared);
        let is_completed = end == SessionEnd::Completed;
        let has_failed = self.conversation().is_some_and(Conversation::has_last_run_failed);
        let status = match &self.checks {
            _ if !is_completed => SessionStatus::Error,
            Some(checks) if checks.is_passed() => SessionStatus::Success,
            Some(_) => SessionStatus::Error,
            None => match declared.map_or(SessionStatus::Error, |end| end.call.status) {
                SessionStatus::Success if has_failed => SessionStatus::Partial,
                status => status,
            },
        };
        let is_doubtful = is_completed && self.checks.is_none() && has_failed;
        let reason =
            reason.or_else(|| is_doubtful.then(|| "the last run of a program failed".to_owned()));
        let told = declared.map(|end| &*end.call.summary).or(reason.as_deref());
        let summary = aggregate::summary(told.unwrap_or_default());
        SessionConcluded { end, status, summary, reason }
    }
}

fn check_event(moment: CheckMoment, turn: u32, session: SessionId) -> SessionEvent {
    let run_id = RunId(EffectPlace::check(turn).id(session));
    let turn = (moment == CheckMoment::After).then_some(turn);
    CheckDispatched { moment, run_id, attempt: 1, turn }.into()
}
