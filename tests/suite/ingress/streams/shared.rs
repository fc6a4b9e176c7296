//! Two factories on one server, and floods of goals and requests: everybody is served.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use ai_factory_schemas::{event::Event, session::SessionEvent};
use async_nats::{Client, jetstream};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;

use super::{
    super::{LOOK, Up, Watcher, body, header},
    state,
};
use crate::support::{
    nats::{JetStream, TestServer},
    process::{Bell, TestHome},
};

/// How many goals come at once: the queue holds them, and 64 are being taken in, as with ten times
/// as many, which would keep a small machine busy for minutes.
const FLOOD: usize = 1_000;
/// How many of them are on their way to the server at a time.
const AT_A_TIME: usize = 500;

/// The goals whose sessions were opened here, in order.
fn opened(home: &TestHome) -> Vec<String> {
    let opened = home.events().into_iter().filter_map(|recorded| match recorded.event {
        Event::Session(SessionEvent::Opened(session)) => Some(session.goal),
        _ => None,
    });
    opened.collect()
}

#[test]
fn goals_that_a_killed_factory_had_no_room_for_go_to_the_other() {
    let (places, server) = ([TestHome::new(), TestHome::new()], TestServer::start());
    let watcher = Watcher::at(&server);
    let bell = Bell::new(&places[0]);
    let url = server.url();
    let full = Up::start(&places[0], &["--nats", &url, "--set", "sessions_max=1"]);
    watcher.goals_are_taken_in();
    watcher.publish(None, bell.goal());
    let ring = bell.rung();
    let goals: BTreeSet<_> = (0..5).map(|number| format!("Think about {number}")).collect();
    for goal in &goals {
        watcher.publish(None, goal.clone());
    }
    let other = Up::with(&places[1], &server);
    full.running.killed();
    ring.assert_gone();
    watcher.goals_are_settled();
    other.terminate();
    let done = opened(&places[1]);
    assert_eq!(done.len(), goals.len(), "each once");
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), goals);
    assert_eq!(opened(&places[0]).len(), 1, "a session stays with its journal");
}

#[test]
fn a_thousand_goals_at_once_are_each_done_once_and_others_are_answered_meanwhile() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    let context: jetstream::Context = watcher.jetstream();
    for part in 0..FLOOD / AT_A_TIME {
        watcher.wait(async {
            let sent = (0..AT_A_TIME).map(|number| {
                let goal = format!("Think about {}", part * AT_A_TIME + number);
                let context = context.clone();
                async move {
                    context
                        .publish("factory.goals", Bytes::from(goal))
                        .await
                        .unwrap()
                        .await
                        .unwrap()
                }
            });
            join_all(sent).await
        });
        assert_eq!(up.http.get("/healthcheck")["status"], "ok");
    }
    watcher.goals_are_settled();
    up.terminate();
    let opened = opened(&home);
    assert_eq!(opened.len(), FLOOD);
    assert_eq!(opened.into_iter().collect::<BTreeSet<_>>().len(), FLOOD);
    assert_eq!(state(&watcher, "FACTORY_DEAD").unwrap().messages, 0);
}

#[test]
fn a_reply_subject_that_nobody_listens_on_hurts_nobody() {
    let (home, server) = (TestHome::new(), TestServer::start_with(JetStream::Off));
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    // Until it listens.
    watcher.ask("factory.goals", b"Greet me");
    for payload in [&b"Greet nobody"[..], b"{\"goal\": 7}", b"\xff\xfe\x00"] {
        let payload = Bytes::copy_from_slice(payload);
        watcher.wait(async {
            let client = &watcher.client;
            client.publish_with_reply("factory.goals", "nobody.is.here", payload).await.unwrap();
            client.flush().await.unwrap();
        });
    }
    let after = body(&watcher.ask("factory.goals", b"Greet me after that"));
    let id = after["session_id"].as_str().unwrap();
    while home.json(&["show", id])["status"] != "success" {
        thread::park_timeout(LOOK);
    }
    up.terminate();
    assert_eq!(opened(&home).len(), 3);
}

/// How many requests the flood keeps under way: ten times what one service takes.
const REQUESTS_AT_ONCE: usize = 200;

#[test]
fn ten_times_what_can_be_served_and_a_subscriber_that_does_not_read_leave_others_served() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let url = server.url();
    let few = ["--nats", &url, "--set", "requests_waiting_max=20"];
    let up = Up::start(&home, &few);
    // Until it listens: the silent one would be somebody who listens, and the server would not say
    // that nobody answers.
    watcher.ask("factory.supervisor.run", b"{\"goal\": \"Before the flood\"}");
    // It asks for everything, and looks at nothing of it.
    let mut silent = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
    silent.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\n").unwrap();
    let (client, is_over) = (watcher.client(), AtomicBool::new(false));
    let (done, refused) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&watcher, &client, &is_over));
        for number in 0..OTHERS {
            let goal = json!({ "goal": format!("Among the flood {number}") });
            let answered = || up.http.post("/supervisor/run", &format!("other-{number}"), &goal);
            // One who is told to come again does so.
            while answered().unwrap().0 != 200 {
                assert_eq!(up.http.get("/healthcheck")["status"], "ok");
            }
        }
        is_over.store(true, Ordering::Relaxed);
        flooding.join().unwrap()
    });
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
    up.terminate();
    let opened = opened(&home);
    assert_eq!(
        opened.len(),
        1 + done + OTHERS,
        "who is refused has no session, everybody else one"
    );
}

/// How many are served among the flood.
const OTHERS: usize = 20;

/// Keeps requests under way, each of which is answered: with a session, or at once with the word to
/// try again. Answers with how many were served and how many refused.
fn flood(watcher: &Watcher, client: &Client, is_over: &AtomicBool) -> (usize, usize) {
    let one = async |number: usize| {
        let (mut done, mut refused) = (0, 0);
        while !is_over.load(Ordering::Relaxed) {
            let goal = format!("{{\"goal\": \"Flood {number} {done} {refused}\"}}");
            let asked = client.request("factory.supervisor.run", goal.into()).await.unwrap();
            match header(&asked, "Nats-Service-Error-Code") {
                None => done += 1,
                Some(code) => {
                    assert_eq!(code, "503");
                    assert!(header(&asked, "Retry-After").is_some());
                    refused += 1;
                }
            }
        }
        (done, refused)
    };
    let all = watcher.wait(join_all((0..REQUESTS_AT_ONCE).map(one)));
    all.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}
