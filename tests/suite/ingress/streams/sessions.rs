//! The bucket of the sessions: each session's state, for who watches.

use std::thread;

use async_nats::jetstream::kv::Store;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{
    super::{LOOK, Up, Watcher, head},
    state,
};
use crate::support::{
    nats::TestServer,
    process::{Bell, TestHome},
};

const BUCKET: &str = "FACTORY_SESSIONS";

fn bucket(watcher: &Watcher) -> Store {
    let context = watcher.jetstream();
    loop {
        if let Ok(store) = watcher.wait(context.get_key_value(BUCKET)) {
            return store;
        }
        thread::park_timeout(LOOK);
    }
}

/// The state under a key, once it says this.
fn wait_for(watcher: &Watcher, id: &str, status: &str) -> Value {
    let store = bucket(watcher);
    loop {
        if let Some(found) = watcher.wait(store.get(id)).unwrap() {
            let state: Value = serde_json::from_slice(&found).unwrap();
            if state["status"] == status {
                return state;
            }
        }
        thread::park_timeout(LOOK);
    }
}

fn submit(up: &Up, goal: &str) -> String {
    let (_, answer) = up.http.post_plain("/supervisor/submit", &json!({ "goal": goal })).unwrap();
    answer["session_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_watcher_sees_a_session_run_and_end_at_positions_that_grow() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let bell = Bell::new(&home);
    let up = Up::with(&home, &server);
    let store = bucket(&watcher);
    let mut watch = watcher.wait(store.watch_all()).unwrap();
    let id = submit(&up, &bell.goal());
    let ring = bell.rung();
    let running = wait_for(&watcher, &id, "running");
    assert_eq!(running["steps"], json!({ "running": 1 }));
    assert_eq!((&running["end"], &running["session_id"]), (&Value::Null, &json!(id)));
    drop(ring);
    let ended = wait_for(&watcher, &id, "success");
    assert_eq!((&ended["end"], &ended["steps"]), (&"completed".into(), &json!({ "finished": 1 })));
    assert_eq!(ended["opened_at"], running["opened_at"]);

    let mut positions = Vec::new();
    loop {
        let entry = watcher.wait(watch.next()).unwrap().unwrap();
        assert_eq!(entry.key, id);
        let state: Value = serde_json::from_slice(&entry.value).unwrap();
        positions.push(state["position"].as_u64().unwrap());
        if state["status"] == "success" {
            break;
        }
    }
    assert!(positions.len() >= 2 && positions.is_sorted(), "{positions:?}");
    assert_eq!(positions.last().copied(), ended["position"].as_u64());
    up.terminate();
}

#[test]
fn a_bucket_that_was_lost_or_missed_a_kill_has_every_session_again() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    let mut ids = vec![submit(&up, "Think"), submit(&up, "Think again")];
    for id in &ids {
        wait_for(&watcher, id, "success");
    }
    up.running.killed();
    server.kill();
    server.with_store(None);
    server.again();
    let up = Up::with(&home, &server);
    ids.push(submit(&up, "Think once more"));
    let states: Vec<_> = ids.iter().map(|id| wait_for(&watcher, id, "success")).collect();
    assert_eq!(states[1]["goal"], "Think again");
    // A note is no session: the checkpoint passes it, and nothing is put for it.
    up.http.post_plain("/memory/remember", &json!({ "text": "A note" })).unwrap();
    let before = state(&watcher, "KV_FACTORY_SESSIONS").unwrap();
    assert_eq!(before.messages, 3);
    up.terminate();
    let end = head(&home);
    let up = Up::with(&home, &server);
    let id = submit(&up, "And a last time");
    let last = wait_for(&watcher, &id, "success");
    assert!(last["position"].as_u64().unwrap() > end);
    assert_eq!(state(&watcher, "KV_FACTORY_SESSIONS").unwrap().messages, 4);
    up.terminate();
}
