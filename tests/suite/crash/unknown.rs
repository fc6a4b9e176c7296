//! Steps whose end a crash left unknown: repeated, given up, or left to somebody's decision.

use serde_json::Value;

use super::account::Account;
use crate::support::process::{Bell, TestHome};

const ASK: [&str; 2] = ["--set", "on_unknown=ask"];
const PATIENT: [&str; 2] = ["--set", "run_wall_ms_max=60000"];

/// Starts it, waits until its code runs, kills it.
fn killed_in_a_run(workspace: &TestHome, bell: &Bell, arguments: &[&str]) {
    let running = workspace.started(arguments);
    let ring = bell.rung();
    running.killed();
    ring.assert_gone();
}

fn sessions(workspace: &TestHome) -> Vec<Value> {
    workspace.json(&["sessions"]).as_array().unwrap().clone()
}

/// How many factories may come and go before a run that nobody waits for any more is closed. Each
/// of them sees to it beside its work, and may end before it has.
const STARTS_MAX: usize = 20;

/// The account once a later factory has closed the runs that nobody waits for any more.
fn all_is_over(workspace: &TestHome) -> Account {
    for _ in 0..STARTS_MAX {
        workspace.printed(0, &["remember", "that was that"]);
        let account = Account::of(workspace);
        if account.runs_open() == 0 {
            account.assert_all_is_over();
            return account;
        }
    }
    panic!("a run was not closed by {STARTS_MAX} factories");
}

#[test]
fn a_session_that_kills_its_process_again_and_again_is_given_up() {
    let workspace = TestHome::new();
    let bell = Bell::new(&workspace);
    let twice = ["--set", "session_resumes_max=2"];
    let goal = bell.goal();
    let [resume, run] =
        [&["resume"][..], &["run", &goal]].map(|command| [command, &twice, &PATIENT].concat());
    killed_in_a_run(&workspace, &bell, &run);
    killed_in_a_run(&workspace, &bell, &resume);
    killed_in_a_run(&workspace, &bell, &resume);
    workspace.printed(1, &resume);

    let rows = sessions(&workspace);
    assert_eq!((&rows[0]["end"], &rows[0]["status"]), (&"failed".into(), &"error".into()));
    let id = rows[0]["session_id"].as_str().unwrap();
    let story = workspace.json(&["show", id]);
    assert!(story["reason"].as_str().unwrap().contains("resumed 2 times"), "{story}");
    assert_eq!(workspace.printed(0, &resume).0, "");
    assert_eq!(all_is_over(&workspace).repetitions(), 2);
    workspace.assert_nothing_is_left("given up");
}

/// A session whose step's end is unknown, in a place where somebody is asked.
fn waiting(workspace: &TestHome, bell: &Bell) -> String {
    let goal = bell.goal();
    let run = [&["run", &goal][..], &ASK, &PATIENT].concat();
    killed_in_a_run(workspace, bell, &run);
    let (printed, _) = workspace.printed(1, &[&["resume"][..], &ASK, &PATIENT].concat());
    let row = &sessions(workspace)[0];
    assert_eq!(row["status"], "waiting", "{row}");
    let id = row["session_id"].as_str().unwrap().to_owned();
    assert!(printed.contains(&format!("ai-factory resolve {id} repeat")), "{printed}");
    id
}

#[test]
fn a_step_that_nobody_may_repeat_unasked_is_counted_as_failed_on_request() {
    let workspace = TestHome::new();
    let bell = Bell::new(&workspace);
    let id = waiting(&workspace, &bell);
    workspace.printed(1, &[&["resolve", &id, "skip"][..], &ASK].concat());
    let rows = sessions(&workspace);
    assert_eq!((&rows[0]["end"], &rows[0]["status"]), (&"completed".into(), &"error".into()));
    assert_eq!(all_is_over(&workspace).repetitions(), 0);
    workspace.assert_nothing_is_left("skipped");
}

#[test]
fn a_step_that_nobody_may_repeat_unasked_is_repeated_on_request() {
    let workspace = TestHome::new();
    let bell = Bell::new(&workspace);
    let id = waiting(&workspace, &bell);
    let resolving = workspace.started(&[&["resolve", &id, "repeat"][..], &ASK, &PATIENT].concat());
    drop(bell.rung());
    let ended = resolving.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(sessions(&workspace)[0]["status"], "success");
    assert_eq!(all_is_over(&workspace).repetitions(), 1);
    workspace.assert_nothing_is_left("repeated");
}

#[test]
fn a_decision_that_nobody_waits_for_is_refused_and_changes_nothing() {
    let workspace = TestHome::new();
    let bell = Bell::new(&workspace);
    let refused = |id: &str, part: &str| {
        for decision in ["repeat", "skip"] {
            let before = workspace.records().len();
            let (printed, said) = workspace.printed(2, &["resolve", id, decision]);
            assert!(printed.is_empty() && said.contains(part), "{said}");
            assert_eq!(workspace.records().len(), before, "{said}");
        }
    };
    // One that is not over, and goes on by itself.
    killed_in_a_run(&workspace, &bell, &[&["run", &bell.goal()][..], &PATIENT].concat());
    let id = sessions(&workspace)[0]["session_id"].as_str().unwrap().to_owned();
    refused(&id, "does not wait for a decision");
    let cancelled = workspace.printed(0, &["cancel", &id]).0;
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    refused(&id, "is over already");
    // One that waited.
    let id = waiting(&workspace, &bell);
    workspace.printed(1, &["resolve", &id, "skip"]);
    refused(&id, "is over already");
    refused("019a0000-0000-7000-8000-000000000002", "ai-factory sessions");
    refused("nonsense", "ai-factory sessions");
    refused(" ", "ai-factory sessions");
    let (_, said) = workspace.printed(2, &["resolve", &id, "maybe"]);
    assert!(said.contains("repeat, skip"), "{said}");
}

#[test]
fn a_step_left_unknown_can_be_decided_before_anybody_took_the_session_up() {
    let workspace = TestHome::new();
    let bell = Bell::new(&workspace);
    killed_in_a_run(&workspace, &bell, &[&["run", &bell.goal()][..], &ASK, &PATIENT].concat());
    let id = sessions(&workspace)[0]["session_id"].as_str().unwrap().to_owned();
    workspace.printed(1, &[&["resolve", &id, "skip"][..], &ASK].concat());
    let rows = sessions(&workspace);
    assert_eq!((&rows[0]["end"], &rows[0]["status"]), (&"completed".into(), &"error".into()));
}

#[test]
fn a_session_waits_for_a_decision_however_often_the_factory_starts() {
    let workspace = TestHome::new();
    let bell = Bell::new(&workspace);
    let id = waiting(&workspace, &bell);
    for note in ["one", "two", "three"] {
        workspace.printed(0, &["remember", note, "--set", "session_resumes_max=2"]);
    }
    assert_eq!(sessions(&workspace)[0]["status"], "waiting");
    workspace.printed(1, &["resolve", &id, "skip"]);
    assert_eq!(all_is_over(&workspace).repetitions(), 0);
}
