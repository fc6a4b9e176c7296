//! Two factories on one server, and a flood of goals: everybody is served.

use std::{collections::BTreeSet, thread};

use ai_factory_schemas::{event::Event, session::SessionEvent};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    super::{LOOK, Up, Watcher, body},
    state,
};
use crate::support::{
    nats::{JetStream, TestServer},
    process::{Bell, Place},
};

/// How many goals come at once.
const FLOOD: usize = 1_000;
/// How many of them are on their way to the server at a time.
const AT_A_TIME: usize = 500;

/// The goals whose sessions were opened here, in order.
fn opened(place: &Place) -> Vec<String> {
    let opened = place.events().into_iter().filter_map(|recorded| match recorded.event {
        Event::Session(SessionEvent::Opened(session)) => Some(session.goal),
        _ => None,
    });
    opened.collect()
}

#[test]
fn goals_that_a_killed_factory_had_no_room_for_go_to_the_other() {
    let (places, server) = ([Place::new(), Place::new()], TestServer::start());
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
    other.told_to_end();
    let done = opened(&places[1]);
    assert_eq!(done.len(), goals.len(), "each once");
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), goals);
    assert_eq!(opened(&places[0]).len(), 1, "a session stays with its journal");
}

#[test]
fn a_thousand_goals_at_once_are_each_done_once_and_others_are_answered_meanwhile() {
    let (place, server) = (Place::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&place, &server);
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
    up.told_to_end();
    let opened = opened(&place);
    assert_eq!(opened.len(), FLOOD);
    assert_eq!(opened.into_iter().collect::<BTreeSet<_>>().len(), FLOOD);
    assert_eq!(state(&watcher, "FACTORY_DEAD").unwrap().messages, 0);
}

#[test]
fn a_reply_subject_that_nobody_listens_on_hurts_nobody() {
    let (place, server) = (Place::new(), TestServer::start_with(JetStream::Off));
    let watcher = Watcher::at(&server);
    let up = Up::with(&place, &server);
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
    while place.json(&["show", id])["status"] != "success" {
        thread::park_timeout(LOOK);
    }
    up.told_to_end();
    assert_eq!(opened(&place).len(), 3);
}
