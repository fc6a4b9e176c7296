//! What a stream refuses is a state that is told, and no loop: one event for good, every event, or
//! whatever comes while it is full.

use ai_factory_schemas::envelope::Recorded;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use serde_json::json;

use super::{
    super::{LOOK, Up, Watcher, head, logged, wait_for_health, wait_for_reason},
    EVENTS,
    events::{assert_all_is_kept, make, run},
    messages, positions, state, wait_until_kept,
};
use crate::support::{
    nats::{JetStream, TestServer},
    process::TestHome,
};

/// Runs a program that prints so much.
fn print(up: &Up, chars: usize) {
    let goal = format!("Print:\n```python\nprint('x' * {chars})\n```");
    let (status, _) = up.http.post_plain("/supervisor/run", &json!({ "goal": goal })).unwrap();
    assert_eq!(status, 200);
}

/// Changes the limits of the stream.
fn change(watcher: &Watcher, how: impl FnOnce(&mut Config)) {
    let context = watcher.jetstream();
    watcher.wait(async {
        let mut config = context.get_stream(EVENTS).await.unwrap().cached_info().config.clone();
        how(&mut config);
        context.update_stream(config).await.unwrap();
    });
}

/// Waits until the last event of the journal is in the stream.
fn wait_for_the_last(home: &TestHome, watcher: &Watcher) -> Vec<u64> {
    let end = head(home);
    loop {
        let count = state(watcher, EVENTS).unwrap().messages;
        let kept = if count == 0 { Vec::new() } else { positions(watcher, count) };
        if kept.last() == Some(&end) {
            return kept;
        }
        std::thread::park_timeout(LOOK);
    }
}

#[test]
fn two_events_in_a_row_that_are_too_large_are_left_out_named_once_and_told_and_no_other() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| config.max_message_size = 3_000);
    let up = Up::with(&home, &server);
    run(&up, 1);
    print(&up, 3_000);
    run(&up, 1);
    let kept = wait_for_the_last(&home, &watcher);
    let end = head(&home);
    let missing: Vec<_> = (1..=end).filter(|position| !kept.contains(position)).collect();
    assert!(missing.len() >= 2 && missing.windows(2).any(|pair| pair[1] == pair[0] + 1));
    assert!(kept.is_sorted(), "{kept:?}");
    let newest = format!(
        "{} left out of events, the newest at position {}",
        missing.len(),
        missing.last().unwrap()
    );
    let told = wait_for_reason(&up, &[&newest]);
    assert!(told.contains("max_msg_size") && told.contains("3000"), "{told}");
    let named = logged(&home, "left out of events");
    assert_eq!(named.len(), missing.len(), "{named:?}");
    for position in &missing {
        assert!(named.iter().any(|line| line.contains(&format!("position={position}"))));
    }
    // A new connection, and a new start, change nothing of it.
    up.terminate();
    let up = Up::with(&home, &server);
    run(&up, 1);
    let kept = wait_for_the_last(&home, &watcher);
    assert!(missing.iter().all(|position| !kept.contains(position)) && kept.is_sorted());
    up.terminate();
}

#[test]
fn a_stream_that_takes_no_event_at_all_costs_a_few_lines_and_gets_what_comes_once_it_takes_some() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| config.max_message_size = 50);
    let up = Up::with(&home, &server);
    run(&up, 10);
    let before = head(&home);
    let all = format!("{before} left out of events, the newest at position {before}");
    wait_for_reason(&up, &[&all]);
    let named = logged(&home, "left out of events").len();
    assert!((10..=20).contains(&named), "{named} lines for {before} events");
    assert_eq!(state(&watcher, EVENTS).unwrap().messages, 0);
    change(&watcher, |config| config.max_message_size = -1);
    // The stream's limits are looked at again after a while.
    while state(&watcher, EVENTS).unwrap().messages == 0 {
        run(&up, 1);
    }
    run(&up, 1);
    let kept = wait_for_the_last(&home, &watcher);
    assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1), "{kept:?}");
    up.terminate();
}

#[test]
fn limits_that_are_lowered_while_it_runs_leave_out_just_what_they_exclude() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    run(&up, 2);
    assert_all_is_kept(&home, &watcher);
    change(&watcher, |config| config.max_message_size = 3_000);
    print(&up, 3_000);
    print(&up, 3_000);
    run(&up, 1);
    let kept = wait_for_the_last(&home, &watcher);
    let left_out = head(&home) - kept.len() as u64;
    assert!(left_out >= 4 && kept.is_sorted(), "{kept:?}");
    wait_for_reason(&up, &[&format!("{left_out} left out of events")]);
    up.terminate();
}

#[test]
fn a_stream_that_is_full_is_told_and_gets_everything_in_order_when_there_is_room() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    make(&watcher, |config| {
        config.discard = DiscardPolicy::New;
        config.max_messages = 3;
    });
    let up = Up::with(&home, &server);
    run(&up, 2);
    let told = wait_for_reason(&up, &["events wait", "maximum messages exceeded"]);
    assert!(!told.contains("left out"), "{told}");
    assert_eq!(state(&watcher, EVENTS).unwrap().messages, 3);
    // The one that is due is tried alone: everybody who listens hears each try.
    let mut due = 0;
    while due < 3 {
        due += u32::from(watcher.event().position == 4);
    }
    run(&up, 2);
    change(&watcher, |config| config.max_messages = -1);
    assert_all_is_kept(&home, &watcher);
    wait_for_health(&up, "ok");
    assert_eq!(logged(&home, "events wait to be published").len(), 1);
    assert_eq!(logged(&home, "events are published again").len(), 1);
    up.terminate();
}

#[test]
fn a_stream_that_is_full_in_bytes_waits_for_room_and_leaves_out_only_what_never_fits() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| {
        config.discard = DiscardPolicy::New;
        config.max_bytes = 6_000;
    });
    let up = Up::with(&home, &server);
    print(&up, 7_000);
    run(&up, 3);
    wait_for_reason(&up, &["events wait", "maximum bytes exceeded"]);
    let context = watcher.jetstream();
    let end = head(&home);
    let mut seen = Vec::new();
    // Its owner makes room again and again.
    while seen.last() != Some(&end) {
        let count = state(&watcher, EVENTS).unwrap().messages;
        let kept = if count == 0 { Vec::new() } else { messages(&watcher, EVENTS, count) };
        seen.extend(kept.iter().map(|kept| Recorded::decode(&kept.payload).unwrap().position));
        watcher.wait(async {
            let stream = context.get_stream(EVENTS).await.unwrap();
            for kept in &kept {
                stream.delete_message(kept.info().unwrap().stream_sequence).await.unwrap();
            }
        });
        std::thread::park_timeout(LOOK);
    }
    let told = wait_for_reason(&up, &["left out of events", "max_bytes"]);
    let missing: Vec<_> = (1..=end).filter(|position| !seen.contains(position)).collect();
    let count = format!("{} left out of events", missing.len());
    assert!(told.contains(&count), "{missing:?}, but: {told}; seen: {seen:?}");
    up.terminate();
}

#[test]
fn events_for_which_the_stream_is_full_for_their_subject_alone_are_left_out() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| {
        config.discard = DiscardPolicy::New;
        config.max_messages_per_subject = 1;
        config.discard_new_per_subject = true;
    });
    let up = Up::with(&home, &server);
    let step = "```python\nprint(1)\n```\n";
    let goal = json!({ "goal": format!("1. One:\n{step}\n2. Two:\n{step}\n3. Three:\n{step}") });
    assert_eq!(up.http.post_plain("/supervisor/run", &goal).unwrap().0, 200);
    run(&up, 1);
    let kept = wait_for_the_last(&home, &watcher);
    let left_out = head(&home) - kept.len() as u64;
    assert!(left_out > 0 && kept.is_sorted());
    wait_for_reason(&up, &[&format!("{left_out} left out of events"), "per subject"]);
    up.terminate();
}

#[test]
fn a_stream_that_is_deleted_while_it_runs_is_made_again_with_everything() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    run(&up, 2);
    assert_all_is_kept(&home, &watcher);
    let context = watcher.jetstream();
    for stream in [EVENTS, "KV_FACTORY_SESSIONS", "FACTORY_GOALS", "FACTORY_DEAD"] {
        watcher.wait(async { context.delete_stream(stream).await.unwrap() });
    }
    run(&up, 2);
    assert_all_is_kept(&home, &watcher);
    wait_for_health(&up, "ok");
    up.terminate();
}

#[test]
fn a_server_that_denies_events_is_told_and_the_log_stays_short() {
    let denied = "authorization { users = [ { user: a, password: b, permissions: { publish: { deny: \
                  \"factory.events.>\" } } } ] }\nno_auth_user: a\n";
    let (home, server) = (TestHome::new(), TestServer::start_as(JetStream::On, denied));
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    run(&up, 3);
    wait_for_reason(&up, &["events wait", "did not acknowledge", "Permissions Violation"]);
    assert_eq!(state(&watcher, EVENTS).unwrap().messages, 0);
    assert!(logged(&home, "from the NATS server").len() < 10);
    assert!(logged(&home, "wait to be published").len() < 5);
    up.terminate();
}

#[test]
fn an_event_that_is_too_large_for_a_server_without_streams_is_left_out_and_told() {
    let small = "max_payload: 3000\n";
    let (home, server) = (TestHome::new(), TestServer::start_as(JetStream::Off, small));
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    print(&up, 3_000);
    run(&up, 1);
    wait_for_reason(&up, &["left out of events", "too large"]);
    watcher.sessions_end(1);
    up.terminate();
}

#[test]
fn a_bucket_that_is_full_is_told_and_events_go_on() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let context = watcher.jetstream();
    let bucket = Config {
        name: "KV_FACTORY_SESSIONS".to_owned(),
        subjects: vec!["$KV.FACTORY_SESSIONS.>".to_owned()],
        max_messages_per_subject: 1,
        max_messages: 1,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    watcher.wait(async { context.create_stream(bucket).await.unwrap() });
    let up = Up::with(&home, &server);
    run(&up, 3);
    wait_for_reason(&up, &["states of sessions wait", "maximum messages exceeded"]);
    wait_until_kept(&watcher, head(&home));
    up.terminate();
}
