//! Tests of sessions with a model: budgets, retries, the window and the other limits.

use ai_factory_schemas::{
    model::{Budget, Charge, ModelErrorClass, Reservation, SessionModel, TokenPrices, TokenUsage},
    session::{SessionEvent, SessionPhase, SessionStatus, WaitReason},
    turn::TurnFailed,
};

use super::{
    model_script::{NEXT, SESSION, Say, Script, terms},
    vocabulary::{SessionCommand, SessionEffect, SessionOutcome, SessionRejection},
};
use crate::{agent::tool_names::RUN, decider::Decider};

const WRITE: (&str, &str) = ("write_file", "{}");

fn with_limit(tokens_max: u64) -> SessionModel {
    SessionModel { budget: Budget { tokens_max, cost_micros_max: None }, ..terms() }
}

#[test]
fn a_failed_attempt_is_repeated_after_a_wait_and_only_so_often() {
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Fail(ModelErrorClass::Overloaded)]);
    let Some(SessionEffect::Call { turn: 2, attempt: 2, delay_ms, .. }) = script.pending() else {
        panic!("{:?}", script.pending())
    };
    assert!((500..=1_000).contains(&delay_ms), "{delay_ms}");
    script.go(&[Say::Fail(ModelErrorClass::TimedOut), Say::Fail(ModelErrorClass::Cut)]);
    script.failed_with("3 attempts");
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Fail(ModelErrorClass::Credentials)]);
    script.failed_with("do this");
}

#[test]
fn a_call_that_does_not_fit_the_budget_waits_for_a_larger_one() {
    let mut script = Script::open(with_limit(1_000), false);
    script.go(&[]);
    assert_eq!(script.state.phase(), SessionPhase::Waiting(WaitReason::Budget));
    let told = script.state.waits_for(SESSION).unwrap();
    let number = |behind: &str| -> u64 {
        let rest = told.split(behind).nth(1).unwrap();
        rest.split([' ', '`']).next().unwrap().parse().unwrap()
    };
    let (needs, advised) = (number("needs "), number("--add-tokens "));
    assert!(told.contains(&format!("ai-factory budget {SESSION} --add-tokens")), "{told}");
    assert!(script.state.decide(SessionCommand::Cancel { may_be_sent: true }).is_ok());
    // A waiting session has nothing to resume.
    let before = script.stream.len();
    script.resume();
    assert_eq!(script.stream.len(), before);
    for (add, fits) in [(needs - 1, false), (needs, true)] {
        let mut script = script.clone();
        let budget = Budget { tokens_max: 1_000 + add, cost_micros_max: None };
        script.decide(SessionCommand::ChangeBudget { budget, by: None, next: NEXT });
        assert_eq!(script.state.phase() == SessionPhase::Running, fits);
        script.go(&[]);
        assert_eq!(matches!(script.pending(), Some(SessionEffect::Call { .. })), fits);
    }
    // What is advised is enough for the plan and for the first turn of the work.
    let budget = Budget { tokens_max: 1_000 + advised, cost_micros_max: None };
    script.decide(SessionCommand::ChangeBudget { budget, by: None, next: NEXT });
    script.go(&[Say::Plan]);
    assert!(matches!(script.pending(), Some(SessionEffect::Call { turn: 2, .. })));
}

#[test]
fn a_retry_after_the_time_of_the_session_ends_it_at_once() {
    let mut script = Script::at_work(terms(), false);
    let Some(SessionEffect::Call { turn, call_id, attempt, .. }) = script.pending() else {
        panic!("{:?}", script.pending())
    };
    let failed = TurnFailed {
        turn,
        call_id,
        attempt,
        class: ModelErrorClass::RateLimited,
        reason: "too many requests".to_owned(),
        retry_after_ms: Some(90_000),
        charged: Charge::nothing(),
    };
    script.settle(SessionOutcome::TooLate { failed, left_ms: 60_000 });
    script.failed_with("in 90 s, and the session has 60 s left");
    assert_eq!(script.state.model_use().unwrap().budget.tokens_reserved, 0);
}

#[test]
fn a_budget_can_be_lowered_to_what_is_spent_and_set_aside_and_no_further() {
    let script = Script::at_work(terms(), false);
    let shown = script.state.model_use().unwrap().budget;
    let taken = shown.tokens_spent + shown.tokens_reserved;
    let change = |tokens_max| SessionCommand::ChangeBudget {
        budget: Budget { tokens_max, cost_micros_max: None },
        by: None,
        next: NEXT,
    };
    assert_eq!(script.state.decide(change(taken - 1)), Err(SessionRejection::BudgetSpent));
    assert!(script.state.decide(change(taken)).is_ok());
}

#[test]
fn costs_are_reserved_at_the_dearest_price_and_can_be_what_is_lacking() {
    let prices =
        TokenPrices { input: 1_000_000, cache_read: None, cache_write: None, output: 2_000_000 };
    let budget = Budget { tokens_max: 1_000_000, cost_micros_max: Some(10) };
    let mut script = Script::open(SessionModel { prices: Some(prices), budget, ..terms() }, false);
    script.go(&[]);
    let told = script.state.waits_for(SESSION).unwrap();
    assert!(told.contains("--add-cost") && !told.contains("--add-tokens"), "{told}");
    assert_eq!(script.state.model_use().unwrap().budget.cost_micros_spent, Some(0));
}

#[test]
fn reservations_count_settled_tokens_and_bytes_since() {
    let mut script = Script::open(terms(), false);
    script.go(&[]);
    let reserved =
        |script: &Script| script.state.conversation().unwrap().spend().reserved().unwrap();
    let of = |input_tokens| Reservation { input_tokens, output_tokens: 100, cost_micros: None };
    // One message of 40 bytes, and the schema.
    assert_eq!(reserved(&script), of(40 + 16 + 50));
    script.usage = Some(TokenUsage { input: 20, output: 5, ..TokenUsage::default() });
    script.go(&[Say::Plan]);
    // What was counted; the answer of 60 bytes and the words of 40; the tools, which are new.
    assert_eq!(reserved(&script), of(20 + (60 + 16) + (40 + 16) + 300));
    script.usage = None;
    script.go(&[Say::Calls(vec![WRITE])]);
    assert_eq!(reserved(&script), of(20 + 2 * (60 + 16) + (40 + 16) + (80 + 16) + 300));
    let taken = script.state.model_use().unwrap();
    assert_eq!((taken.usage.total(), taken.attempts, taken.turns), (25, 3, 3));
}

#[test]
fn an_overrun_ends_the_session_and_no_call_follows() {
    let mut script = Script::at_work(terms(), false);
    script.usage = Some(TokenUsage { input: 1_000_000, output: 1, ..TokenUsage::default() });
    script.go(&[Say::Calls(vec![WRITE])]);
    script.failed_with("overrun");
    assert_eq!(script.count(|event| matches!(event, SessionEvent::ToolFinished(_))), 0);
}

#[test]
fn the_days_budget_is_waited_for_and_does_not_count_as_a_failure() {
    let mut script = Script::at_work(terms(), false);
    for attempt in 2..6 {
        script.go(&[Say::Fail(ModelErrorClass::DayBudget)]);
        assert!(script.state.is_waiting_for_day());
        assert_eq!(script.state.phase(), SessionPhase::Waiting(WaitReason::Budget));
        assert!(script.state.waits_for(SESSION).unwrap().contains("midnight"));
        if attempt % 2 == 0 {
            script.decide(SessionCommand::RetryTurn { next: NEXT });
        } else {
            script.resume();
        }
        let Some(SessionEffect::Call { attempt: asked, delay_ms: 0, .. }) = script.pending() else {
            panic!("{:?}", script.pending())
        };
        assert_eq!(asked, attempt);
    }
    assert_eq!(script.state.model_use().unwrap().attempts, 2, "refused ones were not made");
}

#[test]
fn a_session_that_is_given_up_leaves_no_reservation_uncounted() {
    let may_be_sent = true;
    for command in [SessionCommand::Cancel { may_be_sent }, SessionCommand::Expire { may_be_sent }]
    {
        let mut script = Script::at_work(terms(), true);
        let before = script.state.model_use().unwrap().budget;
        script.decide(command);
        let after = script.state.model_use().unwrap().budget;
        assert_eq!(after.tokens_spent, before.tokens_spent + before.tokens_reserved);
        assert_eq!(after.tokens_reserved, 0);
        let names = script.names();
        assert_eq!(names[names.len() - 2..], ["session.turn_failed", "session.concluded"]);
        assert_eq!(script.concluded().status, SessionStatus::Error);
    }
}

#[test]
fn an_attempt_that_never_left_is_charged_nothing_when_the_session_is_given_up() {
    let may_be_sent = false;
    for command in [SessionCommand::Cancel { may_be_sent }, SessionCommand::Expire { may_be_sent }]
    {
        let mut script = Script::at_work(terms(), false);
        script.go(&[Say::Fail(ModelErrorClass::Overloaded)]);
        assert!(
            matches!(script.pending(), Some(SessionEffect::Call { attempt: 2, delay_ms, .. }) if delay_ms > 0)
        );
        let before = script.state.model_use().unwrap().budget;
        script.decide(command);
        let after = script.state.model_use().unwrap().budget;
        assert!(before.tokens_reserved > 0);
        assert_eq!((after.tokens_spent, after.tokens_reserved), (before.tokens_spent, 0));
    }
}

#[test]
fn turns_are_limited_and_the_reason_tells_what_was_tried() {
    let mut few = terms();
    few.limits.turns_max = 3;
    let mut script = Script::at_work(few, true);
    script.go(&[Say::Calls(vec![WRITE]), Say::Finish(SessionStatus::Success)]);
    script.failed_with("all 3 turns are used up");
    script.failed_with("3 turns with 1 tool call; the check");
}

#[test]
fn the_same_finish_before_a_check_that_fails_is_a_circle() {
    let mut script = Script::at_work(terms(), true);
    let finish = || Say::Finish(SessionStatus::Success);
    script.go(&[finish(), finish(), finish()]);
    script.failed_with("`finish` failed 3 times");
}

#[test]
fn the_same_failing_call_three_times_ends_the_session() {
    let mut script = Script::at_work(terms(), false);
    let fails = || Say::Calls(vec![("fail", "{}")]);
    script.go(&[fails(), Say::Calls(vec![("list_files", "{}")]), fails()]);
    assert!(script.state.concluded().is_none());
    script.go(&[fails()]);
    script.failed_with("stuck");
}

#[test]
fn results_are_shortened_oldest_first_at_the_border_of_the_window_and_failures_stay() {
    let mut small = terms();
    small.parameters.context_tokens = 10_000;
    let mut script = Script::at_work(small, false);
    script.result_bytes = 2_000;
    script.usage = None;
    let list = |n| Say::Calls(vec![("list_files", n)]);
    script.go(&[list("0"), Say::Calls(vec![(RUN, "{}")]), list("2")]);
    assert_eq!(script.count(|event| matches!(event, SessionEvent::Compacted(_))), 0);
    script.go(&[list("3")]);
    let replaced = script.stream.iter().find_map(|event| match event {
        SessionEvent::Compacted(compacted) => {
            Some(compacted.replaced.iter().map(|one| one.at).collect::<Vec<_>>())
        }
        _ => None,
    });
    // Words, plan, words, then answers and results: the failed run, at 6, stays, and so does what
    // the model has not seen.
    assert_eq!(replaced, Some(vec![4, 8]));
    let Some(SessionEvent::TurnDispatched(_)) = script.stream.last() else { panic!("no turn") };
    let request = script.state.request_of(6, SESSION).unwrap();
    assert_eq!(request.kept, 4, "the provider's cache holds what is before the first of them");
}

#[test]
fn a_conversation_that_cannot_fit_the_window_ends_with_the_remedy() {
    let mut small = terms();
    small.parameters.context_tokens = 500;
    small.plan_schema_bytes = 4_000;
    let mut script = Script::open(small, false);
    script.go(&[]);
    script.failed_with("context full");
    script.failed_with("`model_context_tokens`");
}

#[test]
fn the_budget_is_enough_to_the_token() {
    let ask = |tokens_max: Option<u64>| {
        let mut script = Script::at_work(terms(), false);
        if let Some(tokens_max) = tokens_max {
            let budget = Budget { tokens_max, cost_micros_max: None };
            script.decide(SessionCommand::ChangeBudget { budget, by: None, next: NEXT });
        }
        script.go(&[Say::Calls(vec![WRITE])]);
        script
    };
    let shown = ask(None).state.model_use().unwrap().budget;
    let enough = shown.tokens_spent + shown.tokens_reserved;
    assert_eq!(ask(Some(enough)).state.phase(), SessionPhase::Running);
    let short = ask(Some(enough - 1)).state;
    assert_eq!(short.phase(), SessionPhase::Waiting(WaitReason::Budget));
    let told = short.waits_for(SESSION).unwrap();
    assert!(told.contains("needs 1 tokens more"), "{told}");
    assert_eq!(short.model_use().unwrap().budget.tokens_reserved, 0, "nothing was set aside");
}
