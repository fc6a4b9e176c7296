//! Tests of sessions with a model by walking: all short sequences, and a liar at random.

use std::collections::{BTreeSet, HashSet};

use ai_factory_schemas::{
    chat::StopReason,
    check::CheckMoment,
    id::CallId,
    model::{Budget, ModelErrorClass, SessionModel, TokenPrices, TokenUsage},
    session::{SessionEnd, SessionEvent, SessionStatus},
    turn::ToolOutcome,
};

use super::{
    model_script::{NEXT, SESSION, Say, Script, changed, checked, terms},
    replay::replay,
    state::Session,
    vocabulary::{SessionCommand, SessionEffect, SessionOutcome},
};
use crate::{
    agent::tool_names::{ASK, FINISH, RUN},
    decider::Decider,
};

/// What the model says in the walk.
fn says() -> Vec<Say> {
    vec![
        Say::Plan,
        Say::NoPlan,
        Say::Calls(vec![("write_file", "{}"), (RUN, "{}")]),
        Say::Calls(vec![(ASK, "{}")]),
        Say::Calls(vec![(RUN, "{}"), (FINISH, "{}")]),
        Say::Cut(StopReason::Length, vec![(RUN, "{}")]),
        Say::Finish(SessionStatus::Success),
        Say::Text,
        Say::Fail(ModelErrorClass::Unknown),
        Say::Fail(ModelErrorClass::DayBudget),
        Say::Fail(ModelErrorClass::Credentials),
    ]
}

/// Every state that can follow, by one effect or one command.
fn following(script: &Script) -> Vec<Script> {
    let mut all = Vec::new();
    let mut step = |go: &dyn Fn(&mut Script)| {
        let mut next = script.clone();
        go(&mut next);
        all.push(next);
    };
    if script.state.concluded().is_some() {
        return all;
    }
    step(&|next| next.resume());
    for may_be_sent in [true, false] {
        step(&|next| next.decide(SessionCommand::Cancel { may_be_sent }));
    }
    step(&|next| next.decide(SessionCommand::RetryTurn { next: NEXT }));
    if script.state.open_question().is_some() {
        step(&|next| next.answer());
    }
    let Some(effect) = script.pending() else { return all };
    match &effect {
        SessionEffect::Call { .. } => {
            for say in says() {
                step(&|next| next.perform(&effect, Some(say.clone())));
            }
        }
        SessionEffect::Check { moment, run_id, .. } => {
            for exit_code in [0, 1, 127] {
                let finished = Box::new(checked(*moment, *run_id, exit_code));
                let outcome = SessionOutcome::Checked { finished, next: NEXT };
                step(&|next| next.settle(outcome.clone()));
            }
        }
        _ => step(&|next| next.perform(&effect, None)),
    }
    all
}

/// I-1 and I-2 over all short sequences: every event can be evolved, the state is the fold of the
/// stream, an open session goes on or waits, and one that is over owes nothing.
#[test]
fn i_1_and_i_2_hold_on_every_short_walk_with_a_model() {
    const STATES_MAX: usize = 4_000;
    let mut few = terms();
    few.limits.turns_max = 4;
    few.limits.retries_max = 1;
    let mut frontier = vec![Script::open(few.clone(), false), Script::open(few, true)];
    let (mut seen, mut ends) = (HashSet::new(), HashSet::new());
    let mut random = Random(1);
    while !frontier.is_empty() {
        let at = random.below(frontier.len() as u64);
        let script = frontier.swap_remove(usize::try_from(at).unwrap());
        assert_eq!(Session::fold(&script.stream), Ok(script.state.clone()), "I-2");
        replay(SESSION, &script.stream).expect("it is decided again as recorded");
        let goes_on = script.pending().is_some();
        if let Some(end) = script.state.concluded() {
            assert!(!goes_on, "a session that is over owes nothing");
            ends.insert((end.end, end.status));
        } else {
            let waits = script.state.phase().is_waiting();
            assert!(goes_on || waits, "it goes on or waits: {:?}", script.stream);
        }
        for next in following(&script) {
            if next.state.resumes() < 3
                && seen.len() < STATES_MAX
                && seen.insert(format!("{:?}", next.state))
            {
                frontier.push(next);
            }
        }
    }
    for end in [
        (SessionEnd::Completed, SessionStatus::Success),
        (SessionEnd::Failed, SessionStatus::Error),
        (SessionEnd::Cancelled, SessionStatus::Error),
    ] {
        assert!(ends.contains(&end), "never reached {end:?} of {ends:?}");
    }
}

/// The rest of a session from an append on, with the same answers as `whole` had.
fn rest_of(whole: &Script, border: usize) -> Script {
    let borders = whole.borders.iter().copied().filter(|earlier| *earlier <= border);
    let mut script = Script {
        stream: whole.stream[..border].to_vec(),
        borders: borders.collect(),
        ..Script::default()
    };
    script.state = Session::fold(&script.stream).unwrap();
    script.resume();
    loop {
        if script.state.open_question().is_some() {
            script.answer();
        }
        let Some(effect) = script.pending() else { return script };
        let answered = |of: &CallId| {
            whole.stream.iter().find_map(|event| match event {
                SessionEvent::TurnFinished(turn) if turn.call_id == *of => Some(turn.clone()),
                _ => None,
            })
        };
        match &effect {
            SessionEffect::Call { call_id, attempt, .. } => {
                let mut finished = answered(call_id).unwrap();
                assert_eq!(finished.attempt, *attempt);
                let plan = finished.fault.is_none().then(super::model_script::plan);
                finished.fault = None;
                let finished = Box::new(finished);
                script.settle(SessionOutcome::Answered { finished, plan, next: NEXT });
            }
            SessionEffect::Check { moment: CheckMoment::After, run_id, .. } => {
                let finished = Box::new(checked(CheckMoment::After, *run_id, 0));
                script.settle(SessionOutcome::Checked { finished, next: NEXT });
            }
            _ => script.perform(&effect, None),
        }
    }
}

#[test]
fn a_resumption_at_every_append_comes_to_the_same_end() {
    let mut whole = Script::open(terms(), true);
    whole.usage = Some(TokenUsage { input: 50, output: 10, ..TokenUsage::default() });
    whole.go(&[Say::Plan, Say::Calls(vec![("write_file", "{}"), (RUN, "{}"), (ASK, "{}")])]);
    whole.answer();
    whole.go_until(&[Say::Calls(vec![(RUN, "{1}")]), Say::Text], |effect| {
        matches!(effect, SessionEffect::Check { moment: CheckMoment::After, .. })
    });
    let whole = rest_of(&whole, whole.stream.len());
    assert_eq!(whole.concluded().status, SessionStatus::Success);
    for border in whole.borders.iter().copied().filter(|border| *border < whole.stream.len()) {
        let rest = rest_of(&whole, border);
        assert_eq!(rest.concluded(), whole.concluded(), "from {border}");
        let messages = |script: &Script| script.state.conversation().unwrap().messages().to_vec();
        assert_eq!(messages(&rest), messages(&whole), "from {border}");
        let spent = |script: &Script| script.state.model_use().unwrap().budget;
        assert_eq!(spent(&rest), spent(&whole), "from {border}");
    }
}

/// Numbers at random from a seed: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % most
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).unwrap()].clone()
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A usage as no provider should report it.
    fn usage(&mut self) -> Option<TokenUsage> {
        let input = self.one(&[0, 1, 10, 100, 300, 1_000, u64::MAX / 2]);
        let usage = TokenUsage { input, output: self.below(90), ..TokenUsage::default() };
        match self.below(10) {
            0 => None,
            1 => Some(TokenUsage::default()),
            2 => Some(usage),
            3 => Some(TokenUsage { cache_read: u64::MAX, ..usage }),
            _ => Some(TokenUsage { input: 1 + self.below(90), ..usage }),
        }
    }

    fn say(&mut self) -> Say {
        const TOOLS: [&str; 7] = [RUN, "write_file", "read_file", ASK, FINISH, "unknown", "fail"];
        const ARGUMENTS: [&str; 6] = ["{}", "{1}", "{2}", "{3}", "{4}", "{"];
        let count = self.one(&[1, 1, 1, 2, 3, 20]);
        let calls = (0..count).map(|_| (self.one(&TOOLS), self.one(&ARGUMENTS))).collect();
        match self.below(12) {
            0 => Say::Fail(self.one(&[
                ModelErrorClass::Overloaded,
                ModelErrorClass::RateLimited,
                ModelErrorClass::TimedOut,
                ModelErrorClass::Unknown,
                ModelErrorClass::DayBudget,
                ModelErrorClass::Malformed,
                ModelErrorClass::Refused,
            ])),
            1 => Say::Cut(self.one(&[StopReason::Length, StopReason::Refusal]), calls),
            2 => Say::Silence,
            3 => Say::Finish(self.one(&[SessionStatus::Success, SessionStatus::Error])),
            4 => Say::Text,
            5 => Say::Plan,
            6 => Say::NoPlan,
            _ => Say::Calls(calls),
        }
    }

    fn terms(&mut self) -> SessionModel {
        let mut terms = terms();
        terms.limits.turns_max = 2 + u32::try_from(self.below(8)).unwrap();
        terms.budget.tokens_max = 500 + self.below(6_000);
        terms.parameters.context_tokens = 1_000 + self.below(4_000);
        if self.percent(30) {
            let dear = self.below(3_000_000);
            let cache_read = self.percent(50).then_some(dear / 10);
            let prices = TokenPrices { input: dear, cache_read, cache_write: None, output: dear };
            terms.prices = Some(prices);
            terms.budget.cost_micros_max = Some(self.below(20_000));
        }
        terms
    }
}

/// One session with a liar for a model, to its end.
fn lie(seed: u64) -> Script {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let with_check = random.percent(50);
    let mut script = Script::open(random.terms(), with_check);
    let (mut answered, mut raised) = (BTreeSet::new(), 0);
    while script.state.concluded().is_none() {
        assert!(script.stream.len() < 2_000, "it must end");
        script.result_bytes = 20 + random.below(2_000);
        script.usage = random.usage();
        if random.percent(10) {
            // A crash: what is on disk is all that there is.
            script.state = Session::fold(&script.stream).unwrap();
            script.resume();
            continue;
        }
        let Some(effect) = script.pending() else {
            wait(&mut script, &mut random, &mut raised);
            continue;
        };
        match &effect {
            SessionEffect::Call { call_id, .. } => {
                assert!(!answered.contains(call_id), "an answered call is asked again");
                let has_overrun = script.state.conversation().unwrap().spend().has_overrun();
                assert!(!has_overrun, "a call follows an overrun");
                let outcome = script.outcome(&effect, Some(random.say()));
                if matches!(outcome, SessionOutcome::Answered { .. }) {
                    answered.insert(*call_id);
                }
                script.settle(outcome.clone());
                if random.percent(20) {
                    script.settle(outcome);
                }
            }
            SessionEffect::Check { moment, run_id, .. } => {
                let finished = Box::new(checked(*moment, *run_id, random.one(&[0, 1, 1])));
                script.settle(SessionOutcome::Checked { finished, next: NEXT });
            }
            SessionEffect::Tool { .. } => {
                let mut outcome = script.outcome(&effect, None);
                if let SessionOutcome::ToolEnded { finished, .. } = &mut outcome
                    && random.percent(50)
                {
                    finished.outcome = random.one(&[ToolOutcome::Done, ToolOutcome::Failed]);
                    finished.workspace = Some(changed());
                }
                script.settle(outcome);
            }
            _ => script.perform(&effect, None),
        }
    }
    script
}

/// Somebody does what the session waits for, or ends it.
fn wait(script: &mut Script, random: &mut Random, raised: &mut u32) {
    assert!(script.state.phase().is_waiting(), "it goes on or waits");
    assert!(script.state.waits_for(SESSION).is_some());
    if script.state.open_question().is_some() {
        script.answer();
    } else if script.state.is_waiting_for_day() {
        script.decide(SessionCommand::RetryTurn { next: NEXT });
    } else if *raised < 3 {
        *raised += 1;
        let budget = script.state.conversation().unwrap().spend().budget();
        let budget = Budget {
            tokens_max: budget.tokens_max + random.below(3_000),
            cost_micros_max: budget.cost_micros_max.map(|most| most + random.below(10_000)),
        };
        script.decide(SessionCommand::ChangeBudget { budget, by: None, next: NEXT });
    } else {
        let may_be_sent = random.percent(50);
        script.decide(random.one(&[
            SessionCommand::Cancel { may_be_sent },
            SessionCommand::Expire { may_be_sent },
        ]));
    }
}

/// The budget holds at each event, or an overrun names itself and no call follows: [`Script`]
/// checks it.
#[test]
fn ten_thousand_sessions_with_a_liar_end_within_their_budgets() {
    let (mut overruns, mut successes, mut compacted) = (0, 0, 0);
    for seed in 0..10_000 {
        let script = std::panic::catch_unwind(|| lie(seed));
        let Ok(script) = script else { panic!("the session of seed {seed} failed, see above") };
        let end = script.concluded();
        let spend = script.state.conversation().unwrap().spend();
        assert!(spend.reserved().is_none(), "seed {seed}: a reservation is left open");
        if spend.has_overrun() {
            overruns += 1;
            let reason = end.reason.as_deref().unwrap_or_default();
            let names_itself = reason.contains("overrun") || end.end == SessionEnd::Cancelled;
            assert!(names_itself, "seed {seed}: {end:?}");
        }
        successes += u32::from(end.status == SessionStatus::Success);
        compacted += script.count(|event| matches!(event, SessionEvent::Compacted(_)));
        assert_eq!(Session::fold(&script.stream).as_ref(), Ok(&script.state), "seed {seed}");
        let replayed = replay(SESSION, &script.stream);
        assert!(replayed.is_ok(), "seed {seed}: {replayed:?}");
    }
    assert!(
        overruns > 100 && successes > 100 && compacted > 100,
        "{overruns} {successes} {compacted}"
    );
}
