//! Steps whose end a crash left unknown: repeated, given up, or left to somebody's decision.

use serde_json::Value;

use super::account::Account;
use crate::support::process::{Bell, TestHome};

const ASK: [&str; 2] = ["--set", "on_unknown=ask"];
const PATIENT: [&str; 2] = ["--set", "run_wall_ms_max=60000"];

/// Starts it, waits until its code runs, kills it.
fn killed_in_a_run(home: &TestHome, bell: &Bell, arguments: &[&str]) {
    let running = home.started(arguments);
    let ring = bell.rung();
    running.killed();
    ring.assert_gone();
}

fn sessions(home: &TestHome) -> Vec<Value> {
    home.json(&["sessions"]).as_array().unwrap().clone()
}

/// The account once the next factory, however quickly it ends, has closed the runs that nobody
/// waits for any more.
fn all_is_over(home: &TestHome) -> Account {
    home.printed(0, &["remember", "that was that"]);
    let account = Account::of(home);
    account.assert_all_is_over();
    account
}

#[test]
fn a_session_that_kills_its_process_again_and_again_is_given_up() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let twice = ["--set", "session_resumes_max=2"];
    let goal = bell.goal();
    let [resume, run] =
        [&["resume"][..], &["run", &goal]].map(|command| [command, &twice, &PATIENT].concat());
    killed_in_a_run(&home, &bell, &run);
    killed_in_a_run(&home, &bell, &resume);
    killed_in_a_run(&home, &bell, &resume);
    home.printed(1, &resume);

    let rows = sessions(&home);
    assert_eq!((&rows[0]["end"], &rows[0]["status"]), (&"failed".into(), &"error".into()));
    let id = rows[0]["session_id"].as_str().unwrap();
    let story = home.json(&["show", id]);
    assert!(story["reason"].as_str().unwrap().contains("resumed 2 times"), "{story}");
    assert_eq!(home.printed(0, &resume).0, "");
    assert_eq!(all_is_over(&home).repetitions(), 2);
    home.assert_nothing_is_left("given up");
}

/// A session whose step's end is unknown, in a place where somebody is asked.
fn waiting(home: &TestHome, bell: &Bell) -> String {
    let goal = bell.goal();
    let run = [&["run", &goal][..], &ASK, &PATIENT].concat();
    killed_in_a_run(home, bell, &run);
    let (printed, _) = home.printed(1, &[&["resume"][..], &ASK, &PATIENT].concat());
    let row = &sessions(home)[0];
    assert_eq!(row["status"], "waiting: decision", "{row}");
    let id = row["session_id"].as_str().unwrap().to_owned();
    assert!(printed.contains(&format!("ai-factory resolve {id} repeat")), "{printed}");
    id
}

#[test]
fn a_step_that_nobody_may_repeat_unasked_is_counted_as_failed_on_request() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let id = waiting(&home, &bell);
    home.printed(1, &[&["resolve", &id, "skip"][..], &ASK].concat());
    let rows = sessions(&home);
    assert_eq!((&rows[0]["end"], &rows[0]["status"]), (&"completed".into(), &"error".into()));
    assert_eq!(all_is_over(&home).repetitions(), 0);
    home.assert_nothing_is_left("skipped");
}

#[test]
fn a_step_that_nobody_may_repeat_unasked_is_repeated_on_request() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let id = waiting(&home, &bell);
    let resolving = home.started(&[&["resolve", &id, "repeat"][..], &ASK, &PATIENT].concat());
    drop(bell.rung());
    let ended = resolving.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(sessions(&home)[0]["status"], "success");
    assert_eq!(all_is_over(&home).repetitions(), 1);
    home.assert_nothing_is_left("repeated");
}

#[test]
fn a_decision_that_nobody_waits_for_is_refused_and_changes_nothing() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let refused = |id: &str, part: &str| {
        for decision in ["repeat", "skip"] {
            let before = home.records().len();
            let (printed, said) = home.printed(2, &["resolve", id, decision]);
            assert!(printed.is_empty() && said.contains(part), "{said}");
            assert_eq!(home.records().len(), before, "{said}");
        }
    };
    // One that is not over, and goes on by itself.
    killed_in_a_run(&home, &bell, &[&["run", &bell.goal()][..], &PATIENT].concat());
    let id = sessions(&home)[0]["session_id"].as_str().unwrap().to_owned();
    refused(&id, "does not wait for a decision");
    let cancelled = home.printed(0, &["cancel", &id]).0;
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    refused(&id, "is over already");
    // One that waited.
    let id = waiting(&home, &bell);
    home.printed(1, &["resolve", &id, "skip"]);
    refused(&id, "is over already");
    refused("019a0000-0000-7000-8000-000000000002", "ai-factory sessions");
    refused("nonsense", "ai-factory sessions");
    refused(" ", "ai-factory sessions");
    let (_, said) = home.printed(2, &["resolve", &id, "maybe"]);
    assert!(said.contains("repeat, skip"), "{said}");
}

#[test]
fn a_step_left_unknown_can_be_decided_before_anybody_took_the_session_up() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    killed_in_a_run(&home, &bell, &[&["run", &bell.goal()][..], &ASK, &PATIENT].concat());
    let id = sessions(&home)[0]["session_id"].as_str().unwrap().to_owned();
    home.printed(1, &[&["resolve", &id, "skip"][..], &ASK].concat());
    let rows = sessions(&home);
    assert_eq!((&rows[0]["end"], &rows[0]["status"]), (&"completed".into(), &"error".into()));
}

#[test]
fn a_session_waits_for_a_decision_however_often_the_factory_starts() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let id = waiting(&home, &bell);
    for note in ["one", "two", "three"] {
        home.printed(0, &["remember", note, "--set", "session_resumes_max=2"]);
    }
    assert_eq!(sessions(&home)[0]["status"], "waiting: decision");
    home.printed(1, &["resolve", &id, "skip"]);
    assert_eq!(all_is_over(&home).repetitions(), 0);
}
