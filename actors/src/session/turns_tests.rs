//! Tests of sessions with a model: each rule of the conversation as an example.

use ai_factory_schemas::{
    chat::StopReason,
    check::CheckMoment,
    model::{Budget, ModelErrorClass, Reservation, SessionModel, TokenPrices, TokenUsage},
    session::{SessionEnd, SessionEvent, SessionPhase, SessionStatus, WaitReason},
    turn::{ToolOutcome, TurnPurpose},
};

use super::{
    model_script::{
        NEXT, SESSION, Say, Script, changed, checked, heads, message, terms, tool_finished,
    },
    vocabulary::{SessionCommand, SessionEffect, SessionOutcome, SessionRejection, WordsDue},
};
use crate::{
    agent::tool_names::{ASK, FINISH, RUN},
    decider::Decider,
};

const WRITE: (&str, &str) = ("write_file", "{}");

fn names(script: &Script) -> Vec<&'static str> {
    let events = script.stream.iter().cloned();
    events.map(|event| ai_factory_schemas::event::Event::from(event).name()).collect()
}

fn with_limit(tokens_max: u64) -> SessionModel {
    SessionModel { budget: Budget { tokens_max, cost_micros_max: None }, ..terms() }
}

fn failed_with(script: &Script, words: &str) {
    let end = script.concluded();
    assert_eq!((end.end, end.status), (SessionEnd::Failed, SessionStatus::Error), "{end:?}");
    let reason = end.reason.as_deref().unwrap_or_default();
    assert!(reason.contains(words), "{reason}");
}

#[test]
fn a_goal_is_recalled_checked_planned_and_carried_out_until_the_check_passes() {
    let mut script = Script::open(terms(), true);
    script.go(&[Say::Plan, Say::Calls(vec![WRITE]), Say::Finish(SessionStatus::Partial)]);
    assert!(
        script
            .heard
            .contains(&WordsDue::CheckFailed { finish: Some(heads(3, &[(FINISH, "")])[0].id) })
    );
    script.go_until(&[Say::Finish(SessionStatus::Error)], |effect| {
        matches!(effect, SessionEffect::Check { .. })
    });
    let Some(SessionEffect::Check { moment: CheckMoment::After, run_id, .. }) = script.pending()
    else {
        panic!("the check is under way")
    };
    let finished = Box::new(checked(CheckMoment::After, run_id, 0));
    script.settle(SessionOutcome::Checked { finished, next: NEXT });
    let end = script.concluded();
    assert_eq!((end.end, end.status), (SessionEnd::Completed, SessionStatus::Success));
    assert_eq!(end.summary, "the result");
    assert_eq!(
        names(&script),
        [
            "session.opened",
            "session.recalled",
            "session.check_dispatched",
            "session.check_finished",
            "session.turn_dispatched",
            "session.turn_finished",
            "session.planned",
            "session.turn_dispatched",
            "session.turn_finished",
            "session.tool_finished",
            "session.turn_dispatched",
            "session.turn_finished",
            "session.check_dispatched",
            "session.check_finished",
            "session.turn_dispatched",
            "session.turn_finished",
            "session.check_dispatched",
            "session.check_finished",
            "session.concluded",
        ]
    );
    let turns = script.stream.iter().filter_map(|event| match event {
        SessionEvent::CheckFinished(check) => Some(check.turn),
        _ => None,
    });
    assert_eq!(turns.collect::<Vec<_>>(), [None, Some(3), Some(4)]);
    assert!(script.state.steps().is_empty(), "the plan of a model is no code to run");
}

#[test]
fn words_come_before_a_turn_only_if_there_is_something_to_say() {
    let mut script = Script::open(terms(), false);
    script.go(&[]);
    let appended = |script: &Script| match script.stream.last() {
        Some(SessionEvent::TurnDispatched(turn)) => (turn.purpose, turn.appended.len()),
        other => panic!("no turn: {other:?}"),
    };
    assert_eq!(appended(&script), (TurnPurpose::Plan, 1));
    script.go(&[Say::Plan]);
    assert_eq!(appended(&script), (TurnPurpose::Work, 1));
    script.go(&[Say::Calls(vec![WRITE])]);
    assert_eq!(appended(&script), (TurnPurpose::Work, 0), "the results speak for themselves");
}

#[test]
fn the_request_is_that_of_the_event_and_names_what_it_adds_to_the_one_before() {
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Calls(vec![WRITE, ("list_files", "{}")])]);
    let request = script.state.request_of(3, SESSION).unwrap();
    let Some(SessionEvent::TurnDispatched(turn)) = script.stream.last() else { panic!("no turn") };
    assert_eq!(request.request.hash(), turn.request_hash);
    assert_eq!((request.call_id, request.reserved), (turn.call_id, turn.reserved));
    // Words, plan, words; then the answer and two results.
    assert_eq!((request.request.messages.len(), request.kept), (6, 3));
    assert!(request.request.schema.is_none() && request.request.tools.is_some());
    let before = script.stream.iter().rev().filter_map(|event| match event {
        SessionEvent::TurnDispatched(turn) => Some(turn.call_id),
        _ => None,
    });
    assert_eq!(request.predecessor, {
        let mut before = before;
        before.nth(1)
    });
    assert!(script.state.request_of(2, SESSION).is_none(), "that turn is over");
}

#[test]
fn two_malformed_plans_are_replaced_by_the_heuristic_one() {
    let mut script = Script::open(terms(), false);
    script.go(&[Say::NoPlan, Say::Silence]);
    let planned = script.count(|event| matches!(event, SessionEvent::Planned(_)));
    let told = script.stream.iter().filter_map(|event| match event {
        SessionEvent::TurnDispatched(turn) => Some(turn.purpose),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert_eq!(
        (planned, &told[..]),
        (1, &[TurnPurpose::Plan, TurnPurpose::Plan, TurnPurpose::Work][..])
    );
    assert!(script.heard(&WordsDue::PlanFault { fault: "no JSON".into() }));
    assert!(script.heard(&WordsDue::CarryOut { heuristic: true }));
}

#[test]
fn a_tool_call_in_place_of_a_plan_is_answered_and_carried_out_by_nobody() {
    let mut script = Script::open(terms(), false);
    script.go(&[Say::Calls(vec![WRITE]), Say::Calls(vec![WRITE]), Say::Text]);
    assert_eq!(script.count(|event| matches!(event, SessionEvent::ToolFinished(_))), 0);
    let answered = script
        .heard
        .iter()
        .filter(|words| matches!(words, WordsDue::NotExecuted { calls, .. } if calls.len() == 1));
    assert_eq!(answered.count(), 2, "{:?}", script.heard);
    assert_eq!(script.concluded().status, SessionStatus::Success);
}

#[test]
fn sixteen_tool_calls_of_an_answer_are_carried_out_in_order_and_the_rest_are_answered() {
    let calls: Vec<_> =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f", "g", "h"]
            .iter()
            .map(|n| ("list_files", *n))
            .collect();
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Calls(calls)]);
    let done = script.stream.iter().filter_map(|event| match event {
        SessionEvent::ToolFinished(tool) => Some(tool.index),
        _ => None,
    });
    assert_eq!(done.collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    assert!(
        script.heard.iter().any(|words| {
            matches!(words, WordsDue::NotExecuted { calls, .. } if calls.len() == 2)
        })
    );
}

#[test]
fn nothing_of_an_answer_that_was_cut_or_refused_is_carried_out() {
    for stop in [StopReason::Length, StopReason::Refusal] {
        let mut script = Script::at_work(terms(), false);
        let cut = Say::Cut(stop, vec![WRITE, (RUN, "{}")]);
        script.go(&[cut.clone()]);
        let done = |event: &SessionEvent| {
            matches!(event, SessionEvent::ToolFinished(_) | SessionEvent::ToolDispatched(_))
        };
        assert_eq!(script.count(done), 0);
        assert!(script.heard.iter().any(|words| {
            matches!(words, WordsDue::NotExecuted { calls, .. } if calls.len() == 2)
        }));
        script.go(&[cut.clone(), cut]);
        failed_with(&script, "3 answers in a row");
    }
}

#[test]
fn finish_beside_other_calls_is_an_invalid_call_and_no_end() {
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Calls(vec![WRITE, (FINISH, "{}")])]);
    let outcomes = script.stream.iter().filter_map(|event| match event {
        SessionEvent::ToolFinished(tool) => Some(tool.outcome),
        _ => None,
    });
    assert_eq!(outcomes.collect::<Vec<_>>(), [ToolOutcome::Done, ToolOutcome::Invalid]);
    assert!(script.state.concluded().is_none());
}

#[test]
fn without_a_check_the_end_is_as_declared_but_no_success_after_a_failed_run() {
    for status in [SessionStatus::Success, SessionStatus::Partial, SessionStatus::Error] {
        let mut script = Script::at_work(terms(), false);
        script.go(&[Say::Finish(status)]);
        assert_eq!(script.concluded().status, status);
    }
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Calls(vec![(RUN, "{}")]), Say::Text]);
    assert!(script.heard(&WordsDue::NotDone { finish: None }));
    script.go(&[Say::Text]);
    let end = script.concluded();
    assert_eq!((end.end, end.status), (SessionEnd::Completed, SessionStatus::Partial));
    assert!(end.reason.as_ref().unwrap().contains("the last run"));
}

#[test]
fn a_run_is_dispatched_before_it_is_performed_and_after_a_crash_as_the_next_attempt() {
    let mut script = Script::at_work(terms(), false);
    script.go_until_tool(&[Say::Calls(vec![WRITE, (RUN, "{}")])]);
    let Some(SessionEffect::Tool { index: 1, run: Some((run_id, 1)), .. }) = script.pending()
    else {
        panic!("{:?}", script.pending())
    };
    assert_eq!(script.state.open_runs().collect::<Vec<_>>(), [run_id]);
    script.resume();
    let again = SessionEffect::Tool { turn: 2, index: 1, run: Some((run_id, 2)) };
    assert_eq!(script.pending(), Some(again.clone()));
    script.perform(&again, None);
    assert!(matches!(script.pending(), Some(SessionEffect::Call { turn: 3, .. })));
}

#[test]
fn a_call_is_asked_for_again_after_a_crash_with_the_same_attempt() {
    let mut script = Script::at_work(terms(), false);
    let call = script.pending();
    script.resume();
    assert_eq!(script.pending(), call);
    assert!(matches!(script.stream.last(), Some(SessionEvent::Resumed(_))));
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
    failed_with(&script, "3 attempts");
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Fail(ModelErrorClass::Credentials)]);
    failed_with(&script, "do this");
}

#[test]
fn a_call_that_does_not_fit_the_budget_waits_for_a_larger_one() {
    let mut script = Script::open(with_limit(1_000), false);
    script.go(&[]);
    assert_eq!(script.state.phase(), SessionPhase::Waiting(WaitReason::Budget));
    let told = script.state.waits_for(SESSION).unwrap();
    let needs: u64 =
        told.split("--add-tokens ").nth(1).unwrap().trim_end_matches('`').parse().unwrap();
    assert!(told.contains(&format!("ai-factory budget {SESSION} --add-tokens")), "{told}");
    assert!(script.state.decide(SessionCommand::Cancel).is_ok());
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
    failed_with(&script, "overrun");
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
fn a_question_waits_for_its_answer_and_stays_open_over_a_crash() {
    let mut script = Script::at_work(terms(), false);
    script.go(&[Say::Calls(vec![(ASK, "{}"), WRITE])]);
    assert_eq!(script.state.phase(), SessionPhase::Waiting(WaitReason::Question));
    let open = script.state.open_question().unwrap();
    assert_eq!(open.question_id, heads(2, &[(ASK, "{}")])[0].id);
    assert!(script.state.waits_for(SESSION).unwrap().contains("ai-factory answer"));
    script.resume();
    assert_eq!(script.state.open_question(), Some(open));
    script.answer();
    assert!(script.state.open_question().is_none());
    assert!(matches!(script.pending(), Some(SessionEffect::Tool { index: 1, .. })), "in order");
    let again = script.state.decide(SessionCommand::Answer {
        answered: Box::new(ai_factory_schemas::turn::QuestionAnswered {
            question_id: heads(2, &[(ASK, "{}")])[0].id,
            answer: None,
            by: None,
        }),
        result: Box::new(tool_finished((2, 0), ToolOutcome::Done, None)),
        next: NEXT,
    });
    assert_eq!(again, Err(SessionRejection::NothingAsked));
}

#[test]
fn a_session_that_is_given_up_leaves_no_reservation_uncounted() {
    for command in [SessionCommand::Cancel, SessionCommand::Expire] {
        let mut script = Script::at_work(terms(), true);
        let before = script.state.model_use().unwrap().budget;
        script.decide(command);
        let after = script.state.model_use().unwrap().budget;
        assert_eq!(after.tokens_spent, before.tokens_spent + before.tokens_reserved);
        assert_eq!(after.tokens_reserved, 0);
        let names = names(&script);
        assert_eq!(names[names.len() - 2..], ["session.turn_failed", "session.concluded"]);
        assert_eq!(script.concluded().status, SessionStatus::Error);
    }
}

#[test]
fn turns_are_limited_and_the_reason_tells_what_was_tried() {
    let mut few = terms();
    few.limits.turns_max = 3;
    let mut script = Script::at_work(few, true);
    script.go(&[Say::Calls(vec![WRITE]), Say::Finish(SessionStatus::Success)]);
    failed_with(&script, "all 3 turns are used up");
    failed_with(&script, "3 turns with 1 tool calls; the check");
}

#[test]
fn the_same_finish_before_a_check_that_fails_is_a_circle() {
    let mut script = Script::at_work(terms(), true);
    let finish = || Say::Finish(SessionStatus::Success);
    script.go(&[finish(), finish(), finish()]);
    failed_with(&script, "`finish` failed 3 times");
}

#[test]
fn the_same_failing_call_three_times_ends_the_session() {
    let mut script = Script::at_work(terms(), false);
    let fails = || Say::Calls(vec![("fail", "{}")]);
    script.go(&[fails(), Say::Calls(vec![("list_files", "{}")]), fails()]);
    assert!(script.state.concluded().is_none());
    script.go(&[fails()]);
    failed_with(&script, "stuck");
}

#[test]
fn a_check_that_cannot_be_run_ends_the_session_with_nothing_spent() {
    let mut script = Script::open(terms(), true);
    let recall = script.pending().unwrap();
    script.perform(&recall, None);
    let Some(SessionEffect::Check { moment: CheckMoment::Before, run_id, .. }) = script.pending()
    else {
        panic!("no check")
    };
    let finished = Box::new(checked(CheckMoment::Before, run_id, 127));
    script.settle(SessionOutcome::Checked { finished, next: NEXT });
    failed_with(&script, "the check cannot be run");
    assert_eq!(script.state.model_use().unwrap().attempts, 0);
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
    failed_with(&script, "context full");
    failed_with(&script, "`model_context_tokens`");
}

#[test]
fn changes_of_tools_are_changes_of_the_workspace() {
    let mut script = Script::at_work(terms(), false);
    script.go_until(&[Say::Calls(vec![WRITE])], |effect| {
        matches!(effect, SessionEffect::Tool { .. })
    });
    let mut finished = tool_finished((2, 0), ToolOutcome::Done, None);
    finished.workspace = changed();
    script.settle(SessionOutcome::ToolEnded { finished: Box::new(finished), next: NEXT });
    assert_eq!(script.state.workspace().unwrap().changes.len(), 1);
}

#[test]
fn an_outcome_that_came_too_late_changes_nothing() {
    let mut script = Script::at_work(terms(), false);
    let call = script.pending().unwrap();
    let answer = script.outcome(&call, Some(Say::Text));
    script.settle(answer.clone());
    assert!(script.state.settle(answer).is_empty());
    let mut script = Script::at_work(terms(), false);
    let late = SessionOutcome::Prepared { turn: 1, messages: vec![message("w", 1)], next: NEXT };
    assert!(script.state.settle(late).is_empty());
    script.decide(SessionCommand::Cancel);
    assert!(script.pending().is_none());
}
