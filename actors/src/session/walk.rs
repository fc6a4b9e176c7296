//! Test of all short sequences of commands and outcomes: a walk finds cases that examples miss.

use std::collections::HashSet;

use ai_factory_schemas::{
    check::{Check, CheckFinished, CheckMoment},
    event::Event,
    id::{RunId, SessionId},
    plan::{Code, Plan, Step, TaskType},
    run::{EndedBy, RunStatus},
    session::{
        Resolution, SessionConcluded, SessionEnd, SessionEvent, SessionOpened, SessionStatus,
        StepFinished,
    },
    text::{BlobHash, Text},
    workspace::{ChangeList, FileChange, WorkspaceEnd, WorkspaceRef},
};
use uuid::Uuid;

use super::{
    replay::replay,
    state::Session,
    vocabulary::{NextIds, SessionCommand, SessionEffect, SessionOutcome},
};
use crate::decider::Decider;

const DEPTH: usize = 7;

fn plan() -> Plan {
    let code = || Some(Code { language: "python".into(), source: "print(1)".into() });
    let step = |index, code| Step { index, action: "a".into(), rationale: "r".into(), code };
    Plan {
        task_type: TaskType::General,
        steps: vec![step(0, code()), step(1, None), step(2, code())],
        estimated_tokens: 32,
        model_name: "m".into(),
        notes: String::new(),
    }
}

/// One input of the walk; it depends on the state only through the run under way.
#[derive(Clone, Copy, Debug)]
enum Input {
    Open,
    OpenWithCheck,
    CheckPasses,
    CheckFails,
    CheckIsUnable,
    NotChecked,
    Resume,
    ResumeAsking,
    Cancel,
    Expire,
    ExpireStep,
    Repeat,
    Skip,
    Proposed,
    NotProposed,
    Recalled,
    RanWell,
    RanBadly,
    NotRun,
}

const INPUTS: [Input; 19] = [
    Input::Open,
    Input::OpenWithCheck,
    Input::CheckPasses,
    Input::CheckFails,
    Input::CheckIsUnable,
    Input::NotChecked,
    Input::Resume,
    Input::ResumeAsking,
    Input::Cancel,
    Input::Expire,
    Input::ExpireStep,
    Input::Repeat,
    Input::Skip,
    Input::Proposed,
    Input::NotProposed,
    Input::Recalled,
    Input::RanWell,
    Input::RanBadly,
    Input::NotRun,
];

fn run_of(state: &Session) -> (u32, RunId) {
    state
        .pending()
        .into_iter()
        .find_map(|effect| match effect {
            SessionEffect::Run { step, run_id, .. } => Some((step, run_id)),
            _ => None,
        })
        .unwrap_or((0, RunId(Uuid::nil())))
}

/// The check under way: its moment and run.
fn check_of(state: &Session) -> (CheckMoment, RunId) {
    let effects = state.pending().into_iter();
    let mut checks = effects.filter_map(|effect| match effect {
        SessionEffect::Check { moment, run_id, .. } => Some((moment, run_id)),
        _ => None,
    });
    checks.next().unwrap_or((CheckMoment::Before, RunId(Uuid::nil())))
}

fn opened(with_check: bool) -> SessionOpened {
    let workspace = WorkspaceRef { blob: BlobHash::of(b"{}"), files: 0, bytes: 0 };
    SessionOpened {
        request_id: Uuid::nil().into(),
        goal: "g".into(),
        task_type: TaskType::General,
        submitted_by: None,
        workspace: with_check.then_some(workspace),
        check: with_check.then(|| Check { language: "bash".into(), code: "true".into() }),
        protect: Vec::new(),
        model: None,
    }
}

fn apply(state: &Session, input: Input, depth: usize) -> Option<Vec<SessionEvent>> {
    let run = RunId(Uuid::from_u128(depth as u128 + 1));
    let next = NextIds { session: SessionId(Uuid::nil()), run };
    let (step, run_id) = run_of(state);
    let checked = |exit_code| {
        let (moment, run_id) = check_of(state);
        let status = if exit_code == 0 { RunStatus::Success } else { RunStatus::Error };
        let finished = CheckFinished {
            moment,
            run_id,
            status,
            exit_code,
            ended_by: EndedBy::Exit,
            stdout: Text::from("checked"),
            stderr: Text::default(),
            duration_ms: 1,
            restored: None,
            changed_tests: Vec::new(),
            diagnosis: None,
            turn: None,
        };
        Some(state.settle(SessionOutcome::Checked { finished: Box::new(finished), next }))
    };
    let ran = |status| {
        let finished = StepFinished {
            step,
            run_id,
            status,
            exit_code: 0,
            ended_by: EndedBy::Exit,
            stdout: Text::from("out"),
            stderr: Text::default(),
            duration_ms: 1,
            workspace: None,
        };
        Some(state.settle(SessionOutcome::Ran { finished, next }))
    };
    let decide = |command| state.decide(command).ok();
    match input {
        Input::Open => decide(SessionCommand::Open(Box::new(opened(false)))),
        Input::OpenWithCheck => decide(SessionCommand::Open(Box::new(opened(true)))),
        Input::Resume | Input::ResumeAsking => decide(SessionCommand::Resume {
            repeatable: matches!(input, Input::Resume),
            after_crash: true,
            resumes_max: 2,
            next,
        }),
        Input::Cancel => decide(SessionCommand::Cancel { may_be_sent: true }),
        Input::Expire => decide(SessionCommand::Expire { may_be_sent: true }),
        Input::ExpireStep => decide(SessionCommand::ExpireStep { step, next }),
        Input::Repeat => decide(SessionCommand::Resolve { resolution: Resolution::Repeat, next }),
        Input::Skip => decide(SessionCommand::Resolve { resolution: Resolution::Skip, next }),
        Input::Proposed => Some(state.settle(SessionOutcome::Proposed { plan: plan(), next })),
        Input::NotProposed => {
            Some(state.settle(SessionOutcome::NotProposed { reason: "no".into() }))
        }
        Input::Recalled => Some(state.settle(SessionOutcome::Recalled { items: vec![], next })),
        Input::RanWell => ran(RunStatus::Success),
        Input::RanBadly => ran(RunStatus::Timeout),
        Input::NotRun => {
            Some(state.settle(SessionOutcome::NotRun { step, run_id, reason: "no".into(), next }))
        }
        Input::CheckPasses => checked(0),
        Input::CheckFails => checked(1),
        Input::CheckIsUnable => checked(127),
        Input::NotChecked => {
            Some(state.settle(SessionOutcome::NotChecked {
                run_id: check_of(state).1,
                reason: "no".into(),
            }))
        }
    }
}

/// The inputs in order, from nothing on: the state and its stream.
fn walk(inputs: &[Input]) -> (Session, Vec<SessionEvent>) {
    let (mut state, mut stream) = (Session::default(), Vec::new());
    for (depth, input) in inputs.iter().enumerate() {
        for event in apply(&state, *input, depth).unwrap() {
            state.evolve(&event).unwrap();
            stream.push(event);
        }
    }
    (state, stream)
}

/// I-1 and I-2 over all input sequences up to [`DEPTH`], duplicates and late outcomes included:
/// every event can be evolved, the state is the fold of the stream, an open session always has
/// pending effects or waits for a decision, and a session that is over has none.
#[test]
fn i_1_and_i_2_hold_on_every_short_walk() {
    let mut seen = HashSet::new();
    let mut frontier = vec![(Session::default(), Vec::<SessionEvent>::new())];
    let mut ends = HashSet::new();
    for depth in 0..DEPTH {
        let mut next = Vec::new();
        for (state, stream) in frontier {
            for input in INPUTS {
                let Some(events) = apply(&state, input, depth) else { continue };
                let mut after = state.clone();
                for event in &events {
                    after.evolve(event).unwrap_or_else(|illegal| {
                        panic!("I-1: {input:?} on {state:?} decided {event:?}: {illegal}")
                    });
                }
                let stream: Vec<_> = stream.iter().cloned().chain(events).collect();
                assert_eq!(Session::fold(&stream), Ok(after.clone()), "I-2 after {input:?}");
                replay(SessionId(Uuid::nil()), &stream).expect("it is decided again as recorded");
                let owes = !after.pending().is_empty();
                match after.concluded() {
                    Some(end) => {
                        ends.insert((end.end, end.status));
                        assert!(!owes, "a session that is over owes nothing: {after:?}");
                    }
                    None if after.opened().is_some() => assert!(
                        owes || after.phase().is_waiting(),
                        "an open session goes on or waits: {after:?}"
                    ),
                    None => assert!(!owes),
                }
                if seen.insert(format!("{after:?}")) {
                    next.push((after, stream));
                }
            }
        }
        frontier = next;
    }
    assert!(seen.len() > 200, "the walk must get around: {}", seen.len());
    for status in [SessionStatus::Success, SessionStatus::Partial, SessionStatus::Error] {
        assert!(ends.iter().any(|(_, reached)| *reached == status), "never reached {status:?}");
    }
}

#[test]
fn a_step_or_check_dispatched_twice_says_so_with_a_higher_attempt() {
    let attempts = |opening, resume| {
        let (_, stream) = walk(&[opening, Input::Recalled, Input::Proposed, resume]);
        let attempts = stream.iter().filter_map(|event| match event {
            SessionEvent::StepDispatched(step) => Some((step.run_id, step.attempt)),
            SessionEvent::CheckDispatched(check) => Some((check.run_id, check.attempt)),
            _ => None,
        });
        attempts.collect::<Vec<_>>()
    };
    for attempts in [
        attempts(Input::Open, Input::Resume),
        attempts(Input::OpenWithCheck, Input::Resume),
        // What a check changes is discarded: it needs no decision.
        attempts(Input::OpenWithCheck, Input::ResumeAsking),
    ] {
        assert_eq!(attempts.len(), 2);
        assert_eq!((attempts[0].0, attempts[0].1 + 1), attempts[1]);
    }
}

/// The events by name, and the end, of a session with a check.
fn story(inputs: &[Input]) -> (Vec<&'static str>, SessionConcluded) {
    let opening = [Input::OpenWithCheck, Input::Recalled, Input::Proposed];
    let (state, stream) = walk(&[&opening, inputs].concat());
    let names = stream.into_iter().map(|event| Event::from(event).name());
    (names.skip(3).collect(), state.concluded().expect("it is over").clone())
}

#[test]
fn the_check_after_the_steps_decides_and_nothing_else_does() {
    use Input::{CheckFails, CheckPasses, RanBadly, RanWell};
    let steps = ["session.step_dispatched", "session.step_finished"];
    let check = ["session.check_dispatched", "session.check_finished"];
    let all =
        [&check[..], &steps, &["session.step_skipped"], &steps, &check, &["session.concluded"]]
            .concat();
    for (before, first, second, after, status) in [
        (CheckFails, RanWell, RanWell, CheckPasses, SessionStatus::Success),
        (CheckPasses, RanBadly, RanBadly, CheckPasses, SessionStatus::Success),
        (CheckPasses, RanWell, RanWell, CheckFails, SessionStatus::Error),
        (CheckFails, RanWell, RanBadly, CheckFails, SessionStatus::Error),
    ] {
        let (events, end) = story(&[before, first, second, after]);
        assert_eq!(events, all);
        assert_eq!((end.end, end.status), (SessionEnd::Completed, status));
        let is_told = end.reason.is_some_and(|reason| reason.contains("the check after the steps"));
        assert_eq!(is_told, status == SessionStatus::Error);
    }
}

#[test]
fn a_check_that_cannot_run_before_the_steps_ends_the_session_with_nothing_run() {
    for unable in [Input::CheckIsUnable, Input::NotChecked] {
        let (events, end) = story(&[unable]);
        assert!(!events.contains(&"session.step_dispatched"), "{events:?}");
        let skipped = events.iter().filter(|name| **name == "session.step_skipped").count();
        assert_eq!(skipped, 3, "{events:?}");
        assert_eq!((end.end, end.status), (SessionEnd::Failed, SessionStatus::Error));
        let reason = end.reason.unwrap();
        assert!(reason.contains("the check cannot be run"), "{reason}");
    }
}

#[test]
fn a_session_with_a_check_is_never_partly_done() {
    for late in [Input::Cancel, Input::Expire] {
        let (_, end) = story(&[Input::CheckPasses, Input::RanWell, Input::RanWell, late]);
        assert_eq!(end.status, SessionStatus::Error);
    }
}

#[test]
fn changes_are_kept_in_the_order_of_their_events() {
    let list = |path: &str| {
        let change = FileChange { path: path.to_owned(), file: None };
        ChangeList::Inline(vec![change])
    };
    let opening = [Input::OpenWithCheck, Input::Recalled, Input::Proposed];
    let ends = [Input::CheckPasses, Input::RanWell, Input::RanBadly, Input::CheckPasses];
    let (_, mut stream) = walk(&[&opening[..], &ends].concat());
    let mut expected = Vec::new();
    for event in &mut stream {
        match event {
            SessionEvent::StepFinished(step) => {
                let changes = Some(list(&step.step.to_string()));
                step.workspace = Some(WorkspaceEnd { changes, ..WorkspaceEnd::default() });
                expected.push(list(&step.step.to_string()));
            }
            SessionEvent::CheckFinished(check) if check.moment == CheckMoment::After => {
                check.restored = Some(list("restored"));
                expected.push(list("restored"));
            }
            _ => {}
        }
    }
    let session = Session::fold(&stream).unwrap();
    assert_eq!(session.workspace().unwrap().changes, expected);
    assert_eq!(expected.len(), 3);
}
