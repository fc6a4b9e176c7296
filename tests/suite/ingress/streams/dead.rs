//! Dead letters: what could not be done is kept, told, and tried again on request.

use std::thread;

use async_nats::jetstream::{AckKind, consumer::PullConsumer};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{
    super::{LOOK, Up, Watcher},
    state,
};
use crate::support::{
    nats::TestServer,
    process::{Bell, TestHome},
};

const DEAD: &str = "FACTORY_DEAD";

fn wait_for_letters(watcher: &Watcher, count: u64) {
    while state(watcher, DEAD).is_none_or(|state| state.messages < count) {
        thread::park_timeout(LOOK);
    }
}

fn letters(home: &TestHome, server: &TestServer) -> Vec<Value> {
    let listed = home.json(&["dead", "ls", "--nats", &server.url()]);
    listed.as_array().unwrap().clone()
}

/// A command about letters, which must succeed.
fn dead(home: &TestHome, server: &TestServer, arguments: &[&str]) -> String {
    let url = server.url();
    home.printed(0, &[&["dead"], arguments, &["--nats", &url]].concat()).0
}

#[test]
fn a_goal_that_is_refused_for_good_is_kept_with_its_headers_and_the_reason_until_it_is_dropped() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    watcher.publish_with(&[("Nats-Msg-Id", "order-1"), ("Colour", "blue")], "{nonsense");
    let too_long = "x".repeat(2 * 1024 * 1024);
    watcher.publish(None, too_long.clone());
    watcher.publish(None, vec![0xff, 0x00, 0xfe]);
    watcher.goals_are_settled();
    assert_eq!(state(&watcher, DEAD).unwrap().messages, 3);

    let listed = letters(&home, &server);
    let mut by_key: Vec<_> = listed.iter().filter(|letter| letter["key"] == "order-1").collect();
    let letter = by_key.pop().unwrap();
    assert_eq!(letter["payload"], "{nonsense");
    assert_eq!(letter["headers"]["Colour"], "blue");
    assert!(!letter["reason"].as_str().unwrap().is_empty());
    assert!(listed.iter().any(|letter| letter["payload_bytes"] == too_long.len()));
    let number = letter["number"].to_string();
    let shown = dead(&home, &server, &["show", &number]);
    assert!(shown.contains("{nonsense") && shown.contains("Colour: blue"), "{shown}");

    // Tried again it is refused again: a new letter in place of the old one.
    dead(&home, &server, &["retry", &number]);
    wait_for_letters(&watcher, 3);
    watcher.goals_are_settled();
    let again = letters(&home, &server);
    assert_eq!((again.len(), &again[0]["payload"]), (3, &"{nonsense".into()));
    assert_ne!(again[0]["number"].to_string(), number);

    assert_eq!(dead(&home, &server, &["drop", "--all"]).lines().count(), 3);
    let url = server.url();
    let (_, said) = home.printed(1, &["dead", "drop", &number, "--nats", &url]);
    assert!(said.contains(&format!("no dead letter {number}")), "{said}");
    assert!(letters(&home, &server).is_empty());
    up.terminate();
}

#[test]
fn a_published_goal_brings_files_and_one_with_a_path_out_of_its_workspace_becomes_a_letter() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::start(&home, &["--nats", &server.url(), "--set", "sandbox=reduced"]);
    watcher.goals_are_taken_in();
    let goal = |path: &str| {
        let code = "```bash\necho more >> a.txt\n```";
        let files = [json!({ "name": path, "text": "first\n" })];
        json!({ "goal": code, "files": files, "check": "grep more a.txt" }).to_string()
    };
    watcher.publish(Some("escape"), goal("../a.txt"));
    watcher.publish(Some("files"), goal("a.txt"));
    watcher.sessions_end(1);
    watcher.goals_are_settled();

    let session = up.http.get("/supervisor/sessions/files");
    assert_eq!(session["status"], "success", "{session}");
    let listed = up.http.get("/supervisor/sessions/files/files");
    assert_eq!(listed["changes"][0]["path"], "a.txt", "{listed}");
    assert_eq!(listed["changes"][0]["file"]["bytes"], 11, "{listed}");
    wait_for_letters(&watcher, 1);
    let letters = letters(&home, &server);
    assert_eq!((letters.len(), &letters[0]["key"]), (1, &"escape".into()), "{letters:?}");
    assert!(letters[0]["reason"].as_str().unwrap().contains("\"../a.txt\""), "{letters:?}");
    up.terminate();
}

/// Takes the one goal that waits, and sends it back, so often.
fn hand_back(watcher: &Watcher, times: usize) {
    let context = watcher.jetstream();
    watcher.wait(async {
        let stream = context.get_stream("FACTORY_GOALS").await.unwrap();
        let consumer: PullConsumer = stream.get_consumer("factory-goals").await.unwrap();
        for _ in 0..times {
            let mut goals = consumer.batch().max_messages(1).messages().await.unwrap();
            let goal = goals.next().await.unwrap().unwrap();
            goal.double_ack_with(AckKind::Nak(None)).await.unwrap();
        }
    });
}

/// A goal that was handed out so often while the factory was away is a letter when it is back.
fn handed_out_in_vain(times: usize) {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let url = server.url();
    let few = ["--nats", &url, "--set", "nats_goal_deliveries_max=2"];
    let up = Up::start(&home, &few);
    watcher.goals_are_taken_in();
    // It asks for goals once both are there.
    while watcher.consumer().is_none() {
        thread::park_timeout(LOOK);
    }
    up.terminate();
    watcher.publish(Some("poison"), "Crash before you note it");
    hand_back(&watcher, times);
    let up = Up::start(&home, &few);
    wait_for_letters(&watcher, 1);
    watcher.goals_are_settled();
    let kept = letters(&home, &server);
    assert_eq!((&kept[0]["key"], kept.len()), (&"poison".into(), 1));
    assert!(kept[0]["reason"].as_str().unwrap().contains("after 2 deliveries"), "{kept:?}");
    assert!(home.json(&["sessions"]).as_array().unwrap().is_empty(), "it was not tried");
    // By a key of its own: the stream knows the old one.
    dead(&home, &server, &["retry", &kept[0]["number"].to_string()]);
    while home.json(&["sessions"]).as_array().unwrap().len() != 1 {
        thread::park_timeout(LOOK);
    }
    assert_eq!(state(&watcher, DEAD).unwrap().messages, 0);
    up.terminate();
}

#[test]
fn a_goal_that_was_handed_out_too_often_is_not_tried_and_becomes_a_letter() {
    handed_out_in_vain(2);
}

#[test]
fn a_goal_that_the_server_hands_out_no_more_becomes_a_letter_too() {
    handed_out_in_vain(5);
}

#[test]
fn a_goal_that_kills_the_factory_each_time_is_given_up_and_leaves_a_letter_and_others_are_done() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let bell = Bell::new(&home);
    let url = server.url();
    let twice = ["--nats", &url, "--set", "session_resumes_max=2"];
    let up = Up::start(&home, &twice);
    watcher.goals_are_taken_in();
    watcher.publish(Some("poison"), bell.goal());
    let mut running = up.running;
    for _ in 0..3 {
        let ring = bell.rung();
        running.killed();
        ring.assert_gone();
        running = Up::start(&home, &twice).running;
    }
    wait_for_letters(&watcher, 1);
    watcher.publish(None, "Greet me");
    watcher.sessions_end(2);
    let kept = letters(&home, &server);
    assert_eq!(kept.len(), 1);
    assert!(kept[0]["reason"].as_str().unwrap().contains("resumed 2 times"), "{kept:?}");
    let sessions = home.json(&["sessions"]);
    assert_eq!(sessions[1]["session_id"], kept[0]["session"]);
    assert_eq!((&sessions[1]["end"], &sessions[0]["end"]), (&"failed".into(), &"completed".into()));

    dead(&home, &server, &["retry", "--all"]);
    drop(bell.rung());
    watcher.sessions_end(1);
    let again = home.json(&["sessions"])[0].clone();
    assert_eq!((&again["goal"], &again["end"]), (&sessions[1]["goal"], &"completed".into()));
    assert!(letters(&home, &server).is_empty());
    running.killed();
}
