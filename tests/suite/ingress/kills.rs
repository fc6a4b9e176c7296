//! SIGKILL in the middle of HTTP and NATS load, again and again, at moments that a seed chooses.

use std::{collections::BTreeSet, thread};

use ai_factory::journal::JournalReader;
use serde_json::json;

use super::{LOOK, Up, Watcher};
use crate::{
    crash::account::{Account, MARK, marks},
    support::{
        nats::TestServer,
        process::{Chance, TestHome},
    },
};

/// 4 tests of this many are the 20 kills.
const KILLS: u64 = 5;
/// How many goals come through each ingress in a round.
const GOALS: u64 = 6;
/// Somewhat fewer events than the goals of a round leave.
const EVENTS: u64 = 60;

/// A goal that leaves a mark.
fn goal(home: &TestHome, name: &str) -> String {
    let marks = home.path().join("marks");
    let marks = marks.to_str().unwrap();
    format!(
        "Mark it:\n```python\nwith open({marks:?}, 'a') as marks:\n    \
         marks.write('{MARK}{name}\\n')\n```\n"
    )
}

/// Waits until there are so many more records, or until all that will come has come.
fn wait_for_records(home: &TestHome, before: u64, more: u64, loaded: impl Fn() -> bool) {
    let mut reader = None;
    loop {
        reader = reader.or_else(|| JournalReader::open(home.data()).ok());
        let page = reader.as_ref().map(|it| it.read_sync(before + more, 1).unwrap());
        if page.is_some_and(|records| !records.is_empty()) || loaded() {
            return;
        }
        thread::yield_now();
    }
}

/// One round: load through both, and a kill in the middle. Answers with the goals that were
/// acknowledged.
fn round(
    home: &TestHome,
    server: &TestServer,
    watcher: &Watcher,
    number: u64,
    more: u64,
) -> Vec<String> {
    let before = home.records().len() as u64;
    let up = Up::with(home, server);
    watcher.goals_are_taken_in();
    let http = up.http.clone();
    thread::scope(|scope| {
        let over_http = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            for n in 0..GOALS {
                let name = format!("http-{number}-{n}");
                let body = json!({ "goal": goal(home, &name) });
                match http.post("/supervisor/submit", &name, &body) {
                    Ok((202, _)) => acknowledged.push(body["goal"].as_str().unwrap().to_owned()),
                    Ok((status, answer)) => assert_eq!(status, 503, "{answer}"),
                    // It was killed.
                    Err(_) => break,
                }
            }
            acknowledged
        });
        let over_nats = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            for n in 0..GOALS {
                let name = format!("nats-{number}-{n}");
                let goal = goal(home, &name);
                let id = (n % 2 == 0).then_some(&*name);
                watcher.publish(id, goal.clone());
                acknowledged.push(goal);
            }
            acknowledged
        });
        wait_for_records(home, before, more, || over_http.is_finished() && over_nats.is_finished());
        up.running.killed();
        let mut acknowledged = over_http.join().unwrap();
        acknowledged.extend(over_nats.join().unwrap());
        acknowledged
    })
}

fn rounds(seed: u64) {
    let added = std::env::var("AI_FACTORY_TEST_SEED").map_or(0, |it| it.parse().unwrap());
    let seed = seed + added;
    let mut chance = Chance::new(seed);
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let mut acknowledged = Vec::new();
    let mut moments = Vec::new();
    for number in 0..KILLS {
        let more = chance.below(EVENTS);
        moments.push(more);
        acknowledged.extend(round(&home, &server, &watcher, number, more));
    }
    let told = format!("seed {seed}, killed after so many records: {moments:?}");

    let up = Up::with(&home, &server);
    watcher.goals_are_settled();
    let ended = |home: &TestHome| {
        let account = Account::of(home);
        account.sessions.values().all(|session| session.concluded.is_some())
    };
    while !ended(&home) {
        thread::park_timeout(LOOK);
    }
    up.terminate();

    let account = Account::of(&home);
    account.assert_all_is_over();
    account.assert_marks_are_on_record(&marks(&home));
    let opened: Vec<_> =
        account.sessions.values().filter_map(|session| session.opened.as_ref()).collect();
    for goal in &acknowledged {
        let sessions = opened.iter().filter(|session| session.goal == *goal).count();
        assert_eq!(sessions, 1, "{told}: {goal}");
    }
    let goals: BTreeSet<_> = opened.iter().map(|session| &session.goal).collect();
    assert_eq!(goals.len(), opened.len(), "{told}: a goal was opened twice");
    home.printed(0, &["verify"]);
    home.assert_nothing_is_left(&told);
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_and_no_goal_runs_twice_1() {
    rounds(11);
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_and_no_goal_runs_twice_2() {
    rounds(12);
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_and_no_goal_runs_twice_3() {
    rounds(13);
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_and_no_goal_runs_twice_4() {
    rounds(14);
}
