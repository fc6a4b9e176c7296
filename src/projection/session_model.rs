//! What the row of a session with a model tells of it: what is spent, and whether it waits.
//!
//! *Limits.* No event says that a session waits for a larger budget: it does while what its next
//! call needs at least does not fit. What the factory itself adds to the conversation before that
//! call is not known here, so that a session which barely lacks room is still shown as running; its
//! own page tells it exactly.

use ai_factory_schemas::{
    answer::BudgetUse,
    check::{CheckFinished, CheckMoment},
    id::ToolCallId,
    limit::{MESSAGE_TOKENS_MAX, TOOL_CALLS_MAX},
    model::{Budget, Charge, ModelErrorClass, Reservation, SessionModel, TokenPrices},
    run::RunStatus,
    session::{SessionEvent, SessionPhase, WaitReason},
    turn::{TurnDispatched, TurnFailed, TurnFinished},
};
use serde::{Deserialize, Serialize};

/// The state of a session's model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ModelState {
    budget: BudgetUse,
    prices: Option<TokenPrices>,
    /// Tokens that each answer may have.
    output_tokens_max: u64,
    /// The input of the last answered call, in tokens.
    settled_input: u64,
    /// The tokens that the messages since then have at most.
    appended: u64,
    /// Tool calls of the last answer without a result.
    tools_open: usize,
    /// The question that waits for an answer.
    question: Option<ToolCallId>,
    /// What its next call needs at least, while none is under way and none has to wait for a tool.
    needs: Option<Reservation>,
    /// Whether the day's budget had no room for its last attempt.
    is_day_spent: bool,
}

impl ModelState {
    /// The state at its opening.
    pub(super) fn opened(terms: &SessionModel) -> Self {
        let mut state = Self {
            budget: BudgetUse::default(),
            prices: terms.prices,
            output_tokens_max: terms.parameters.output_tokens_max,
            settled_input: 0,
            appended: 0,
            tools_open: 0,
            question: None,
            needs: None,
            is_day_spent: false,
        };
        if terms.prices.is_some() {
            state.budget.cost_micros_spent = Some(0);
            state.budget.cost_micros_reserved = Some(0);
        }
        state.limit(&terms.budget);
        state.is_next();
        state
    }

    /// Applies an event; returns whether it changed the state.
    pub(super) fn apply(&mut self, event: &SessionEvent) -> bool {
        match event {
            SessionEvent::TurnDispatched(turn) => self.dispatched(turn),
            SessionEvent::TurnFinished(turn) => self.finished(turn),
            SessionEvent::TurnFailed(turn) => self.failed(turn),
            SessionEvent::ToolFinished(tool) => {
                self.appended(tool.result.bytes);
                self.tools_open = self.tools_open.saturating_sub(1);
                if self.tools_open == 0 {
                    self.is_next();
                }
            }
            SessionEvent::QuestionAsked(asked) => self.question = Some(asked.question_id),
            SessionEvent::QuestionAnswered(_) => self.question = None,
            SessionEvent::BudgetChanged(changed) => {
                self.limit(&changed.budget);
                self.is_day_spent = false;
            }
            SessionEvent::Resumed(_) => self.is_day_spent = false,
            // What is left of the conversation is not known here.
            SessionEvent::Compacted(_) => self.needs = None,
            SessionEvent::CheckFinished(check) if is_refused(check) => self.is_next(),
            _ => return false,
        }
        true
    }

    /// The budget, for the row.
    pub(super) fn budget(&self) -> BudgetUse {
        self.budget
    }

    /// The phase, as long as the session is open.
    pub(super) fn phase(&self) -> SessionPhase {
        if self.question.is_some() {
            SessionPhase::Waiting(WaitReason::Question)
        } else if self.is_day_spent || self.needs.is_some_and(|needs| !self.has_room(&needs)) {
            SessionPhase::Waiting(WaitReason::Budget)
        } else {
            SessionPhase::Running
        }
    }

    fn limit(&mut self, budget: &Budget) {
        self.budget.tokens_max = budget.tokens_max;
        self.budget.cost_micros_max = budget.cost_micros_max;
    }

    fn dispatched(&mut self, turn: &TurnDispatched) {
        (self.needs, self.is_day_spent) = (None, false);
        self.budget.tokens_reserved = turn.reserved.tokens();
        if self.prices.is_some() {
            self.budget.cost_micros_reserved = turn.reserved.cost_micros.or(Some(0));
        }
    }

    fn finished(&mut self, turn: &TurnFinished) {
        self.settle(&turn.charged);
        self.settled_input = turn.usage.map_or(self.settled_input, |usage| usage.input_total());
        self.appended = 0;
        self.appended(turn.message.bytes);
        let carried_out = turn.tool_calls.len().min(TOOL_CALLS_MAX);
        self.tools_open = if turn.finish.is_some() { 0 } else { carried_out };
    }

    fn failed(&mut self, turn: &TurnFailed) {
        // The next attempt sends the same request.
        let reserved = Reservation {
            input_tokens: self.budget.tokens_reserved.saturating_sub(self.output_tokens_max),
            output_tokens: self.output_tokens_max.min(self.budget.tokens_reserved),
            cost_micros: self.budget.cost_micros_reserved,
        };
        self.settle(&turn.charged);
        self.is_day_spent = turn.class == ModelErrorClass::DayBudget;
        self.needs = turn.class.is_retried().then_some(reserved);
    }

    fn settle(&mut self, charged: &Charge) {
        let budget = &mut self.budget;
        budget.tokens_reserved = 0;
        budget.tokens_spent = budget.tokens_spent.saturating_add(charged.tokens);
        if self.prices.is_some() {
            budget.cost_micros_reserved = Some(0);
            let spent = budget.cost_micros_spent.unwrap_or(0);
            let charged = charged.cost_micros.unwrap_or(0);
            budget.cost_micros_spent = Some(spent.saturating_add(charged));
        }
    }

    fn appended(&mut self, bytes: u64) {
        self.appended = self.appended.saturating_add(bytes).saturating_add(MESSAGE_TOKENS_MAX);
    }

    /// The next call is due: what it needs at least.
    fn is_next(&mut self) {
        let input = self.settled_input.saturating_add(self.appended);
        let output = self.output_tokens_max;
        self.needs = Some(Reservation {
            input_tokens: input,
            output_tokens: output,
            cost_micros: self.prices.map(|prices| prices.cost_micros_max(input, output)),
        });
    }

    fn has_room(&self, needs: &Reservation) -> bool {
        let fits = |spent: u64, needed: u64, most: u64| spent.saturating_add(needed) <= most;
        let budget = &self.budget;
        let cost = budget.cost_micros_max.is_none_or(|most| {
            fits(budget.cost_micros_spent.unwrap_or(0), needs.cost_micros.unwrap_or(0), most)
        });
        cost && fits(budget.tokens_spent, needs.tokens(), budget.tokens_max)
    }
}

/// Whether a check at the end says that the goal is not done: the model goes on.
fn is_refused(check: &CheckFinished) -> bool {
    check.moment == CheckMoment::After && check.status != RunStatus::Success
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        call::ToolCallHead,
        chat::{MessageRef, StopReason},
        id::CallId,
        model::{
            ModelEndpoint, ModelParameters, ModelProtocol, TokenUsage, ToolProtocol, TurnLimits,
        },
        text::BlobHash,
        time::Timestamp,
        turn::{
            BudgetChanged, QuestionAnswered, QuestionAsked, ToolFinished, ToolOutcome, TurnPurpose,
        },
    };
    use uuid::Uuid;

    use super::*;

    fn blob() -> BlobHash {
        BlobHash::of(b"x")
    }

    fn opened(tokens_max: u64) -> ModelState {
        ModelState::opened(&SessionModel {
            endpoint: ModelEndpoint {
                model: "ollama/x".to_owned(),
                url: "http://127.0.0.1:1".to_owned(),
                protocol: ModelProtocol::ChatCompletions,
                tools: ToolProtocol::Native,
            },
            parameters: ModelParameters {
                temperature_milli: None,
                seed: None,
                output_tokens_max: 100,
                context_tokens: 1_000,
            },
            prices: None,
            budget: Budget { tokens_max, cost_micros_max: None },
            limits: TurnLimits {
                turns_max: 9,
                retries_max: 1,
                tool_wall_ms_max: 1,
                ask_ms_max: 1,
                session_ms_max: 1,
            },
            prompts: blob(),
            tools: blob(),
            may_ask: true,
            plan_schema: BlobHash::of(b"schema"),
            plan_schema_bytes: 10,
            prompts_bytes: 10,
            tools_bytes: 10,
        })
    }

    fn dispatched(input_tokens: u64) -> SessionEvent {
        TurnDispatched {
            turn: 1,
            call_id: CallId(Uuid::nil()),
            attempt: 1,
            purpose: TurnPurpose::Work,
            request_hash: blob(),
            appended: Vec::new(),
            reserved: Reservation { input_tokens, output_tokens: 100, cost_micros: None },
        }
        .into()
    }

    fn finished(tools: usize, input: u64, output: u64) -> SessionEvent {
        let head = ToolCallHead {
            id: ToolCallId(Uuid::nil()),
            name: "run".to_owned(),
            fingerprint: blob(),
        };
        let usage = TokenUsage { input, output, ..TokenUsage::default() };
        TurnFinished {
            turn: 1,
            call_id: CallId(Uuid::nil()),
            attempt: 1,
            message: MessageRef { hash: blob(), bytes: 20 },
            stop: StopReason::ToolCalls,
            tool_calls: vec![head; tools],
            usage: Some(usage),
            charged: Charge { tokens: usage.total(), ..Charge::default() },
            finish: None,
            fault: None,
        }
        .into()
    }

    fn failed(class: ModelErrorClass, charged: u64) -> SessionEvent {
        TurnFailed {
            turn: 1,
            call_id: CallId(Uuid::nil()),
            attempt: 1,
            class,
            reason: "no".to_owned(),
            retry_after_ms: None,
            charged: Charge { tokens: charged, ..Charge::default() },
        }
        .into()
    }

    fn tool() -> SessionEvent {
        ToolFinished {
            turn: 1,
            index: 0,
            outcome: ToolOutcome::Done,
            result: MessageRef { hash: blob(), bytes: 50 },
            complete: None,
            run_id: None,
            failure: None,
            workspace: None,
        }
        .into()
    }

    const BUDGET: SessionPhase = SessionPhase::Waiting(WaitReason::Budget);

    #[test]
    fn a_call_moves_its_reservation_to_what_is_spent() {
        let mut state = opened(1_000);
        assert!(state.apply(&dispatched(40)));
        assert_eq!((state.budget.tokens_spent, state.budget.tokens_reserved), (0, 140));
        assert!(state.apply(&finished(1, 30, 7)));
        assert_eq!((state.budget.tokens_spent, state.budget.tokens_reserved), (37, 0));
        assert_eq!(state.phase(), SessionPhase::Running);
    }

    #[test]
    fn it_waits_for_a_budget_once_its_tools_are_done_and_the_next_call_does_not_fit() {
        // The next call needs 30 + 20 + 16 + 50 + 16 of input and 100 of output, beside 37 spent.
        for (tokens_max, expected) in [(268, BUDGET), (269, SessionPhase::Running)] {
            let mut state = opened(tokens_max);
            for event in [dispatched(40), finished(1, 30, 7)] {
                state.apply(&event);
                assert_eq!(state.phase(), SessionPhase::Running, "a tool is under way");
            }
            state.apply(&tool());
            assert_eq!(state.phase(), expected, "{tokens_max}");
            let budget = Budget { tokens_max: 2_000, cost_micros_max: None };
            state.apply(&BudgetChanged { budget, by: None }.into());
            assert_eq!((state.phase(), state.budget.tokens_max), (SessionPhase::Running, 2_000));
        }
        assert_eq!(opened(99).phase(), BUDGET, "no answer fits at all");
    }

    #[test]
    fn an_attempt_that_failed_needs_its_reservation_again() {
        for (tokens_max, expected) in [(279, BUDGET), (280, SessionPhase::Running)] {
            let mut state = opened(tokens_max);
            state.apply(&dispatched(40));
            state.apply(&failed(ModelErrorClass::TimedOut, 140));
            assert_eq!(state.phase(), expected, "{tokens_max}");
        }
    }

    #[test]
    fn a_day_that_is_spent_is_waited_for_until_the_next_attempt() {
        let mut state = opened(1_000);
        state.apply(&dispatched(40));
        state.apply(&failed(ModelErrorClass::DayBudget, 0));
        assert_eq!((state.phase(), state.budget.tokens_spent), (BUDGET, 0));
        state.apply(&dispatched(40));
        assert_eq!(state.phase(), SessionPhase::Running);
    }

    #[test]
    fn it_waits_with_its_question_until_that_is_answered() {
        let mut state = opened(1_000);
        let question_id = ToolCallId(Uuid::nil());
        state.apply(&dispatched(40));
        state.apply(&finished(1, 30, 7));
        let asked = QuestionAsked {
            turn: 1,
            index: 0,
            question_id,
            question: "Which?".to_owned(),
            expires: Timestamp::default(),
        };
        state.apply(&asked.into());
        assert_eq!(state.phase(), SessionPhase::Waiting(WaitReason::Question));
        state.apply(&QuestionAnswered { question_id, answer: None, by: None }.into());
        assert_eq!(state.phase(), SessionPhase::Running);
    }
}
