//! The Rust client when the NATS server goes away: for a while, or for good.

use std::{sync::Arc, time::Duration};

use ai_factory::client::{Client, ClientSettings, Events, WatchError};
use ai_factory_schemas::{
    envelope::Recorded, id::CommandId, request::SearchMemory, session::SessionStatus,
};
use serde_json::json;
use tokio::{runtime::Runtime, time::timeout};

use super::examples::up;
use crate::{
    ingress::{Http, Watcher, head, streams::wait_until_kept},
    support::{
        nats::{JetStream, TestServer},
        process::{Bell, PATIENCE, TestHome},
    },
};

/// How long a server may be away where it is not meant to come back.
const AWAY_MAX: Duration = Duration::from_millis(500);

fn impatient(server: &TestServer) -> ClientSettings {
    ClientSettings { server_away_max: AWAY_MAX, ..ClientSettings::at(&server.url()) }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("in time")
}

/// Events up to one of that name, with it.
async fn up_to(events: &mut Events, name: &str) -> Result<Vec<Recorded>, WatchError> {
    let mut told = Vec::new();
    loop {
        told.push(in_time(events.next()).await?);
        if told.last().is_some_and(|event| event.event.name() == name) {
            return Ok(told);
        }
    }
}

fn positions(events: &[Recorded]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

/// Has a session done while nobody can be told of it.
fn greet(http: &Http) {
    let goal = json!({ "goal": "Greet" });
    assert_eq!(http.post_plain("/supervisor/run", &goal).unwrap().0, 200);
}

/// Waits until the stream has what is recorded.
fn kept(home: &TestHome, server: &TestServer) {
    wait_until_kept(&Watcher::at(server), head(home));
}

#[test]
fn a_server_that_is_gone_for_good_ends_every_wait_with_a_word() {
    for jetstream in [JetStream::On, JetStream::Off] {
        let (home, mut server) = (TestHome::new(), TestServer::start_with(jetstream));
        let up = up(&home, &server);
        let bell = Bell::new(&home);
        if jetstream == JetStream::On {
            kept(&home, &server);
        }
        let runtime = Runtime::new().unwrap();
        let (factory, mut events) = runtime.block_on(async {
            let factory = Client::connect_with(impatient(&server)).await.unwrap();
            let events = factory.watch(None).await.unwrap();
            (Arc::new(factory), events)
        });
        let (asking, goal) = (Arc::clone(&factory), bell.goal());
        let running = runtime.spawn(async move { asking.run(&goal, None).await });
        let _ring = bell.rung();
        runtime.block_on(async { up_to(&mut events, "run.dispatched").await.unwrap() });
        server.kill();
        runtime.block_on(async {
            let away = WatchError::ServerAway { limit: AWAY_MAX };
            let last = loop {
                match in_time(events.next()).await {
                    Ok(_) => {}
                    Err(WatchError::Interrupted { after }) => {
                        assert!(after > 0 && jetstream == JetStream::Off);
                    }
                    Err(last) => break last,
                }
            };
            assert_eq!(last, away);
            assert_eq!(in_time(events.next()).await.unwrap_err(), away, "and again");
            let ran = in_time(running).await.unwrap().unwrap_err();
            let submitted = in_time(factory.submit("Greet", None)).await.unwrap_err();
            let asked = SearchMemory { q: "tulips".into(), ..SearchMemory::default() };
            let searched = in_time(factory.search(&asked)).await.unwrap_err();
            let watched = in_time(factory.watch(None)).await.err().unwrap();
            for problem in [ran, submitted, searched, watched] {
                assert_eq!((problem.status, problem.sentence()), (503, away.to_string()));
            }
            // Nobody has been there since it was begun.
            let late = Client::connect_with(impatient(&server)).await.unwrap();
            let submitted = in_time(late.submit("Greet", None)).await.unwrap_err();
            assert_eq!(submitted.sentence(), away.to_string());
        });
        up.terminate();
    }
}

#[test]
fn a_client_that_bears_an_outage_gets_its_answer_and_each_event_once_and_in_order() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let up = up(&home, &server);
    let bell = Bell::new(&home);
    let runtime = Runtime::new().unwrap();
    // Something is in the stream already, and is not told of.
    greet(&up.http);
    kept(&home, &server);
    let (factory, mut events) = runtime.block_on(async {
        let factory = Client::connect(&server.url()).await.unwrap();
        let events = factory.watch(None).await.unwrap();
        (Arc::new(factory), events)
    });
    let (asking, goal) = (Arc::clone(&factory), bell.goal());
    let running = runtime.spawn(async move {
        let key: CommandId = "once".parse().unwrap();
        asking.run(&goal, Some(&key)).await
    });
    let ring = bell.rung();
    let mut told = runtime.block_on(async { up_to(&mut events, "run.dispatched").await.unwrap() });
    server.kill();
    // The session of the client comes to its end, and another one is done.
    drop(ring);
    greet(&up.http);
    server.again();
    runtime.block_on(async {
        let ran = in_time(running).await.unwrap().unwrap();
        assert_eq!(ran.status, SessionStatus::Success);
        let submitted = in_time(factory.submit("One more", None)).await.unwrap();
        let is_last = |event: &Recorded| {
            event.event.name() == "session.concluded"
                && event.trail.correlation == Some(submitted.session_id.0)
        };
        while !told.last().is_some_and(is_last) {
            told.push(in_time(events.next()).await.unwrap());
        }
        factory.close().await;
        while !matches!(in_time(events.next()).await, Err(WatchError::Closed)) {}
    });
    let positions = positions(&told);
    let (first, last) = (positions[0], *positions.last().unwrap());
    assert!(first > 1, "what was before is not told of");
    assert_eq!(positions, (first..=last).collect::<Vec<_>>());
    up.terminate();
    let sessions = home.json(&["sessions"]);
    let goals: Vec<_> =
        sessions.as_array().unwrap().iter().map(|row| row["goal"].as_str().unwrap()).collect();
    assert_eq!(goals.iter().filter(|goal| goal.starts_with("Ring")).count(), 1, "{goals:?}");
}

#[test]
fn without_a_stream_who_watches_is_told_where_events_may_be_missing() {
    let (home, mut server) = (TestHome::new(), TestServer::start_with(JetStream::Off));
    let up = up(&home, &server);
    let runtime = Runtime::new().unwrap();
    let (factory, mut events) = runtime.block_on(async {
        let factory = Client::connect(&server.url()).await.unwrap();
        let events = factory.watch(None).await.unwrap();
        (factory, events)
    });
    greet(&up.http);
    let before = runtime.block_on(async { up_to(&mut events, "session.concluded").await.unwrap() });
    let last = before.last().unwrap().position;
    server.kill();
    greet(&up.http);
    runtime.block_on(async {
        let interrupted = in_time(events.next()).await.unwrap_err();
        assert_eq!(interrupted, WatchError::Interrupted { after: last });
    });
    server.again();
    runtime.block_on(async {
        let submitted = in_time(factory.submit("One more", None)).await.unwrap();
        loop {
            let event = in_time(events.next()).await.unwrap();
            assert!(event.position > last);
            if event.trail.correlation == Some(submitted.session_id.0) {
                break;
            }
        }
        factory.close().await;
    });
    up.terminate();
}
