//! A prompt's stream when the server goes away in the middle of it.

use super::{Asked, agent_up, found, gated, prompt};
use crate::{
    ingress::{Watcher, body},
    support::{nats::TestServer, process::TestHome},
};

#[test]
fn a_stream_that_the_servers_death_broke_off_ends_with_a_word_once_the_server_is_back() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let (goal, gate) = gated(&home);
    let named = [("Nats-Msg-Id", "k")];
    let mut asked = Asked::ask(&watcher, "prompt", &named, goal.as_bytes());
    while body(&asked.next(&watcher))["data"] != "session.step_dispatched" {}
    server.kill();
    // What it comes to while nobody can be told.
    std::fs::write(gate, "").unwrap();
    server.again();
    let (code, told) = asked.rest(&watcher).error.expect("an error and the end");
    assert_eq!((code.as_str(), told["error"].as_str()), ("429", Some("rate_limited")));
    assert!(told["message"].as_str().unwrap().contains("Nats-Msg-Id"), "{told}");

    let answer = prompt(&watcher, &named, goal.as_bytes());
    assert_eq!(answer.text(), "[step 0] stdout:\nthrough");
    assert_eq!(answer.statuses().iter().filter(|status| **status == "session.opened").count(), 1);
    up.terminate();
}

#[test]
fn a_caller_that_does_not_come_back_keeps_nobody_from_ending() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let (goal, _gate) = gated(&home);
    let mut asked = Asked::ask(&watcher, "prompt", &[], goal.as_bytes());
    while body(&asked.next(&watcher))["data"] != "session.step_dispatched" {}
    drop(asked);
    server.kill();
    server.again();
    found(&watcher);
    up.terminate();
}
