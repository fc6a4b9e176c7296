//! Counts, types, statuses and sessions that are asked for: refused with what there is.

use serde_json::{Value, json};

use super::{GOAL, refused};
use crate::{
    ingress::{Up, Watcher},
    support::{nats::TestServer, process::TestHome},
};

#[test]
fn a_number_of_rows_is_at_least_one_in_every_list() {
    let place = TestHome::new();
    let nats = ["--nats", "nats://127.0.0.1:1"];
    let lists: [&[&str]; 9] = [
        &["sessions"],
        &["logs"],
        &["runs"],
        &["runs", "--search", "x"],
        &["search", "x"],
        &["tail"],
        &["snapshot"],
        &["dead", "ls", nats[0], nats[1]],
        &["goals", "ls", nats[0], nats[1]],
    ];
    for list in lists {
        for wrong in ["0", "-1", "+1", "1.5", "", " ", "many", "99999999999999999999"] {
            refused(&place, &[list, &["-n", wrong]].concat(), &["a whole number from 1 to "]);
        }
    }
    refused(&place, &["sessions", "--limit", "0"], &["from 1 to "]);
    refused(&place, &["sessions", "-n0"], &["from 1 to "]);
    assert!(!place.data().exists());
    place.printed(0, &["run", "Greet"]);
    for most in [["sessions", "1000000000"], ["tail", "1000000000"], ["search", "100000"]] {
        let words: &[&str] = if most[0] == "search" { &["x"] } else { &[] };
        place.printed(0, &[&[most[0], "-n", most[1]], words].concat());
    }
}

#[test]
fn tail_refuses_what_no_event_can_match() {
    let place = TestHome::new();
    place.printed(0, &["run", "Greet"]);
    for wrong in ["nonsense", "", "run.finish", "Run", "sessions"] {
        refused(&place, &["tail", "--type", wrong], &["run.finished", "plan, run, memory"]);
    }
    for wrong in ["nonsense", "", "waiting", "Error", "0"] {
        refused(&place, &["tail", "--status", wrong], &["success, error, timeout or partial"]);
    }
    refused(&place, &["tail", "--type", "memory", "--status", "error"], &["run.finished"]);
    refused(&place, &["tail", "session.>", "--type", "run"], &["`run`"]);
    refused(&place, &["tail", "--follow", "--type", "nonsense"], &["no event has this type"]);
    let server = ["--server", "127.0.0.1:1"];
    refused(
        &place,
        &["tail", "--type", "nonsense", server[0], server[1]],
        &["no event has this type"],
    );
    refused(&place, &["tail", "-n", "0", server[0], server[1]], &["from 1"]);
}

#[test]
fn tail_shows_the_session_that_is_meant_and_refuses_one_that_there_is_not() {
    let place = TestHome::new();
    let first = place.json(&["run", GOAL]);
    let second = place.json(&["run", "Greet"]);
    let id = |answer: &Value| answer["session_id"].as_str().unwrap().to_owned();
    let of = |session: &str| {
        let told = place.printed(0, &["tail", "--from", "1", "--json", "--session", session]).0;
        let correlated = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["correlationid"].as_str().unwrap().to_owned()
        };
        told.lines().map(correlated).collect::<Vec<_>>()
    };
    let told = of(&id(&first));
    assert!(told.len() > 5 && told.iter().all(|session| *session == id(&first)), "{told:?}");
    assert_eq!(of(&id(&first)[..35]), told);
    assert_eq!(of(&format!(" {} ", id(&first).to_uppercase())), told);
    assert_eq!(of(first["request_id"].as_str().unwrap()), told);

    for wrong in ["nonsense", "", " ", &uuid::Uuid::now_v7().to_string(), "ffffffff"] {
        refused(&place, &["tail", "--session", wrong], &["ai-factory sessions"]);
        refused(&place, &["tail", "--follow", "--session", wrong], &["ai-factory sessions"]);
    }
    let both = &id(&first)[..4];
    assert!(id(&second).starts_with(both));
    refused(&place, &["tail", "--session", both], &[&id(&first), &id(&second)]);
}

#[test]
fn tail_of_a_running_factory_refuses_a_session_that_it_does_not_know() {
    let (place, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&place, &server);
    let told = up.http.post("/supervisor/run", "k", &json!({ "goal": "Greet" })).unwrap().1;
    watcher.sessions_end(1);
    let id = told["session_id"].as_str().unwrap();
    let elsewhere = TestHome::new();
    for way in [["--server", &up.http.base], ["--nats", &server.url()]] {
        let tail = ["tail", "--from", "1", "-n", "1", way[0], way[1], "--session"];
        for right in [id, &id[..20], &id.to_uppercase()] {
            let (printed, _) = elsewhere.printed(0, &[&tail[..], &[right]].concat());
            assert!(printed.contains(".opened"), "{printed}");
        }
        for wrong in ["nonsense", "", &uuid::Uuid::now_v7().to_string(), "ffffffff"] {
            refused(&elsewhere, &[&tail[..], &[wrong]].concat(), &["session"]);
        }
    }
    up.terminate();
}
