//! The NATS server goes away, and comes back.

use std::{collections::BTreeMap, thread};

use serde_json::json;

use super::{
    Http, LOOK, Up, Watcher, head,
    streams::{positions, wait_until_kept},
};
use crate::support::{nats::TestServer, process::TestHome};

/// How many sessions each part of the test opens.
const SESSIONS: usize = 30;

fn load(http: &Http, part: &str) {
    thread::scope(|scope| {
        for worker in 0..3 {
            scope.spawn(move || {
                for number in 0..SESSIONS / 3 {
                    let key = format!("{part}-{worker}-{number}");
                    let goal = json!({ "goal": format!("Think about {key}") });
                    let (status, answer) = http.post("/supervisor/run", &key, &goal).unwrap();
                    assert_eq!(status, 200, "{answer}");
                }
            });
        }
    });
}

#[test]
fn an_address_that_is_none_is_refused_at_once_and_not_waited_for() {
    let home = TestHome::new();
    for url in ["foo", "http://127.0.0.1:4222", "nats://", "nats://a:0", "\u{1b}[2J://a"] {
        for more in [&[][..], &["--start-nats"]] {
            let all = [&["up", "--port", "0", "--nats", url][..], more].concat();
            let (_, said) = home.printed(2, &all);
            assert!(said.contains("nats://127.0.0.1:4222"), "{url}: {said}");
            assert!(!said.contains('\u{1b}'), "{said:?}");
        }
    }
    assert!(!home.data().join("nats").exists(), "no server was started for it");
}

#[test]
fn while_the_server_is_away_http_is_served_and_afterwards_nothing_is_missing() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    assert_eq!(up.http.get("/healthcheck")["status"], "ok");
    load(&up.http, "before");
    wait_until_kept(&watcher, head(&home));

    let http = up.http.clone();
    server.kill();
    load(&up.http, "meanwhile");
    while up.http.get("/healthcheck")["status"] != "degraded" {
        thread::park_timeout(LOOK);
    }
    assert_eq!(up.http.get("/healthcheck")["parts"][0]["part"], "nats");
    thread::scope(|scope| {
        // It comes back in the middle of the work.
        let loading = scope.spawn(|| load(&http, "again"));
        server.again();
        loading.join().unwrap();
    });
    let end = head(&home);
    wait_until_kept(&watcher, end);
    assert_eq!(positions(&watcher, end), (1..=end).collect::<Vec<_>>(), "each once, in order");
    while up.http.get("/healthcheck")["status"] != "ok" {
        thread::park_timeout(LOOK);
    }
    // Goals are taken in again, too.
    watcher.publish(None, "One more");
    watcher.goals_are_settled();
    up.terminate();
    let sessions = home.json(&["sessions", "-n", "200"]);
    assert_eq!(sessions.as_array().unwrap().len(), 3 * SESSIONS + 1);
    let mut by_goal: BTreeMap<&str, usize> = BTreeMap::new();
    for session in sessions.as_array().unwrap() {
        *by_goal.entry(session["goal"].as_str().unwrap()).or_default() += 1;
    }
    assert!(by_goal.values().all(|count| *count == 1), "{by_goal:?}");
}

#[test]
fn a_factory_that_starts_before_its_server_waits_for_it() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    server.kill();
    let up = Up::with(&home, &server);
    let (status, _) =
        up.http.post("/supervisor/run", "early", &json!({ "goal": "Greet" })).unwrap();
    assert_eq!(status, 200);
    server.again();
    let watcher = Watcher::at(&server);
    watcher.goals_are_taken_in();
    let answer = watcher.ask("factory.supervisor.session", br#"{"key": "early"}"#);
    assert_eq!(super::body(&answer)["goal"], "Greet");
    up.terminate();
}

#[test]
fn a_server_with_a_password_lets_in_who_knows_it() {
    let (home, server) = (TestHome::new(), TestServer::guarded());
    let with = |who: &str| server.url().replace("nats://", &format!("nats://{who}@"));
    let up = Up::start(&home, &["--nats", &with("user:secret")]);
    assert_eq!(up.http.get("/healthcheck")["status"], "ok");
    up.terminate();
    let (_, said) = home.printed(2, &["up", "--port", "0", "--nats", &with("user:wrong-one")]);
    assert!(said.contains("nats_credentials") && !said.contains("wrong-one"), "{said}");
}
