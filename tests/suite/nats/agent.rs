//! The agent protocol as it is on the wire. `§` counts the sections of the protocol's text (see
//! `src/agent_protocol`).

use std::process::Command;

use ai_factory_schemas::{event::Event, session::SessionEvent};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Asked, agent_up, found, gated, prompt, subject};
use crate::{
    ingress::{Watcher, body, header},
    support::{
        nats::TestServer,
        process::{Running, TestHome},
    },
};

const GREETING: &str = "Greet:\n```python\nprint('hello')\n```";

#[test]
fn it_is_found_as_an_agent_and_says_that_it_lives() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let client = watcher.client();
    let mut beats = watcher.wait(async {
        let beats = client.subscribe("agents.hb.*.*.*").await.unwrap();
        client.flush().await.unwrap();
        beats
    });
    let up = agent_up(&home, &server, &["--set", "agent_heartbeat_s=1"]);
    let first = watcher.wait(beats.next()).unwrap();
    assert_eq!(first.subject.as_str(), subject("hb"));
    let first = body(&first);
    let instance = first["instance_id"].as_str().unwrap().to_owned();
    let second = body(&watcher.wait(beats.next()).unwrap());
    let status = found(&watcher);
    for beat in [&first, &second, &status] {
        assert_eq!(
            (&beat["agent"], &beat["owner"], &beat["session"], &beat["interval_s"]),
            (&json!("ai-factory"), &json!("alice"), &json!("bench"), &json!(1)),
        );
        assert_eq!(beat["instance_id"], instance.as_str());
        let ts = beat["ts"].as_str().unwrap();
        assert!(ts.parse::<ai_factory_schemas::time::Timestamp>().is_ok(), "{ts}");
    }
    assert!(first["ts"].as_str() < second["ts"].as_str());

    let info = body(&watcher.ask(&format!("$SRV.INFO.agents.{instance}"), b""));
    assert_eq!(
        info["metadata"],
        json!({ "agent": "ai-factory", "owner": "alice", "session": "bench", "protocol_version": "0.3" })
    );
    let endpoints = info["endpoints"].as_array().unwrap();
    for (endpoint, name) in endpoints.iter().zip(["prompt", "status", "cancel", "events"]) {
        assert_eq!(endpoint["name"], name);
        assert_eq!(endpoint["subject"], subject(name));
        assert_eq!(endpoint["queue_group"], "agents");
    }
    assert_eq!(
        endpoints[0]["metadata"],
        json!({ "max_payload": "1048576B", "attachments_ok": "false" })
    );
    up.terminate();
}

#[test]
fn a_prompt_is_acknowledged_then_each_event_is_a_status_and_the_result_comes_last() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let plain = prompt(&watcher, &[], GREETING.as_bytes());
    let envelope = json!({ "prompt": GREETING, "attachments": [], "unknown": [1] }).to_string();
    let envelope = prompt(&watcher, &[], format!(" \n\u{feff}{envelope}").as_bytes());
    for answer in [&plain, &envelope] {
        assert_eq!(answer.chunks[0], json!({ "type": "status", "data": "ack" }));
        assert_eq!(answer.text(), "[step 0] stdout:\nhello");
        assert_eq!(answer.error.as_ref(), None);
    }
    assert_ne!(plain.session(), envelope.session());
    up.terminate();

    let recorded: Vec<_> = home
        .events()
        .into_iter()
        .filter(|event| event.stream.to_string() == format!("session-{}", plain.session()))
        .map(|event| (event.event.name().to_owned(), event.position))
        .collect();
    let told: Vec<_> = plain
        .chunks
        .iter()
        .filter_map(|chunk| Some((chunk["data"].as_str()?.to_owned(), chunk["position"].as_u64()?)))
        .collect();
    assert!(told.len() >= 6, "{told:?}");
    assert_eq!(told, recorded);
    assert_eq!(plain.chunks.last().unwrap()["type"], "response");
}

#[test]
fn a_long_result_comes_in_pieces_that_the_server_carries() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let code = "print('\"\u{fc}\\n' * 150_000)";
    let answer = prompt(&watcher, &[], format!("Print:\n```python\n{code}\n```").as_bytes());
    let expected = format!("[step 0] stdout:\n{}", "\"\u{fc}\n".repeat(150_000).trim_end());
    assert!(answer.text() == expected, "{} bytes", answer.text().len());
    let sizes: Vec<_> = answer
        .chunks
        .iter()
        .filter(|chunk| chunk["type"] == "response")
        .map(|chunk| chunk.to_string().len())
        .collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= 256 * 1024), "{sizes:?}");
    up.terminate();
}

#[test]
fn what_is_no_prompt_is_refused_with_the_protocols_own_errors() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let attached = br#"{"prompt": "x", "attachments": [{"filename": "a", "content": "eA=="}]}"#;
    let too_long = vec![b'x'; 200_000];
    for (payload, named, word) in [
        (&b""[..], &[][..], "bad_request"),
        (b"{}", &[], "bad_request"),
        (b"{\"prompt\": 1}", &[], "bad_request"),
        (b"{nonsense", &[], "bad_request"),
        (b"\xff\xfe", &[], "bad_request"),
        (attached, &[], "bad_request"),
        (b"Greet", &[("Nats-Msg-Id", "no\u{fc}key")], "bad_request"),
        (&too_long, &[], "too_large"),
    ] {
        let answer = prompt(&watcher, named, payload);
        assert!(answer.chunks.is_empty(), "{answer:?}");
        let (code, told) = answer.error.unwrap();
        assert_eq!((code.as_str(), &told["error"]), ("400", &json!(word)), "{told}");
        assert!(!told["message"].as_str().unwrap().is_empty());
    }
    let stats = body(&watcher.ask("$SRV.STATS.agents", b""));
    let counted = &stats["endpoints"][0];
    assert_eq!((&counted["num_requests"], &counted["num_errors"]), (&json!(8), &json!(8)));
    up.terminate();
    assert!(home.events().is_empty(), "nothing was recorded");
}

#[test]
fn one_prompt_too_many_is_told_to_come_again() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &["--set", "sessions_max=1"]);
    found(&watcher);
    let (goal, gate) = gated(&home);
    let mut first = Asked::ask(&watcher, "prompt", &[], goal.as_bytes());
    assert_eq!(body(&first.next(&watcher))["data"], "ack");
    let (code, told) = prompt(&watcher, &[], b"Greet").error.unwrap();
    assert_eq!((code.as_str(), &told["error"]), ("429", &json!("rate_limited")));
    assert!(told["retry_after_s"].as_f64().unwrap() > 0.0);
    std::fs::write(gate, "").unwrap();
    assert_eq!(first.rest(&watcher).text(), "[step 0] stdout:\nthrough");
    up.terminate();
}

#[test]
fn a_caller_that_is_gone_harms_neither_its_session_nor_anybody_else() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let mut gone = Asked::ask(&watcher, "prompt", &[], GREETING.as_bytes());
    gone.next(&watcher);
    drop(gone);
    // Nobody ever listened to these.
    let client = watcher.client();
    watcher.wait(async {
        let to = subject("prompt");
        client.publish_with_reply(to.clone(), "nobody.is.here", "Greet".into()).await.unwrap();
        client.publish(to, "Greet".into()).await.unwrap();
    });
    watcher.sessions_end(3);
    assert_eq!(prompt(&watcher, &[], GREETING.as_bytes()).text(), "[step 0] stdout:\nhello");
    up.terminate();
}

#[test]
fn a_session_is_cancelled_over_an_endpoint_of_our_own() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let (goal, _gate) = gated(&home);
    let mut asked = Asked::ask(&watcher, "prompt", &[("Nats-Msg-Id", "k")], goal.as_bytes());
    let id = loop {
        let chunk = body(&asked.next(&watcher));
        if let Some(id) = chunk["session_id"].as_str() {
            break id.to_owned();
        }
    };
    let cancelled = body(&watcher.ask(&subject("cancel"), br#"{"key": "k"}"#));
    assert_eq!(cancelled["session_id"], id.as_str());
    let answer = asked.rest(&watcher);
    assert_eq!(answer.statuses().last(), Some(&"session.concluded"));
    let (code, told) = answer.error.unwrap();
    assert_eq!((code.as_str(), &told["error"]), ("409", &json!("conflict")));
    let refused = watcher.ask(&subject("cancel"), br#"{"key": "nobody"}"#);
    assert_eq!(header(&refused, "Nats-Service-Error-Code"), Some("404"));
    assert_eq!(body(&refused)["error"], "not_found");
    up.terminate();
}

#[test]
fn events_are_read_page_by_page_behind_a_position() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let id = prompt(&watcher, &[], GREETING.as_bytes()).session().to_owned();
    prompt(&watcher, &[], b"Greet");
    let all = read_all(&watcher, &json!({}));
    let of_session = read_all(&watcher, &json!({ "session_id": id }));
    let from_the_end = json!({ "after": all.len() });
    assert!(read_all(&watcher, &from_the_end).is_empty());
    for (asked, code) in [
        (json!({ "after": all.len() + 1 }), "400"),
        (json!({ "limit": 0 }), "400"),
        (json!({ "session_id": "x" }), "400"),
        (json!({ "session_id": "01a2137d-ce31-70e1-b18a-0cb050d8adcd" }), "404"),
    ] {
        let answer = Asked::ask(&watcher, "events", &[], asked.to_string().as_bytes());
        assert_eq!(answer.rest(&watcher).error.unwrap().0, code, "{asked}");
    }
    up.terminate();
    let recorded: Vec<Value> =
        home.records().iter().map(|raw| serde_json::from_slice(&raw.bytes).unwrap()).collect();
    assert_eq!(all, recorded);
    let stream = format!("session-{id}");
    let own: Vec<_> = recorded.into_iter().filter(|event| event["stream"] == *stream).collect();
    assert_eq!(of_session, own);
}

/// Every event that the endpoint gives, three at a time.
fn read_all(watcher: &Watcher, asked: &Value) -> Vec<Value> {
    let mut asked = asked.clone();
    asked["limit"] = json!(3);
    let mut events = Vec::new();
    loop {
        let page = Asked::ask(watcher, "events", &[], asked.to_string().as_bytes()).rest(watcher);
        assert_eq!(page.error, None);
        let mut chunks = page.chunks;
        let end = chunks.pop().unwrap();
        assert_eq!((&end["type"], &end["data"]), (&json!("status"), &json!("end")));
        if chunks.is_empty() {
            return events;
        }
        assert!(chunks.len() <= 3);
        events.extend(chunks.into_iter().map(|chunk| chunk["data"].clone()));
        asked["after"] = end["after"].clone();
    }
}

#[test]
fn a_prompt_that_the_factorys_end_breaks_off_goes_on_at_its_next_start() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let (goal, gate) = gated(&home);
    let named = [("Nats-Msg-Id", "k")];
    let mut asked = Asked::ask(&watcher, "prompt", &named, goal.as_bytes());
    while body(&asked.next(&watcher))["data"] != "session.step_dispatched" {}
    up.terminate();
    let (code, told) = asked.rest(&watcher).error.unwrap();
    assert_eq!((code.as_str(), &told["error"]), ("429", &json!("rate_limited")));

    std::fs::write(gate, "").unwrap();
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    let answer = prompt(&watcher, &named, goal.as_bytes());
    assert_eq!(answer.text(), "[step 0] stdout:\nthrough");
    assert!(answer.statuses().contains(&"session.resumed"), "{answer:?}");
    up.terminate();
    let is_opened = |event: &Event| matches!(event, Event::Session(SessionEvent::Opened(_)));
    assert_eq!(home.events().iter().filter(|recorded| is_opened(&recorded.event)).count(), 1);
}

#[test]
fn without_a_name_the_agent_has_its_users_and_its_nodes() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = crate::ingress::Up::start(&home, &["--nats", &server.url(), "--set", "node=Rack-7.a"]);
    let info = body(&watcher.ask("$SRV.INFO.agents", b""));
    assert_eq!(info["metadata"]["session"], "rack-7-a");
    let mut whoami = Command::new("id");
    whoami.arg("-un");
    let user = Running::start(whoami).ended().printed.trim().to_lowercase();
    assert_eq!(info["metadata"]["owner"], user);
    up.terminate();
    let (_, said) = home.printed(2, &["up", "--set", "agent_owner=a.b"]);
    assert!(said.contains("agent_owner"), "{said}");
}
