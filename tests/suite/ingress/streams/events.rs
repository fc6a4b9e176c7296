//! The stream of the events: each once, in order, whatever happens to server and factory.

use std::{collections::BTreeMap, thread, time::Duration};

use ai_factory_schemas::envelope::Recorded;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use serde_json::json;

use super::{
    super::{LOOK, Up, Watcher, head, wait_for_health},
    EVENTS, messages, positions, state, wait_until_kept,
};
use crate::support::{
    nats::{JetStream, TestServer},
    process::TestHome,
};

pub fn run(up: &Up, goals: usize) {
    for number in 0..goals {
        let goal = json!({ "goal": format!("Think about number {number}") });
        assert_eq!(up.http.post_plain("/supervisor/run", &goal).unwrap().0, 200);
    }
}

/// Everything that is recorded is in the stream, each once and in order.
pub fn assert_all_is_kept(home: &TestHome, watcher: &Watcher) {
    let end = head(home);
    wait_until_kept(watcher, end);
    assert_eq!(state(watcher, EVENTS).unwrap().messages, end);
    assert_eq!(positions(watcher, end), (1..=end).collect::<Vec<_>>(), "each once, in order");
}

/// Makes the stream by hand.
pub fn make(watcher: &Watcher, change: impl FnOnce(&mut Config)) {
    let mut config = Config {
        name: EVENTS.to_owned(),
        subjects: vec!["factory.events.>".to_owned()],
        ..Config::default()
    };
    change(&mut config);
    let context = watcher.jetstream();
    watcher.wait(async { context.create_stream(config).await.unwrap() });
}

#[test]
fn every_event_is_in_the_stream_as_it_is_on_disk_under_its_id_and_position() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    run(&up, 3);
    assert_all_is_kept(&home, &watcher);
    up.terminate();
    let records = home.records();
    let kept = messages(&watcher, EVENTS, records.len() as u64);
    let first = Recorded::decode(&kept[0].payload).unwrap().id.to_string();
    for (number, message) in kept.iter().enumerate() {
        let recorded = Recorded::decode(&message.payload).unwrap();
        let header = |name| message.headers.as_ref().unwrap().get(name).unwrap().as_str();
        assert_eq!(header("Nats-Msg-Id"), recorded.id.to_string());
        assert_eq!(header("Factory-Position"), (number + 1).to_string());
        assert_eq!(header("Factory-Journal"), first);
        assert!(
            message.subject.starts_with(&format!("factory.events.{}", recorded.stream.category))
        );
    }
}

#[test]
fn a_server_that_lost_its_store_gets_every_event_again_without_anything_happening() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    run(&up, 3);
    assert_all_is_kept(&home, &watcher);
    server.kill();
    server.with_store(None);
    server.again();
    assert_all_is_kept(&home, &watcher);
    run(&up, 1);
    assert_all_is_kept(&home, &watcher);
    up.terminate();
}

#[test]
fn a_server_that_lost_what_came_last_gets_just_that_again() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    run(&up, 2);
    assert_all_is_kept(&home, &watcher);
    server.kill();
    let earlier = server.store();
    server.again();
    run(&up, 3);
    assert_all_is_kept(&home, &watcher);
    server.kill();
    server.with_store(Some(&earlier));
    server.again();
    assert_all_is_kept(&home, &watcher);
    up.terminate();
}

#[test]
fn a_factory_that_is_killed_publishes_nothing_twice_also_where_the_stream_forgets_ids_at_once() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| config.duplicate_window = Duration::from_millis(100));
    for _ in 0..3 {
        let up = Up::with(&home, &server);
        run(&up, 2);
        up.running.killed();
    }
    let up = Up::with(&home, &server);
    assert_all_is_kept(&home, &watcher);
    up.terminate();
}

#[test]
fn what_the_streams_owner_removed_is_not_published_again() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    run(&up, 2);
    assert_all_is_kept(&home, &watcher);
    up.terminate();
    let before = head(&home);
    let context = watcher.jetstream();
    watcher.wait(async {
        context.get_stream(EVENTS).await.unwrap().purge().await.unwrap();
    });
    let up = Up::with(&home, &server);
    run(&up, 1);
    let end = head(&home);
    wait_until_kept(&watcher, end - before);
    up.terminate();
    assert_eq!(positions(&watcher, end - before), (before + 1..=end).collect::<Vec<_>>());
}

#[test]
fn events_that_were_recorded_without_jetstream_come_into_the_stream_when_there_is_one() {
    let home = TestHome::new();
    let without = TestServer::start_with(JetStream::Off);
    let up = Up::with(&home, &without);
    run(&up, 2);
    up.terminate();
    let server = TestServer::start();
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    assert_all_is_kept(&home, &watcher);
    up.terminate();
}

#[test]
fn a_stream_that_does_not_fit_is_told_and_left_alone_and_events_wait_until_it_does() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| config.retention = RetentionPolicy::WorkQueue);
    let up = Up::with(&home, &server);
    run(&up, 1);
    let told = wait_for_health(&up, "degraded");
    assert!(told.contains(EVENTS) && told.contains("work queue, not limits"), "{told}");
    assert!(told.contains("nats_events_stream"), "{told}");
    assert_eq!(state(&watcher, EVENTS).unwrap().messages, 0);
    let context = watcher.jetstream();
    watcher.wait(async {
        context.delete_stream(EVENTS).await.unwrap();
    });
    assert_all_is_kept(&home, &watcher);
    wait_for_health(&up, "ok");
    up.terminate();
}

#[test]
fn another_stream_with_the_same_subjects_is_named_and_can_be_used_by_its_name() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| "MINE".clone_into(&mut config.name));
    let up = Up::with(&home, &server);
    run(&up, 1);
    let told = wait_for_health(&up, "degraded");
    assert!(told.contains("another stream takes factory.events.>"), "{told}");
    up.terminate();
    let url = server.url();
    let up = Up::start(&home, &["--nats", &url, "--set", "nats_events_stream=MINE"]);
    let end = head(&home);
    while state(&watcher, "MINE").unwrap().messages < end {
        thread::park_timeout(LOOK);
    }
    up.terminate();
}

#[test]
fn an_event_that_the_stream_finds_too_large_is_left_out_and_no_other() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| config.max_message_size = 20_000);
    let up = Up::with(&home, &server);
    run(&up, 1);
    let before = head(&home);
    let note = json!({ "text": "x".repeat(30_000) });
    assert_eq!(up.http.post_plain("/memory/remember", &note).unwrap().0, 200);
    run(&up, 1);
    let end = head(&home);
    wait_until_kept(&watcher, end - 1);
    up.terminate();
    let expected: Vec<_> = (1..=end).filter(|position| *position != before + 1).collect();
    assert_eq!(positions(&watcher, end - 1), expected);
}

#[test]
fn four_busy_factories_share_a_stream_and_each_ones_events_are_there_once_and_in_order() {
    let (places, server) = ([(); 4].map(|()| TestHome::new()), TestServer::start());
    let watcher = Watcher::at(&server);
    let load = |up: &Up| run(up, 15);
    thread::scope(|scope| {
        for home in &places {
            scope.spawn(|| {
                let up = Up::with(home, &server);
                load(&up);
                up.running.killed();
                let up = Up::with(home, &server);
                load(&up);
                let (end, journal) = (head(home), home.events()[0].id.to_string());
                let kept = || positions_by_journal(&watcher).get(&journal).map_or(0, Vec::len);
                while kept() as u64 != end {
                    thread::park_timeout(LOOK);
                }
                up.terminate();
            });
        }
    });
    let by_journal = positions_by_journal(&watcher);
    let mut ends: Vec<_> = by_journal.values().map(|all| all.len() as u64).collect();
    let mut expected: Vec<_> = places.iter().map(head).collect();
    ends.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ends, expected);
    for positions in by_journal.values() {
        assert_eq!(*positions, (1..=positions.len() as u64).collect::<Vec<_>>());
    }
}

/// The positions of each journal in the stream, in the stream's order.
fn positions_by_journal(watcher: &Watcher) -> BTreeMap<String, Vec<u64>> {
    let count = state(watcher, EVENTS).map_or(0, |state| state.messages);
    let mut by_journal: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    if count == 0 {
        return by_journal;
    }
    for message in messages(watcher, EVENTS, count) {
        let headers = message.headers.as_ref().unwrap();
        let journal = headers.get("Factory-Journal").unwrap().as_str().to_owned();
        let position = headers.get("Factory-Position").unwrap().as_str().parse().unwrap();
        by_journal.entry(journal).or_default().push(position);
    }
    by_journal
}
