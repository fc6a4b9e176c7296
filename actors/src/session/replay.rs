//! Replay of a recorded session: its decisions made anew from what was recorded as input.
//!
//! Prompts, tools, memories, answers of the model, runs and the words of people come from the
//! record; no model is asked, no code runs, no clock is read. The events that the decider makes of
//! them are compared with the recorded ones, with every field. What deciders do not make, but are
//! given, is taken from the record: the ids of runs. The session's own id names the ids of the
//! effects of its turns.
//!
//! *Limits.* What happened to a session from outside is recognised by what it led to: of several
//! commands that could have led there, the one that decides what is recorded is taken.

use ai_factory_schemas::{
    event::Event,
    id::{RunId, SessionId},
    session::{
        SessionConcluded, SessionEvent, SessionPlanned, SessionRecalled, SessionResumed,
        StepDispatched, StepFailed, StepResolved,
    },
    turn::{BudgetChanged, Compacted, TurnDispatched, TurnFinished},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    state::Session,
    vocabulary::{NextIds, SessionCommand, SessionOutcome},
};
use crate::decider::Decider as _;

/// The beginning of the reason of a check that cannot be run, before the cause.
const NOT_CHECKED: &str = "the check cannot be run: ";

/// A session that was decided as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The events of its stream.
    pub events: usize,
    /// The inputs that led to them.
    pub inputs: usize,
}

/// The first event that is decided otherwise than it is recorded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("event {version} of the session, `{name}`, is decided otherwise than it is recorded")]
pub struct Divergence {
    /// Its version in the stream, from 1.
    pub version: usize,
    /// Its recorded name.
    pub name: &'static str,
    /// Its name and data as recorded.
    pub recorded: Value,
    /// The name and data of what is decided in its place; null if that is nothing.
    pub decided: Value,
}

/// What a session is given.
enum Input {
    Command(SessionCommand),
    Outcome(SessionOutcome),
}

impl Input {
    fn decide(self, state: &Session) -> Vec<SessionEvent> {
        match self {
            Self::Command(command) => state.decide(command).unwrap_or_default(),
            Self::Outcome(outcome) => state.settle(outcome),
        }
    }
}

/// Decides a recorded session anew: the events of its stream, in order.
///
/// # Errors
/// The first event that is decided otherwise.
pub fn replay(id: SessionId, recorded: &[SessionEvent]) -> Result<Replayed, Box<Divergence>> {
    let mut state = Session::default();
    let (mut done, mut inputs) = (0, 0);
    while let Some(rest) = recorded.get(done..).filter(|rest| !rest.is_empty()) {
        let decided = best_decision(&state, id, rest);
        let equal = equal_from_start(&decided, rest);
        let is_whole = equal == decided.len() && equal > 0;
        let is_legal =
            is_whole && rest[..equal].iter().try_for_each(|event| state.evolve(event)).is_ok();
        if !is_legal {
            let at = equal.min(rest.len() - 1);
            return Err(Box::new(Divergence {
                version: done + at + 1,
                name: Event::from(rest[at].clone()).name(),
                recorded: told(&rest[at]),
                decided: decided.get(at).map_or(Value::Null, told),
            }));
        }
        (done, inputs) = (done + equal, inputs + 1);
    }
    Ok(Replayed { events: recorded.len(), inputs })
}

/// Of the inputs that could have led to `rest`, what the one decides that agrees longest with it.
fn best_decision(state: &Session, id: SessionId, rest: &[SessionEvent]) -> Vec<SessionEvent> {
    let next = NextIds { session: id, run: next_run(rest) };
    let decided = inputs_for(state, next, rest).into_iter().map(|input| input.decide(state));
    // Of equals the first one.
    let rank = |decided: &Vec<SessionEvent>| {
        let equal = equal_from_start(decided, rest);
        (equal == decided.len() && equal > 0, equal)
    };
    decided.rev().max_by_key(rank).unwrap_or_default()
}

fn equal_from_start(decided: &[SessionEvent], rest: &[SessionEvent]) -> usize {
    decided.iter().zip(rest).take_while(|(one, other)| one == other).count()
}

/// The id that the next run was given.
fn next_run(rest: &[SessionEvent]) -> RunId {
    let run = rest.iter().find_map(|event| match event {
        SessionEvent::StepDispatched(StepDispatched { run_id, .. }) => Some(*run_id),
        SessionEvent::CheckDispatched(dispatched) => Some(dispatched.run_id),
        _ => None,
    });
    run.unwrap_or(RunId(Uuid::nil()))
}

fn told(event: &SessionEvent) -> Value {
    let event = Event::from(event.clone());
    let data = event.data().ok().and_then(|data| serde_json::from_str::<Value>(&data).ok());
    let mut told = serde_json::Map::new();
    told.insert("event".to_owned(), event.name().into());
    told.insert("data".to_owned(), data.unwrap_or_default());
    told.into()
}

/// The inputs whose first event may be the first of `rest`.
fn inputs_for(state: &Session, next: NextIds, rest: &[SessionEvent]) -> Vec<Input> {
    use Input::{Command, Outcome};
    match &rest[0] {
        SessionEvent::Opened(opened) => {
            vec![Command(SessionCommand::Open(Box::new(opened.clone())))]
        }
        SessionEvent::Planned(SessionPlanned { plan }) => {
            vec![Outcome(SessionOutcome::Proposed { plan: plan.clone(), next })]
        }
        SessionEvent::Recalled(SessionRecalled { items }) => {
            vec![Outcome(SessionOutcome::Recalled { items: items.clone(), next })]
        }
        SessionEvent::StepFinished(finished) => {
            vec![Outcome(SessionOutcome::Ran { finished: finished.clone(), next })]
        }
        SessionEvent::StepFailed(StepFailed { step, reason }) => {
            let not_run = state.dispatched().map(|(step, run_id, _)| {
                Outcome(SessionOutcome::NotRun { step, run_id, reason: reason.clone(), next })
            });
            let expired = Command(SessionCommand::ExpireStep { step: *step, next });
            not_run.into_iter().chain([expired]).chain(ends(state, next, rest)).collect()
        }
        SessionEvent::StepResolved(StepResolved { resolution, .. }) => {
            vec![Command(SessionCommand::Resolve { resolution: *resolution, next })]
        }
        SessionEvent::CheckFinished(finished) => {
            vec![Outcome(SessionOutcome::Checked { finished: Box::new(finished.clone()), next })]
        }
        SessionEvent::Resumed(SessionResumed { count }) => resumptions(state, *count, next),
        SessionEvent::TurnDispatched(TurnDispatched { turn, appended, .. }) => vec![
            Outcome(SessionOutcome::Prepared { turn: *turn, messages: appended.clone(), next }),
            Command(SessionCommand::RetryTurn { next }),
        ],
        SessionEvent::TurnFinished(finished) => vec![answered(finished, next, rest)],
        SessionEvent::TurnFailed(failed) => {
            let failed = Outcome(SessionOutcome::NotAnswered { failed: failed.clone(), next });
            [failed].into_iter().chain(ends(state, next, rest)).collect()
        }
        SessionEvent::ToolFinished(finished) => {
            vec![Outcome(SessionOutcome::ToolEnded { finished: Box::new(finished.clone()), next })]
        }
        SessionEvent::QuestionAsked(asked) => {
            vec![Outcome(SessionOutcome::Asks { asked: asked.clone() })]
        }
        SessionEvent::QuestionAnswered(answered) => match rest.get(1) {
            Some(SessionEvent::ToolFinished(result)) => vec![Command(SessionCommand::Answer {
                answered: Box::new(answered.clone()),
                result: Box::new(result.clone()),
                next,
            })],
            _ => Vec::new(),
        },
        SessionEvent::BudgetChanged(BudgetChanged { budget, by }) => {
            vec![Command(SessionCommand::ChangeBudget { budget: *budget, by: by.clone(), next })]
        }
        SessionEvent::Compacted(Compacted { turn, replaced }) => {
            let (turn, replaced) = (*turn, replaced.clone());
            vec![Outcome(SessionOutcome::Shortened { turn, replaced, next })]
        }
        SessionEvent::StepSkipped(_) | SessionEvent::Concluded(_) => ends(state, next, rest),
        // These follow from others; alone nothing leads to them.
        SessionEvent::StepDispatched(_)
        | SessionEvent::StepUnknown(_)
        | SessionEvent::CheckDispatched(_)
        | SessionEvent::ToolDispatched(_) => Vec::new(),
    }
}

/// The answer, with the plan that it was found to be.
fn answered(finished: &TurnFinished, next: NextIds, rest: &[SessionEvent]) -> Input {
    let plan = match rest.get(1) {
        Some(SessionEvent::Planned(planned)) => Some(planned.plan.clone()),
        _ => None,
    };
    Input::Outcome(SessionOutcome::Answered { finished: Box::new(finished.clone()), plan, next })
}

fn resumptions(state: &Session, count: u32, next: NextIds) -> Vec<Input> {
    let after_crash = count > state.resumes();
    let resume = |repeatable| {
        let resumes_max = u32::MAX;
        Input::Command(SessionCommand::Resume { repeatable, resumes_max, after_crash, next })
    };
    vec![resume(true), resume(false)]
}

/// What ends a session from outside its work.
fn ends(state: &Session, next: NextIds, rest: &[SessionEvent]) -> Vec<Input> {
    use Input::{Command, Outcome};
    let reason = rest.iter().find_map(|event| match event {
        SessionEvent::Concluded(SessionConcluded { reason, .. }) => reason.clone(),
        _ => None,
    });
    let reason = reason.unwrap_or_default();
    let mut ends = vec![
        Command(SessionCommand::Cancel { may_be_sent: true }),
        Command(SessionCommand::Cancel { may_be_sent: false }),
        Command(SessionCommand::Expire { may_be_sent: true }),
        Command(SessionCommand::Expire { may_be_sent: false }),
        Command(SessionCommand::Resume {
            repeatable: true,
            resumes_max: state.resumes(),
            after_crash: true,
            next,
        }),
    ];
    if let (Some((_, run_id, _)), Some(cause)) =
        (state.dispatched_check(), reason.strip_prefix(NOT_CHECKED))
    {
        ends.push(Outcome(SessionOutcome::NotChecked { run_id, reason: cause.to_owned() }));
    }
    ends.push(Outcome(SessionOutcome::NotProposed { reason }));
    ends
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::session::SessionStatus;

    use super::*;
    use crate::session::{
        model_script::{SESSION, Say, Script, terms},
        vocabulary::SessionEffect,
    };

    fn recorded() -> Vec<SessionEvent> {
        let mut script = Script::open(terms(), false);
        let mut answers = [Say::Plan, Say::Finish(SessionStatus::Success)].into_iter();
        while let Some(effect) = script.pending() {
            let asks = matches!(effect, SessionEffect::Call { .. });
            let answer = asks.then(|| answers.next()).flatten();
            script.perform(&effect, answer);
        }
        script.stream
    }

    #[test]
    fn a_recorded_session_is_decided_again_from_its_inputs_alone() {
        let recorded = recorded();
        let Replayed { events, inputs } = replay(SESSION, &recorded).unwrap();
        assert!(events == recorded.len() && inputs < events, "{events} {inputs}");
    }

    #[test]
    fn what_was_decided_otherwise_is_named_with_its_version() {
        let mut recorded = recorded();
        let (at, dispatched) = recorded
            .iter_mut()
            .enumerate()
            .find_map(|(at, event)| match event {
                SessionEvent::TurnDispatched(dispatched) => Some((at, dispatched)),
                _ => None,
            })
            .unwrap();
        dispatched.reserved.output_tokens += 1;
        let told = replay(SESSION, &recorded).unwrap_err();
        assert_eq!((told.version, told.name), (at + 1, "session.turn_dispatched"));
        let tokens = "/data/reserved/output_tokens";
        assert_ne!(told.recorded.pointer(tokens), told.decided.pointer(tokens));
    }

    #[test]
    fn a_session_that_lost_its_beginning_or_an_event_within_is_not_decided_so() {
        let recorded = recorded();
        assert!(replay(SESSION, &recorded[1..]).is_err());
        for without in 1..recorded.len() - 1 {
            let mut lacking = recorded.clone();
            lacking.remove(without);
            assert!(replay(SESSION, &lacking).is_err(), "without event {}", without + 1);
        }
    }
}
