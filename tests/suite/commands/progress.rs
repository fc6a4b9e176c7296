//! What is told of sessions while they run, and of those that wrote nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::GOAL;
use crate::{
    ingress::Up,
    support::{
        nats::TestServer,
        process::{Bell, TestHome},
    },
};

/// How often a command is tried whose lines must be the same each time.
const TRIES: usize = 20;

const SILENT: &str = "Be still:\n```python\npass\n```\n";
const SILENT_FAILURE: &str = "Fail:\n```python\nraise SystemExit(3)\n```\n";
const NOTHING_RAN: &str = "nothing was run: there is no code in the goal";

/// The kinds of lines of a session's story, in their order, without what differs.
fn kinds(said: &str, prefix: &str) -> Vec<&'static str> {
    let kind = |line: &str| {
        let known: [(&'static str, &[&str]); 8] = [
            ("opened", &["session ", " opened"]),
            ("known", &["session ", ", opened under this key before"]),
            ("planned", &["planned 1 step"]),
            ("recalled", &["recalled "]),
            ("skipped", &["step 0: skipped, no code to run"]),
            ("begins", &["step 0: begins"]),
            ("ended", &["step 0: "]),
            ("completed", &["completed: "]),
        ];
        let is = |(_, parts): &&(&str, &[&str])| {
            line.starts_with(parts[0]) && parts[1..].iter().all(|part| line.ends_with(part))
        };
        known.iter().find(is).map(|(name, _)| *name)
    };
    said.lines().filter_map(|line| line.strip_prefix(prefix)).filter_map(kind).collect()
}

#[test]
fn the_story_of_a_session_is_told_whole_each_time() {
    let place = TestHome::new();
    let told = |arguments: &[&str], expected: &[&str]| {
        for number in 0..TRIES {
            let (_, said) = place.printed(0, arguments);
            assert_eq!(kinds(&said, ""), expected, "{number}: {said}");
        }
    };
    told(&["run", "Greet"], &["opened", "planned", "recalled", "skipped", "completed"]);
    told(&["run", "Greet", "--json"], &["opened", "planned", "recalled", "skipped", "completed"]);
    told(&["run", GOAL], &["opened", "planned", "recalled", "begins", "ended", "completed"]);
}

#[test]
fn each_of_many_sessions_at_once_is_told_whole() {
    let place = TestHome::new();
    let goals: Vec<_> = (1..=TRIES).map(|number| format!("Greet number {number}")).collect();
    let goals: Vec<_> = goals.iter().map(String::as_str).collect();
    let (_, said) = place.printed(0, &[&["run"], &goals[..]].concat());
    for number in 1..=TRIES {
        let expected = ["opened", "planned", "recalled", "skipped", "completed"];
        assert_eq!(kinds(&said, &format!("[{number}] ")), expected, "{said}");
    }
}

#[test]
fn a_goal_whose_key_was_used_before_names_the_session_of_the_first_time() {
    let place = TestHome::new();
    let first = place.json(&["run", "Greet", "--key", "k"]);
    let (printed, said) = place.printed(0, &["run", "Greet", "--key", "k", "--json"]);
    let second: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(first["session_id"], second["session_id"]);
    assert!(said.contains(first["session_id"].as_str().unwrap()), "{said}");
    assert_eq!(kinds(&said, ""), ["known", "completed"], "{said}");
}

#[test]
fn a_session_that_is_taken_up_is_told_from_there_to_its_end() {
    let place = TestHome::new();
    let bell = Bell::new(&place);
    let patient = ["--set", "run_wall_ms_max=60000"];
    let run = place.started(&["run", &bell.goal(), "--key", "k", patient[0], patient[1]]);
    let ring = bell.rung();
    run.killed();
    ring.assert_gone();
    let id = place.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();

    let resuming = place.started(&["resume", patient[0], patient[1]]);
    let ring = bell.rung();
    resuming.killed();
    ring.assert_gone();
    let resuming = place.started(&["run", &bell.goal(), "--key", "k", patient[0], patient[1]]);
    drop(bell.rung());
    let said = resuming.ended().said;
    assert!(said.contains(&format!("session {id}, opened under this key before")), "{said}");
    assert!(said.contains("step 0: begins again, attempt 3"), "{said}");

    // A second one, taken up by `resume`.
    let run = place.started(&["run", &bell.goal(), patient[0], patient[1]]);
    let ring = bell.rung();
    run.killed();
    ring.assert_gone();
    let id = place.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();
    let resuming = place.started(&["resume", patient[0], patient[1]]);
    drop(bell.rung());
    let ended = resuming.ended();
    let lines: Vec<_> = ended.said.lines().filter(|line| !line.contains(" WARN ")).collect();
    assert_eq!(lines[0], format!("session {id} resumed (1)"), "{lines:?}");
    assert_eq!(lines[1], "step 0: begins again, attempt 2", "{lines:?}");
    assert!(lines[2].starts_with("step 0: success"), "{lines:?}");
    assert_eq!(lines[3..], ["completed: success"], "{lines:?}");
}

#[test]
fn code_that_writes_nothing_is_told_with_its_exit_code() {
    let place = TestHome::new();
    for (goal, code) in [(SILENT, 0), (SILENT_FAILURE, 3)] {
        let exit = i32::from(code != 0);
        let (printed, said) = place.printed(exit, &["run", goal]);
        assert_eq!(printed, format!("[step 0] ran without output, exit code {code}\n"), "{said}");
        assert!(said.contains("no output"), "{said}");
        assert!(!said.contains("nothing was run"), "{said}");
        let (printed, said) = place.printed(exit, &["run", goal, "--json"]);
        let answer: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(answer["result"], "no-op", "the contract");
        assert!(!said.contains("nothing was run"), "{said}");
    }
    let both = format!("1. {SILENT}\n2. {GOAL}");
    let (printed, said) = place.printed(0, &["run", &both]);
    assert!(printed.contains("42") && !printed.contains("no-op"), "{printed}");
    assert!(said.contains("no output"), "{said}");
    let (printed, _) = place.printed(0, &["run", "Print:\n```python\nprint('no-op')\n```\n"]);
    assert_eq!(printed, "[step 0] stdout:\nno-op\n");
    let (printed, _) = place.printed(0, &["run", "Blank:\n```python\nprint(' ')\n```\n"]);
    assert!(printed.contains("white space, exit code 0"), "{printed}");
}

#[test]
fn a_goal_of_which_nothing_can_be_run_says_why() {
    let place = TestHome::new();
    for goal in ["Greet", "1. Greet\n2. Leave", "Say `print(1)`"] {
        let (printed, said) = place.printed(0, &["run", goal]);
        assert_eq!(printed, "no-op\n", "what scripts read stays");
        assert!(said.contains(NOTHING_RAN) && said.contains("no language model"), "{said}");
        let (printed, said) = place.printed(0, &["run", goal, "--json"]);
        assert!(printed.contains("\"result\":\"no-op\"") && said.contains(NOTHING_RAN), "{said}");
        let (printed, said) = place.printed(0, &["run", goal, "--quiet"]);
        assert_eq!((printed.as_str(), said.as_str()), ("no-op\n", ""));
    }
    let (printed, said) = place.printed(0, &["run", "Greet", GOAL]);
    let of = |number: u8| {
        let end = format!("[{number}] completed: success");
        said.lines().find_map(|line| line.strip_prefix(&end)).unwrap().to_owned()
    };
    assert!(printed.contains("42") && of(1).contains(NOTHING_RAN), "{said}");
    assert_eq!(of(2), "", "{said}");
}

#[test]
fn a_running_factory_is_told_of_in_the_same_words() {
    let (place, server) = (TestHome::new(), TestServer::start());
    let up = Up::with(&place, &server);
    for way in [["--server", &up.http.base], ["--nats", &server.url()]] {
        let submit = |goal| TestHome::new().ran(&["submit", "--wait", goal, way[0], way[1]]);
        for (goal, code, printed, part) in [
            (SILENT, 0, "[step 0] ran without output, exit code 0\n", ""),
            (SILENT_FAILURE, 1, "[step 0] ran without output, exit code 3\n", ""),
            ("Greet", 0, "no-op\n", NOTHING_RAN),
            (GOAL, 0, "[step 0] stdout:\n42\n", ""),
        ] {
            let output = submit(goal);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{said}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{said}");
            assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{said}");
        }
    }
    let answer = up.http.post("/supervisor/run", "k", &json!({ "goal": SILENT })).unwrap();
    assert_eq!(answer.1["result"], "no-op", "the contract");
    up.terminate();
}

#[test]
fn results_of_several_goals_stand_under_their_headings() {
    let place = TestHome::new();
    let (printed, _) = place.printed(0, &["run", SILENT, GOAL]);
    let lines: BTreeSet<_> = printed.lines().collect();
    assert!(lines.contains("[step 0] ran without output, exit code 0"), "{printed}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("== [")).count(), 2, "{printed}");
}
