//! The conversation of a session with its model: the fold of the events of its turns.

use ai_factory_schemas::{
    answer::ModelUse,
    call::ToolCallHead,
    chat::MessageRef,
    id::CallId,
    model::{ModelErrorClass, SessionModel},
    session::SessionEvent,
    turn::{
        Compacted, QuestionAnswered, QuestionAsked, ToolDispatched, ToolFinished, ToolOutcome,
        TurnDispatched, TurnFailed, TurnFinished, TurnPurpose,
    },
};

use super::{
    answer::{ToolState, TurnAnswer},
    budget::Spend,
    size::{RequestParts, SettledCall},
    stuck::Deed,
    tool_names,
    turn::{DeclaredEnd, ToolResult, Turn, TurnState},
};
use crate::decider::IllegalEvent;

/// The messages of a conversation, its last turn, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    messages: Vec<MessageRef>,
    turn: Option<Turn>,
    results: Vec<ToolResult>,
    deeds: Vec<Deed>,
    declared: Option<DeclaredEnd>,
    /// Ends declared so far.
    ends: u32,
    /// Turns that asked for a plan and were answered.
    plan_turns: u32,
    /// Answers in a row of which nothing was carried out.
    idle_answers: u32,
    has_last_run_failed: bool,
    settled: Option<SettledCall>,
    /// The last call, and how many messages of its request still stand at the beginning.
    sent: Option<(CallId, u32)>,
    spend: Spend,
}

const NO_TURN: &str = "no such turn in that state";
const NO_TOOL: &str = "it is not the turn of this tool call";

impl Conversation {
    /// The beginning: nothing said, nothing spent.
    pub fn new(terms: &SessionModel) -> Self {
        Self {
            messages: Vec::new(),
            turn: None,
            results: Vec::new(),
            deeds: Vec::new(),
            declared: None,
            ends: 0,
            plan_turns: 0,
            idle_answers: 0,
            has_last_run_failed: false,
            settled: None,
            sent: None,
            spend: Spend::new(terms),
        }
    }

    /// The messages, in order.
    pub fn messages(&self) -> &[MessageRef] {
        &self.messages
    }

    /// The last turn that was begun.
    pub fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    /// Turns begun.
    pub fn turns(&self) -> u32 {
        self.turn.as_ref().map_or(0, |turn| turn.number)
    }

    /// The answer of the last turn, once there is one.
    pub fn answer(&self) -> Option<&TurnAnswer> {
        match &self.turn.as_ref()?.state {
            TurnState::Answered(answer) => Some(answer),
            TurnState::Asked | TurnState::Unanswered => None,
        }
    }

    /// A tool call of the last answer, and the answer: a message.
    pub fn tool_call(&self, turn: u32, index: u32) -> Option<(MessageRef, &ToolCallHead)> {
        let finished = self.answer()?.finished();
        let call = finished.tool_calls.get(usize::try_from(index).ok()?)?;
        (finished.turn == turn).then_some((finished.message, call))
    }

    /// The question that waits for a person.
    pub fn question(&self) -> Option<&QuestionAsked> {
        self.answer()?.question()
    }

    /// The results of tool calls, in order.
    pub fn results(&self) -> &[ToolResult] {
        &self.results
    }

    /// What was done, in order.
    pub fn deeds(&self) -> &[Deed] {
        &self.deeds
    }

    /// The last end that the model declared.
    pub fn declared(&self) -> Option<&DeclaredEnd> {
        self.declared.as_ref()
    }

    /// Whether the last answer declares the end, and has this turn.
    pub fn ends_at(&self, turn: Option<u32>) -> bool {
        let end = self.answer().filter(|answer| answer.finish().is_some());
        end.is_some_and(|answer| turn == Some(answer.finished().turn))
    }

    /// How many ends the model declared.
    pub fn ends(&self) -> u32 {
        self.ends
    }

    /// Answered requests for a plan.
    pub fn plan_turns(&self) -> u32 {
        self.plan_turns
    }

    /// Answers in a row of which nothing was carried out.
    pub fn idle_answers(&self) -> u32 {
        self.idle_answers
    }

    /// Whether the last run of a tool failed.
    pub fn has_last_run_failed(&self) -> bool {
        self.has_last_run_failed
    }

    /// The last call whose tokens the provider counted.
    pub fn settled(&self) -> Option<&SettledCall> {
        self.settled.as_ref()
    }

    /// What is spent.
    pub fn spend(&self) -> &Spend {
        &self.spend
    }

    /// What the model took, and under which terms.
    pub fn model_use(&self, terms: &SessionModel) -> ModelUse {
        ModelUse {
            model: terms.endpoint.model.clone(),
            host: terms.endpoint.host().to_owned(),
            turns: self.turns(),
            attempts: self.spend.attempts(),
            usage: self.spend.usage(),
            resent_tokens: self.spend.resent_tokens(),
            budget: self.spend.shown(),
        }
    }

    /// Whether the next turn may begin: the last one has an answer, and each tool call its result.
    fn is_between_turns(&self) -> bool {
        match &self.turn {
            None => true,
            Some(_) => self.answer().is_some_and(|answer| answer.next_tool().is_none()),
        }
    }

    /// Applies an event of a turn, or says why it cannot have happened.
    ///
    /// # Errors
    /// If it cannot follow here.
    pub fn apply(
        &mut self,
        event: &SessionEvent,
        terms: &SessionModel,
    ) -> Result<(), IllegalEvent> {
        match event {
            SessionEvent::TurnDispatched(dispatched) => self.dispatch(dispatched),
            SessionEvent::TurnFinished(finished) => self.finish(finished, terms),
            SessionEvent::TurnFailed(failed) => self.fail(failed),
            SessionEvent::ToolDispatched(dispatched) => self.dispatch_tool(dispatched),
            SessionEvent::ToolFinished(finished) => self.finish_tool(finished),
            SessionEvent::QuestionAsked(asked) => self.ask(asked),
            SessionEvent::QuestionAnswered(answered) => self.hear(answered),
            SessionEvent::Compacted(compacted) => self.compact(compacted),
            SessionEvent::BudgetChanged(changed) => {
                self.spend.change(changed.budget);
                Ok(())
            }
            _ => Err(IllegalEvent::new("session event", "it is none of a turn")),
        }
    }

    fn dispatch(&mut self, dispatched: &TurnDispatched) -> Result<(), IllegalEvent> {
        let illegal = IllegalEvent::new("session.turn_dispatched", NO_TURN);
        let TurnDispatched { turn, call_id, attempt, purpose, appended, reserved, .. } = dispatched;
        if let Some(last) = self.turn.as_mut().filter(|last| last.number == *turn) {
            let follows = last.state == TurnState::Unanswered
                && (last.call_id, last.purpose) == (*call_id, *purpose)
                && last.attempt.checked_add(1) == Some(*attempt)
                && appended.is_empty();
            if !follows {
                return Err(illegal);
            }
            (last.attempt, last.reserved, last.state) = (*attempt, *reserved, TurnState::Asked);
        } else {
            let follows = self.is_between_turns() && *attempt == 1;
            if !follows || self.turns().checked_add(1) != Some(*turn) {
                return Err(illegal);
            }
            self.note_refused_end();
            self.messages.extend(appended);
            let sent = self.sent.replace((*call_id, count(&self.messages)));
            self.turn = Some(Turn {
                number: *turn,
                call_id: *call_id,
                attempt: 1,
                purpose: *purpose,
                reserved: *reserved,
                failures: 0,
                predecessor: sent.map(|(call_id, _)| call_id),
                kept: sent.map_or(0, |(_, kept)| kept),
                state: TurnState::Asked,
                failed: None,
            });
        }
        self.spend.reserve(*reserved);
        Ok(())
    }

    /// An end after which the work goes on was a failure.
    fn note_refused_end(&mut self) {
        self.deeds.extend(self.refused_end());
    }

    /// The end that the last answer declares, as a call that failed.
    pub fn refused_end(&self) -> Option<Deed> {
        let answer = self.answer()?;
        answer.finish()?;
        let finished = answer.finished();
        Some(Deed {
            turn: finished.turn,
            name: tool_names::FINISH.to_owned(),
            fingerprint: finished
                .tool_calls
                .first()
                .map_or(finished.message.hash, |call| call.fingerprint),
            is_failed: true,
            failure: None,
            has_changed: false,
        })
    }

    /// The turn whose model is asked, if it is this attempt of this call.
    fn asked(&mut self, of: (u32, CallId, u32)) -> Option<&mut Turn> {
        self.turn.as_mut().filter(|turn| {
            turn.state == TurnState::Asked && (turn.number, turn.call_id, turn.attempt) == of
        })
    }

    fn finish(
        &mut self,
        finished: &TurnFinished,
        terms: &SessionModel,
    ) -> Result<(), IllegalEvent> {
        let Some(turn) = self.asked((finished.turn, finished.call_id, finished.attempt)) else {
            return Err(IllegalEvent::new("session.turn_finished", NO_TURN));
        };
        let purpose = turn.purpose;
        let answer = TurnAnswer::new(finished.clone(), purpose);
        self.idle_answers = if answer.is_idle() { self.idle_answers.saturating_add(1) } else { 0 };
        self.plan_turns += u32::from(purpose == TurnPurpose::Plan);
        if let Some(call) = answer.finish() {
            self.ends = self.ends.saturating_add(1);
            self.declared = Some(DeclaredEnd {
                turn: finished.turn,
                message: finished.message,
                call: call.clone(),
            });
        }
        turn_state(&mut self.turn, TurnState::Answered(Box::new(answer)));
        self.spend.charge(&finished.charged);
        self.settle(finished, purpose, terms);
        self.messages.push(finished.message);
        Ok(())
    }

    /// Takes what the provider counted.
    fn settle(&mut self, finished: &TurnFinished, purpose: TurnPurpose, terms: &SessionModel) {
        let Some(usage) = finished.usage else { return };
        let tokens = usage.input_total();
        let known = self.settled.map_or(0, |settled| settled.tokens);
        self.spend.report(usage, known.min(tokens));
        // A charge in place of a usage says that the usage cannot be relied on.
        if !finished.charged.estimated && tokens > 0 {
            let parts = RequestParts {
                messages: &self.messages,
                appended_bytes: 0,
                appended: 0,
                purpose,
                terms,
            };
            let bytes = parts.bytes();
            self.settled =
                Some(SettledCall { tokens, messages: self.messages.len(), bytes, purpose });
        }
    }

    fn fail(&mut self, failed: &TurnFailed) -> Result<(), IllegalEvent> {
        let of = (failed.turn, failed.call_id, failed.attempt);
        let Some(turn) = self.asked(of) else {
            return Err(IllegalEvent::new("session.turn_failed", NO_TURN));
        };
        let is_made = failed.class != ModelErrorClass::DayBudget;
        turn.failures += u32::from(is_made);
        turn.state = TurnState::Unanswered;
        turn.failed = Some(Box::new(failed.clone()));
        self.spend.charge(&failed.charged);
        if !is_made {
            self.spend.uncount_attempt();
        }
        Ok(())
    }

    /// The tool call whose turn it is, if it is this one.
    fn tool_mut(&mut self, turn: u32, index: u32) -> Option<(&ToolCallHead, &mut ToolState)> {
        match self.turn.as_mut().filter(|last| last.number == turn).map(|last| &mut last.state)? {
            TurnState::Answered(answer) => answer.tool_mut(index),
            TurnState::Asked | TurnState::Unanswered => None,
        }
    }

    fn dispatch_tool(&mut self, dispatched: &ToolDispatched) -> Result<(), IllegalEvent> {
        let ToolDispatched { turn, index, run_id, attempt } = *dispatched;
        let illegal = IllegalEvent::new("session.tool_dispatched", NO_TOOL);
        let (call, state) = self.tool_mut(turn, index).ok_or(illegal.clone())?;
        let follows = match state {
            ToolState::Pending => attempt == 1 && call.name == tool_names::RUN,
            ToolState::Dispatched { run_id: run, attempt: last } => {
                *run == run_id && last.checked_add(1) == Some(attempt)
            }
            ToolState::Asked(_) | ToolState::Finished => false,
        };
        if !follows {
            return Err(illegal);
        }
        *state = ToolState::Dispatched { run_id, attempt };
        Ok(())
    }

    fn finish_tool(&mut self, finished: &ToolFinished) -> Result<(), IllegalEvent> {
        let illegal = IllegalEvent::new("session.tool_finished", NO_TOOL);
        let (call, state) = self.tool_mut(finished.turn, finished.index).ok_or(illegal.clone())?;
        let follows = match state {
            ToolState::Pending => finished.run_id.is_none() && call.name != tool_names::RUN,
            ToolState::Dispatched { run_id, .. } => {
                finished.run_id.is_none_or(|run| run == *run_id)
            }
            ToolState::Asked(_) | ToolState::Finished => false,
        };
        if !follows {
            return Err(illegal);
        }
        let is_run = matches!(state, ToolState::Dispatched { .. });
        *state = ToolState::Finished;
        let result = ToolResult {
            turn: finished.turn,
            index: finished.index,
            at: 0,
            outcome: finished.outcome,
            result: finished.result,
            complete: finished.complete,
            run_id: finished.run_id,
            is_shortened: false,
        };
        let deed = Deed {
            turn: finished.turn,
            name: call.name.clone(),
            fingerprint: call.fingerprint,
            is_failed: result.is_failure(),
            failure: finished.failure,
            has_changed: finished.workspace.as_ref().is_some_and(|end| end.changes.is_some()),
        };
        if is_run {
            self.has_last_run_failed = finished.outcome != ToolOutcome::Done;
        }
        self.deeds.push(deed);
        self.results.push(ToolResult { at: count(&self.messages), ..result });
        self.messages.push(finished.result);
        Ok(())
    }

    fn ask(&mut self, asked: &QuestionAsked) -> Result<(), IllegalEvent> {
        match self.tool_mut(asked.turn, asked.index) {
            Some((call, state))
                if *state == ToolState::Pending
                    && call.name == tool_names::ASK
                    && call.id == asked.question_id =>
            {
                *state = ToolState::Asked(Box::new(asked.clone()));
                Ok(())
            }
            _ => Err(IllegalEvent::new("session.question_asked", NO_TOOL)),
        }
    }

    fn hear(&mut self, answered: &QuestionAnswered) -> Result<(), IllegalEvent> {
        let open = self.question().filter(|asked| asked.question_id == answered.question_id);
        let place = open.map(|asked| (asked.turn, asked.index));
        match place.and_then(|(turn, index)| self.tool_mut(turn, index)) {
            Some((_, state)) => {
                // Its result follows.
                *state = ToolState::Pending;
                Ok(())
            }
            None => Err(IllegalEvent::new("session.question_answered", "no such question is open")),
        }
    }

    fn compact(&mut self, compacted: &Compacted) -> Result<(), IllegalEvent> {
        let illegal = |why| Err(IllegalEvent::new("session.compacted", why));
        if !self.is_between_turns() {
            return illegal("a turn is under way");
        }
        for replaced in &compacted.replaced {
            let result = self.results.iter_mut().find(|result| result.at == replaced.at);
            let place = usize::try_from(replaced.at).ok();
            let message = place.and_then(|at| self.messages.get_mut(at));
            let Some((result, message)) = result.zip(message) else {
                return illegal("there is no result of a tool at that place");
            };
            result.is_shortened = true;
            *message = replaced.message;
            if let Some((_, kept)) = &mut self.sent {
                *kept = (*kept).min(replaced.at);
            }
        }
        Ok(())
    }
}

fn turn_state(turn: &mut Option<Turn>, state: TurnState) {
    if let Some(turn) = turn {
        turn.state = state;
    }
}

fn count(messages: &[MessageRef]) -> u32 {
    u32::try_from(messages.len()).unwrap_or(u32::MAX)
}
