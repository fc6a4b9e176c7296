//! Tests of sessions with a model: how the work goes, step by step.

use ai_factory_schemas::{
    chat::StopReason,
    check::CheckMoment,
    session::{SessionEnd, SessionEvent, SessionPhase, SessionStatus, WaitReason},
    turn::{QuestionAnswered, ToolOutcome, TurnPurpose},
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
        script.names(),
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
    assert!(script.heard.iter().any(|words| {
        matches!(words, WordsDue::LeftOut { carried_out: 16, calls } if calls.len() == 2)
    }));
    let nothing = |words: &WordsDue| matches!(words, WordsDue::NotExecuted { .. });
    assert!(!script.heard.iter().any(nothing), "sixteen of them were carried out");
}

#[test]
fn nothing_of_an_answer_that_was_cut_or_refused_is_carried_out() {
    for stop in [StopReason::Length, StopReason::Refusal] {
        let mut script = Script::at_work(terms(), false);
        let cut = Say::Cut(stop, vec![WRITE, (RUN, "{}")]);
        script.go(std::slice::from_ref(&cut));
        let done = |event: &SessionEvent| {
            matches!(event, SessionEvent::ToolFinished(_) | SessionEvent::ToolDispatched(_))
        };
        assert_eq!(script.count(done), 0);
        assert!(script.heard.iter().any(|words| {
            matches!(words, WordsDue::NotExecuted { calls, .. } if calls.len() == 2)
        }));
        script.go(&[cut.clone(), cut]);
        script.failed_with("3 answers in a row");
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
        answered: Box::new(QuestionAnswered {
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
    script.failed_with("the check cannot be run");
    assert_eq!(script.state.model_use().unwrap().attempts, 0);
}

#[test]
fn changes_of_tools_are_changes_of_the_workspace() {
    let mut script = Script::at_work(terms(), false);
    script.go_until(&[Say::Calls(vec![WRITE])], |effect| {
        matches!(effect, SessionEffect::Tool { .. })
    });
    let mut finished = tool_finished((2, 0), ToolOutcome::Done, None);
    finished.workspace = Some(changed());
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
    script.decide(SessionCommand::Cancel { may_be_sent: true });
    assert!(script.pending().is_none());
}
