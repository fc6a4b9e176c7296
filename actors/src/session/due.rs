//! What is due in a session with a model: the one next thing that follows from its state.

use ai_factory_schemas::{
    chat::StopReason,
    check::CheckMoment,
    model::{ModelErrorClass, Reservation, SessionModel},
    session::{SessionEnd, SessionStatus},
    turn::TurnPurpose,
};

use super::{
    check::{CheckState, SessionChecks},
    state::Session,
    vocabulary::{SessionEffect, WordsDue},
    words_size,
};
use crate::agent::{
    answer::{ToolState, TurnAnswer},
    budget::{self, Shortfall},
    compaction::{self, Window},
    conversation::Conversation,
    retry::{self, AfterFailure},
    size::RequestParts,
    stuck, tool_names,
    turn::{Turn, TurnState},
};

/// The next thing in a session with a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Due {
    /// An effect is to be performed, or is under way.
    Effect(SessionEffect),
    /// A person is to answer.
    Question,
    /// The check is to be dispatched.
    Check {
        /// Before the work or at an end.
        moment: CheckMoment,
        /// The turn that declares the end; 0 before the work.
        turn: u32,
    },
    /// A run of a tool is to be dispatched.
    Run {
        /// The turn.
        turn: u32,
        /// The tool call.
        index: u32,
    },
    /// An attempt of a call is to be dispatched; nothing is to be said before it.
    Attempt(NextAttempt),
    /// The budget has no room for the next call.
    Budget(Shortfall),
    /// The day's budget had no room for the last call.
    Day,
    /// The session is to be concluded.
    End(SessionEnd, Option<String>),
}

/// The next attempt of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextAttempt {
    /// The turn, from 1.
    pub turn: u32,
    /// From 1.
    pub attempt: u32,
    /// What it is for.
    pub purpose: TurnPurpose,
    /// What it sets aside.
    pub reserved: Reservation,
}

/// The parts of a session with a model.
#[derive(Clone, Copy)]
struct Parts<'a> {
    session: &'a Session,
    terms: &'a SessionModel,
    conversation: &'a Conversation,
}

impl Session {
    /// What is due; `None` without a model, and in a session that is over.
    pub(super) fn due(&self) -> Option<Due> {
        let parts = Parts {
            session: self,
            terms: self.model()?,
            conversation: self.conversation.as_deref()?,
        };
        self.concluded.is_none().then(|| parts.due())
    }

    /// The next attempt of the turn that the day's budget refused.
    pub(super) fn attempt_of_day(&self) -> Option<NextAttempt> {
        let conversation = self.conversation.as_deref()?;
        let parts = Parts { session: self, terms: self.model()?, conversation };
        let turn = conversation.turn()?;
        parts.attempt(turn.number, turn.attempt.saturating_add(1), turn.purpose, None).ok()
    }

    /// The next attempt after these words were prepared.
    pub(super) fn attempt_after_words(
        &self,
        turn: u32,
        bytes: u64,
        messages: u64,
    ) -> Option<Result<NextAttempt, Shortfall>> {
        let conversation = self.conversation.as_deref()?;
        let parts = Parts { session: self, terms: self.model()?, conversation };
        Some(parts.attempt(turn, 1, parts.purpose(), Some((bytes, messages))))
    }
}

impl Parts<'_> {
    fn due(self) -> Due {
        if self.session.recalled.is_none() {
            return Due::Effect(SessionEffect::Recall);
        }
        if let Some((moment, run_id, attempt)) = self.session.dispatched_check() {
            return Due::Effect(SessionEffect::Check { moment, run_id, attempt });
        }
        if let Some(checks) = &self.session.checks {
            if checks.before == CheckState::Planned {
                return Due::Check { moment: CheckMoment::Before, turn: 0 };
            }
            if let Some(obstacle) = checks.obstacle() {
                return Due::End(SessionEnd::Failed, Some(obstacle));
            }
        }
        let Some(turn) = self.conversation.turn() else { return self.next_turn() };
        let is_asked = turn.state == TurnState::Asked;
        if self.conversation.spend().has_overrun() && !is_asked {
            return failed(
                "the last call took more than it had set aside (overrun): no call follows; check the \
                 provider's usage, and `model_context_tokens`"
                    .to_owned(),
            );
        }
        match &turn.state {
            TurnState::Asked => Due::Effect(call(turn)),
            TurnState::Unanswered => self.after_failure(turn),
            TurnState::Answered(answer) => self.after_answer(answer),
        }
    }

    fn after_failure(self, turn: &Turn) -> Due {
        let Some(last) = turn.failed.as_deref() else { return Due::Day };
        let is_refused = last.class == ModelErrorClass::DayBudget;
        if !is_refused {
            let after = retry::after(last, turn.failures, self.terms.limits.retries_max);
            if let AfterFailure::GiveUp(reason) = after {
                return failed(reason);
            }
        }
        match self.attempt(turn.number, turn.attempt.saturating_add(1), turn.purpose, None) {
            Err(short) => Due::Budget(short),
            Ok(_) if is_refused => Due::Day,
            Ok(next) => Due::Attempt(next),
        }
    }

    fn after_answer(self, answer: &TurnAnswer) -> Due {
        let turn = answer.finished().turn;
        let deeds = self.conversation.deeds();
        let is_new = deeds.last().is_some_and(|deed| deed.turn == turn);
        if let Some(reason) = stuck::reason(deeds).filter(|_| is_new) {
            return failed(self.tried(&reason));
        }
        if let Some((index, call, state)) = answer.next_tool() {
            return match state {
                ToolState::Asked(_) => Due::Question,
                ToolState::Dispatched { run_id, attempt } => {
                    let run = Some((*run_id, *attempt));
                    Due::Effect(SessionEffect::Tool { turn, index, run })
                }
                _ if call.name == tool_names::RUN => Due::Run { turn, index },
                _ => Due::Effect(SessionEffect::Tool { turn, index, run: None }),
            };
        }
        if answer.finish().is_some() { self.at_end(answer) } else { self.next_turn() }
    }

    /// The model declares the end.
    fn at_end(self, answer: &TurnAnswer) -> Due {
        let turn = answer.finished().turn;
        let Some(checks) = &self.session.checks else {
            let is_told = !self.is_not_done(answer);
            return if is_told { Due::End(SessionEnd::Completed, None) } else { self.next_turn() };
        };
        if checks.after.finished().is_none_or(|end| end.turn != Some(turn)) {
            return Due::Check { moment: CheckMoment::After, turn };
        }
        if checks.is_passed() {
            return Due::End(SessionEnd::Completed, None);
        }
        let mut deeds = self.conversation.deeds().to_vec();
        deeds.extend(self.conversation.refused_end());
        match stuck::reason(&deeds) {
            Some(reason) => failed(self.tried(&reason)),
            None => self.next_turn(),
        }
    }

    /// Whether the model is to be told that it cannot be done: the last run failed, and it was not
    /// told before.
    fn is_not_done(self, answer: &TurnAnswer) -> bool {
        let is_success = answer.finish().is_some_and(|end| end.status == SessionStatus::Success);
        is_success && self.conversation.has_last_run_failed() && self.conversation.ends() < 2
    }

    fn purpose(self) -> TurnPurpose {
        if self.session.plan.is_none() { TurnPurpose::Plan } else { TurnPurpose::Work }
    }

    /// A turn is to begin, if the limits allow one.
    fn next_turn(self) -> Due {
        const PLANS_MAX: u32 = 2;
        if self.session.plan.is_none() && self.conversation.plan_turns() >= PLANS_MAX {
            return Due::Effect(SessionEffect::Propose);
        }
        let turn = self.conversation.turns().saturating_add(1);
        let turns_max = self.terms.limits.turns_max;
        if turn > turns_max {
            let reason = format!(
                "all {turns_max} turns are used up (`--turns`, or the setting `model_turns_max`)"
            );
            return failed(self.tried(&reason));
        }
        if let Some(reason) = stuck::idle(self.conversation.idle_answers()) {
            return failed(reason);
        }
        let words = self.words();
        let size = words.as_ref().map(|words| words_size::most(self.session, self.terms, words));
        let request = self.request(self.purpose(), size);
        match compaction::of(self.conversation, &request) {
            Window::Fits => {}
            Window::Shorten(at) => return Due::Effect(SessionEffect::Compact { turn, at }),
            Window::Full(reason) => return failed(self.tried(&reason)),
        }
        match (self.attempt(turn, 1, self.purpose(), size), words) {
            (Err(short), _) => Due::Budget(short),
            (Ok(_), Some(words)) => Due::Effect(SessionEffect::Prepare { turn, words }),
            (Ok(next), None) => Due::Attempt(next),
        }
    }

    fn request(&self, purpose: TurnPurpose, appended: Option<(u64, u64)>) -> RequestParts<'_> {
        let (appended_bytes, appended) = appended.unwrap_or_default();
        let messages = self.conversation.messages();
        RequestParts { messages, appended_bytes, appended, purpose, terms: self.terms }
    }

    /// An attempt with so many bytes of so many messages appended.
    fn attempt(
        self,
        turn: u32,
        attempt: u32,
        purpose: TurnPurpose,
        appended: Option<(u64, u64)>,
    ) -> Result<NextAttempt, Shortfall> {
        let request = self.request(purpose, appended);
        let reserved = budget::reservation(&request, self.conversation.settled());
        self.conversation.spend().fits(&reserved)?;
        Ok(NextAttempt { turn, attempt, purpose, reserved })
    }

    /// What is to be said before the next turn.
    fn words(self) -> Option<WordsDue> {
        let Some(answer) = self.conversation.answer() else { return Some(WordsDue::Opening) };
        let finished = answer.finished();
        let left_out: Vec<_> = answer.left_out().iter().map(|call| call.id).collect();
        let not_executed = |reason: &str| {
            let reason = reason.to_owned();
            Some(WordsDue::NotExecuted { calls: left_out.clone(), reason })
        };
        if answer.purpose() == TurnPurpose::Plan {
            return match (&self.session.plan, &finished.fault) {
                (Some(_), fault) if left_out.is_empty() => {
                    Some(WordsDue::CarryOut { heuristic: fault.is_some() })
                }
                (None, fault) if left_out.is_empty() => Some(WordsDue::PlanFault {
                    fault: fault.clone().unwrap_or_else(|| NO_PLAN.to_owned()),
                }),
                (Some(_), _) => not_executed(
                    "a plan was asked for, and no tool was on offer. There is a plan of the factory \
                     instead: carry out the goal from here on, with the tools",
                ),
                (None, _) => not_executed(
                    "a plan is asked for, and no tool is on offer yet: answer with the plan alone",
                ),
            };
        }
        if answer.finish().is_some() {
            let finish = answer.finish_call();
            return Some(match self.session.checks {
                Some(_) => WordsDue::CheckFailed { finish },
                None => WordsDue::NotDone { finish },
            });
        }
        if !answer.is_complete() {
            return not_executed(match finished.stop {
                StopReason::Refusal => {
                    "the model refused to answer. Go on with the goal as far as you can; if you cannot go \
                     on, call `finish` and say why"
                }
                _ => {
                    "the answer was cut before it was complete. Answer again, with less in one answer: \
                     one tool call, and large files in parts"
                }
            });
        }
        if finished.tool_calls.is_empty() {
            return not_executed("the answer is empty: call a tool, or `finish`");
        }
        if left_out.is_empty() {
            return None;
        }
        let carried_out = finished.tool_calls.len().saturating_sub(left_out.len());
        let carried_out = u32::try_from(carried_out).unwrap_or(u32::MAX);
        Some(WordsDue::LeftOut { carried_out, calls: left_out })
    }

    /// A reason, with what was tried.
    fn tried(self, reason: &str) -> String {
        let (turns, calls) = (self.conversation.turns(), self.conversation.results().len());
        let check = self.session.checks.as_ref().and_then(SessionChecks::failure);
        let check = check.map(|failure| format!("; {failure}")).unwrap_or_default();
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        let (turns, calls) = (counted(turns as usize, "turn"), counted(calls, "tool call"));
        format!("{reason}; tried: {turns} with {calls}{check}")
    }
}

/// The fault of a plan that names none.
pub(super) const NO_PLAN: &str = "there is no plan in the answer";

fn failed(reason: String) -> Due {
    Due::End(SessionEnd::Failed, Some(reason))
}

fn call(turn: &Turn) -> SessionEffect {
    let last = turn.failed.as_deref();
    let is_refused = last.is_some_and(|last| last.class == ModelErrorClass::DayBudget);
    let asked = last.and_then(|last| last.retry_after_ms);
    let failures = if is_refused { 0 } else { turn.failures };
    SessionEffect::Call {
        turn: turn.number,
        call_id: turn.call_id,
        attempt: turn.attempt,
        delay_ms: retry::delay_ms(turn.call_id, turn.attempt, failures, asked),
    }
}
