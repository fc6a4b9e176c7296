//! Test of all short sequences of commands and outcomes: a walk finds cases that examples miss.

use std::collections::HashSet;

use ai_factory_schemas::{
    id::RunId,
    plan::{Code, Plan, Step, TaskType},
    run::{EndedBy, RunStatus},
    session::{Resolution, SessionEvent, SessionStatus, StepFinished},
    text::Text,
};
use uuid::Uuid;

use super::{
    state::Session,
    vocabulary::{SessionCommand, SessionEffect, SessionOutcome},
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

const INPUTS: [Input; 14] = [
    Input::Open,
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

fn apply(state: &Session, input: Input, depth: usize) -> Option<Vec<SessionEvent>> {
    let next_run = RunId(Uuid::from_u128(depth as u128 + 1));
    let (step, run_id) = run_of(state);
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
        Some(state.settle(SessionOutcome::Ran { finished, next_run }))
    };
    let decide = |command| state.decide(command).ok();
    match input {
        Input::Open => decide(SessionCommand::Open {
            request_id: Uuid::nil().into(),
            goal: "g".into(),
            task_type: TaskType::General,
            submitted_by: None,
        }),
        Input::Resume => {
            decide(SessionCommand::Resume { repeatable: true, after_crash: true, resumes_max: 2 })
        }
        Input::ResumeAsking => {
            decide(SessionCommand::Resume { repeatable: false, after_crash: true, resumes_max: 2 })
        }
        Input::Cancel => decide(SessionCommand::Cancel),
        Input::Expire => decide(SessionCommand::Expire),
        Input::ExpireStep => decide(SessionCommand::ExpireStep { step, next_run }),
        Input::Repeat => {
            decide(SessionCommand::Resolve { resolution: Resolution::Repeat, next_run })
        }
        Input::Skip => decide(SessionCommand::Resolve { resolution: Resolution::Skip, next_run }),
        Input::Proposed => Some(state.settle(SessionOutcome::Proposed { plan: plan(), next_run })),
        Input::NotProposed => {
            Some(state.settle(SessionOutcome::NotProposed { reason: "no".into() }))
        }
        Input::Recalled => Some(state.settle(SessionOutcome::Recalled { items: vec![], next_run })),
        Input::RanWell => ran(RunStatus::Success),
        Input::RanBadly => ran(RunStatus::Timeout),
        Input::NotRun => Some(state.settle(SessionOutcome::NotRun {
            step,
            run_id,
            reason: "no".into(),
            next_run,
        })),
    }
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
fn a_step_dispatched_twice_says_so_with_a_higher_attempt() {
    let mut stream = Vec::new();
    let mut state = Session::default();
    for (depth, input) in
        [Input::Open, Input::Recalled, Input::Proposed, Input::Resume].into_iter().enumerate()
    {
        for event in apply(&state, input, depth).unwrap() {
            state.evolve(&event).unwrap();
            stream.push(event);
        }
    }
    let attempts: Vec<_> = stream
        .iter()
        .filter_map(|event| match event {
            SessionEvent::StepDispatched(dispatched) => {
                Some((dispatched.step, dispatched.run_id, dispatched.attempt))
            }
            _ => None,
        })
        .collect();
    assert_eq!(attempts.len(), 2);
    assert_eq!((attempts[0].1, attempts[0].2 + 1), (attempts[1].1, attempts[1].2));
}
