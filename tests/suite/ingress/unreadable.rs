//! Messages whose headers the client library does not bear: each costs a connection once at most,
//! and nothing else.

use std::thread;

use serde_json::json;

use super::{
    LOOK, Up, Watcher, body, head, logged,
    streams::{letters::rejected, state, wait_until_kept},
    wait_for_health,
};
use crate::support::{
    nats::{JetStream, TestServer},
    process::TestHome,
};

/// What others put into headers, and a client does not read.
const UNREADABLE: [&[u8]; 5] = [
    b"NATS/1.0\r\nColour: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nTwo words: blue\r\n\r\n",
    b"NATS/1.0\r\nno colon at all\r\n\r\n",
    "NATS/1.0\r\nGr\u{fc}\u{df}e: x\r\n\r\n".as_bytes(),
    b"NATS/2.0\r\nA: 1\r\n\r\n",
];

/// What looks like the word of a server. Some servers remove it before they put a message into a
/// stream.
const STATUSES: [&[u8]; 4] = [
    b"NATS/1.0 nonsense\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
];

/// How often the connection was lost.
fn losses(home: &TestHome) -> usize {
    let last = logged(home, "connection to the NATS server is lost").pop();
    let count = last.and_then(|line| {
        let (_, rest) = line.split_once("count=")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    count.unwrap_or_default()
}

#[test]
fn a_goal_with_unreadable_headers_is_rejected_once_kept_as_a_letter_and_gone() {
    for (number, headers) in UNREADABLE.into_iter().enumerate() {
        let (home, server) = (TestHome::new(), TestServer::start());
        let mut watcher = Watcher::at(&server);
        let up = Up::with(&home, &server);
        watcher.goals_are_taken_in();
        server.publish_raw("factory.goals", headers, b"Do not do this");
        watcher.publish(None, "A good one");
        watcher.sessions_end(1);
        watcher.goals_are_settled();
        assert!(losses(&home) <= 1, "{number}");
        let kept = home.json(&["dead", "ls", "--nats", &server.url()]);
        assert_eq!(kept.as_array().unwrap().len(), 1, "{number}");
        assert_eq!(kept[0]["payload"], "Do not do this");
        let reason = kept[0]["reason"].as_str().unwrap();
        assert!(reason.contains("headers of this message cannot be read"), "{reason}");
        wait_for_health(&up, "ok");
        up.terminate();
        assert_eq!(rejected(&home), 1, "{number}");
    }
}

#[test]
fn goals_with_unreadable_headers_that_wait_are_listed_and_cost_one_connection_together() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    up.terminate();
    for headers in UNREADABLE {
        server.publish_raw("factory.goals", headers, b"Do not do this");
        watcher.publish(None, "A good one");
    }
    let listed = home.json(&["goals", "ls", "--nats", &server.url()]);
    assert_eq!(listed.as_array().unwrap().len(), 2 * UNREADABLE.len());
    let before = losses(&home);
    let up = Up::with(&home, &server);
    watcher.sessions_end(UNREADABLE.len());
    watcher.goals_are_settled();
    assert!(losses(&home) <= before + 1);
    assert_eq!(state(&watcher, "FACTORY_DEAD").unwrap().messages, UNREADABLE.len() as u64);
    up.terminate();
    assert_eq!(rejected(&home), UNREADABLE.len());
}

#[test]
fn a_goal_under_the_status_of_a_server_is_done_or_refused_and_gone() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    for headers in STATUSES {
        server.publish_raw("factory.goals", headers, b"Greet me");
    }
    watcher.goals_are_settled();
    wait_for_health(&up, "ok");
    up.terminate();
    let done = home.json(&["sessions"]).as_array().unwrap().len();
    assert_eq!(done + rejected(&home), STATUSES.len());
}

#[test]
fn requests_with_unreadable_headers_cost_a_connection_each_and_others_are_answered() {
    let (home, server) = (TestHome::new(), TestServer::start_with(JetStream::Off));
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.ask("factory.supervisor.status", b"{}");
    for (number, subject) in
        ["factory.supervisor.run", "factory.goals", "$SRV.PING", "factory.memory.search"]
            .iter()
            .enumerate()
    {
        server.publish_raw(subject, UNREADABLE[number], b"Do not do this");
        while losses(&home) <= number {
            thread::park_timeout(LOOK);
        }
        let goal = json!({ "goal": format!("Among them {number}") });
        assert_eq!(up.http.post_plain("/supervisor/run", &goal).unwrap().0, 200);
        // What is asked for in the moment of the loss is lost with it.
        let answered = body(&watcher.request_until_answered("factory.supervisor.status", b"{}"));
        assert_eq!(answered.as_array().unwrap().len(), number + 1);
    }
    assert_eq!(losses(&home), 4, "one each");
    up.terminate();
    assert_eq!(home.json(&["sessions"]).as_array().unwrap().len(), 4);
}

#[test]
fn a_message_of_somebody_else_among_the_events_keeps_neither_relay_nor_reader_from_going_on() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    let run = |up: &Up| {
        let goal = json!({ "goal": "Think" });
        assert_eq!(up.http.post_plain("/supervisor/run", &goal).unwrap().0, 200);
    };
    run(&up);
    let first = head(&home);
    wait_until_kept(&watcher, first);
    for headers in UNREADABLE {
        server.publish_raw("factory.events.x", headers, b"{}");
    }
    run(&up);
    wait_until_kept(&watcher, head(&home) + UNREADABLE.len() as u64);
    up.terminate();
    server.publish_raw("factory.events.x", UNREADABLE[0], b"{}");
    // It looks in the stream where to go on.
    let up = Up::with(&home, &server);
    run(&up);
    let end = head(&home);
    wait_until_kept(&watcher, end + UNREADABLE.len() as u64 + 1);
    let url = server.url();
    let number = end.to_string();
    let asked = ["tail", "--nats", &url, "--from", "1", "--json", "-n", &number];
    assert_eq!(home.printed(0, &asked).0.lines().count() as u64, end);
    up.terminate();
}
