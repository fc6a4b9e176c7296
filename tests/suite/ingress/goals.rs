//! Goals that are published, and operations that are asked for, over NATS.

use ai_factory_schemas::{event::Event, goal::GoalEvent, session::SessionEvent};
use serde_json::{Value, json};

use super::{Up, Watcher, body, header};
use crate::support::{
    nats::{JetStream, TestServer},
    process::TestHome,
};

/// What was opened and what was rejected, in order.
fn taken_in(home: &TestHome) -> (Vec<String>, Vec<(u16, String)>) {
    let (mut opened, mut rejected) = (Vec::new(), Vec::new());
    for recorded in home.events() {
        match recorded.event {
            Event::Session(SessionEvent::Opened(session)) => opened.push(session.goal),
            Event::Goal(GoalEvent::Rejected(goal)) => rejected.push((goal.status, goal.payload)),
            _ => {}
        }
    }
    (opened, rejected)
}

#[test]
fn a_goal_that_is_published_while_the_factory_is_away_runs_when_it_is_back() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    up.terminate();

    watcher.publish(None, "Wait for me");
    watcher.publish(Some("second"), r#"{"goal": "Wait for me too", "task_type": "research"}"#);
    assert_eq!(watcher.goals_waiting(), Some(2));

    let up = Up::with(&home, &server);
    watcher.sessions_end(2);
    watcher.goals_are_settled();
    up.terminate();
    let (mut opened, rejected) = taken_in(&home);
    opened.sort();
    assert_eq!(opened, ["Wait for me", "Wait for me too"]);
    assert!(rejected.is_empty(), "{rejected:?}");
}

#[test]
fn without_jetstream_a_reply_subject_gets_the_sessions_id_or_the_refusal() {
    let (home, server) = (TestHome::new(), TestServer::start_with(JetStream::Off));
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    let accepted = watcher.ask("factory.goals", "Grüße jemanden".as_bytes());
    let id = body(&accepted)["session_id"].as_str().unwrap().to_owned();
    watcher.sessions_end(1);
    for (payload, status) in [
        (&b"{}"[..], "400"),
        (b" \n ", "400"),
        (b"\xff\xfe", "400"),
        (b"a\0b", "400"),
        (b"{\"goal\": 1}", "422"),
        (b"{nonsense", "422"),
    ] {
        let refused = watcher.ask("factory.goals", payload);
        assert_eq!(header(&refused, "Nats-Service-Error-Code"), Some(status), "{payload:?}");
        assert!(!header(&refused, "Nats-Service-Error").unwrap().is_empty());
        assert!(body(&refused)["detail"].is_string() || body(&refused)["detail"].is_array());
    }
    let refused = watcher.ask_with(&[("Nats-Msg-Id", "no\u{1b}key")], "factory.goals", b"Greet");
    assert_eq!(header(&refused, "Nats-Service-Error-Code"), Some("400"));
    let said = header(&refused, "Nats-Service-Error").unwrap();
    assert!(said.contains("no\\u{1b}key") && !said.contains('\u{1b}'), "{said:?}");
    up.terminate();
    let (opened, rejected) = taken_in(&home);
    assert_eq!(opened, ["Grüße jemanden"]);
    assert_eq!(rejected.len(), 7);
    assert_eq!(rejected[6], (400, "Greet".to_owned()), "a key that is none is recorded too");
    assert_eq!(home.json(&["show", &id])["goal"], "Grüße jemanden");
}

#[test]
fn a_goal_that_cannot_be_read_is_recorded_as_rejected_and_does_not_come_again() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    let too_long = "x".repeat(200_000);
    let payloads: [&[u8]; 5] = [b"{nonsense", b"  ", b"\xff", b"a\0b", too_long.as_bytes()];
    for payload in payloads {
        watcher.publish(None, payload.to_vec());
    }
    watcher.publish(None, "A good one");
    let mut left = payloads.len() + 1;
    while left > 0 {
        left -= match watcher.event().event {
            Event::Goal(_) | Event::Session(SessionEvent::Concluded(_)) => 1,
            _ => 0,
        };
    }
    watcher.goals_are_settled();
    up.terminate();
    let (opened, mut rejected) = taken_in(&home);
    assert_eq!(opened, ["A good one"]);
    rejected.sort();
    let statuses: Vec<_> = rejected.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [400, 400, 400, 413, 422]);
    assert!(rejected.iter().all(|(_, payload)| payload.len() <= 4096));
    // Refusals are no sessions.
    assert_eq!(home.json(&["sessions"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_key_opens_one_session_whichever_ingress_it_comes_through() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    watcher.publish(Some("order-7"), "Greet once");
    watcher.sessions_end(1);

    let asked = watcher.ask("factory.supervisor.session", br#"{"key": "order-7"}"#);
    let id = body(&asked)["session_id"].clone();
    // The id of the request that published it leads to it too, whichever way it is asked for.
    let request = body(&asked)["request_id"].as_str().unwrap().to_owned();
    let by_request = json!({ "request_id": request }).to_string();
    for which in [by_request.clone(), json!({ "id": request }).to_string()] {
        let found = body(&watcher.ask("factory.supervisor.session", which.as_bytes()));
        assert_eq!(found["session_id"], id, "{which}");
    }
    for which in [by_request, json!({ "key": "order-7" }).to_string()] {
        let listed = body(&watcher.ask("factory.supervisor.sessions", which.as_bytes()));
        assert_eq!((&listed[0]["session_id"], &listed[1]), (&id, &Value::Null), "{which}");
    }
    let listed = up.http.get(&format!("/supervisor/sessions?request_id={request}"));
    assert_eq!(listed[0]["session_id"], id);
    assert_eq!(up.http.get(&format!("/supervisor/sessions/{request}"))["session_id"], id);
    let goal = json!({ "goal": "Greet once" });
    let (status, again) = up.http.post("/supervisor/submit", "order-7", &goal).unwrap();
    assert_eq!((status, &again["session_id"]), (202, &id));
    let (status, finished) = up.http.post("/supervisor/run", "order-7", &goal).unwrap();
    assert_eq!((status, &finished["session_id"]), (200, &id));

    let other = json!({ "goal": "Greet twice" });
    assert_eq!(up.http.post("/supervisor/submit", "order-7", &other).unwrap().0, 409);
    assert_eq!(
        up.http.post("/planner/dispatch", "order-7", &json!({ "prompt": "Greet" })).unwrap().0,
        409
    );
    // From another ingress, where the server's own window does not know the key.
    let (status, first) = up.http.post("/supervisor/run", "order-8", &goal).unwrap();
    assert_eq!(status, 200);
    watcher.publish(Some("order-8"), "Greet once");
    watcher.publish(Some("order-9"), "Greet once more");
    watcher.goals_are_settled();
    up.terminate();
    let (opened, rejected) = taken_in(&home);
    assert_eq!(opened, ["Greet once", "Greet once", "Greet once more"], "{first}");
    assert!(rejected.is_empty(), "{rejected:?}");
}

#[test]
fn every_operation_is_asked_over_nats_as_over_http() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    let planned = body(&watcher.ask("factory.planner.dispatch", br#"{"prompt": "Greet"}"#));
    // I-13: what one ingress acknowledged is in the next answer of the other.
    assert_eq!(up.http.get("/memory/logs?limit=1")[0]["request_id"], planned["request_id"]);
    let note = watcher.ask("factory.memory.remember", br#"{"text": "The kettle is blue"}"#);
    assert!(body(&note)["id"].is_string());
    assert_eq!(
        up.http.get("/memory/search?q=kettle&n=1")["results"][0]["text"],
        "The kettle is blue"
    );
    let (_, ran) = up.http.post("/supervisor/run", "k", &json!({ "goal": "Greet" })).unwrap();
    let status = body(&watcher.ask("factory.supervisor.status", br#"{"limit": 1}"#));
    assert_eq!(status[0]["request_id"], ran["request_id"]);

    for (subject, payload, code) in [
        ("factory.planner.dispatch", &br#"{"prompt": " "}"#[..], "422"),
        ("factory.memory.logs", br#"{"limit": 501}"#, "422"),
        ("factory.memory.search", b"{}", "422"),
        ("factory.debugger.run", b"{}", "400"),
        ("factory.supervisor.run", br#"{"goal": ""}"#, "400"),
        ("factory.supervisor.session", br#"{"key": "nobody"}"#, "404"),
        ("factory.memory.logs", b"[1", "422"),
    ] {
        let refused = watcher.ask(subject, payload);
        assert_eq!(header(&refused, "Nats-Service-Error-Code"), Some(code), "{subject}");
    }
    up.terminate();
}

#[test]
fn a_byte_order_mark_before_a_goal_or_a_request_is_passed_over() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    watcher
        .publish(Some("order-1"), "\u{feff}{\"goal\": \"Greet me\", \"task_type\": \"research\"}");
    watcher.publish(None, "\u{feff}Greet me in plain words");
    watcher.sessions_end(2);
    let asked = "\u{feff}{\"goal\": \"Greet me once more\"}";
    let answered = body(&watcher.ask("factory.supervisor.run", asked.as_bytes()));
    assert_eq!(answered["goal"], "Greet me once more");
    let note = "\r\n\u{feff}{\"text\": \"The kettle is blue\"}";
    assert!(body(&watcher.ask("factory.memory.remember", note.as_bytes()))["id"].is_string());
    let found = body(
        &watcher.ask("factory.supervisor.session", "\u{feff}{\"key\":\"order-1\"}".as_bytes()),
    );
    assert_eq!(found["goal"], "Greet me");
    up.terminate();
    let (mut opened, rejected) = taken_in(&home);
    opened.sort();
    assert_eq!(opened, ["Greet me", "Greet me in plain words", "Greet me once more"]);
    assert!(rejected.is_empty(), "{rejected:?}");
}
