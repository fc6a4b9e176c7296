//! Headers that a sender may not set, through every ingress: no recorded event has them.

use serde_json::{Value, json};

use super::{agent_up, found, prompt};
use crate::{
    ingress::{Up, Watcher, body},
    support::{nats::TestServer, process::TestHome},
};

const CORRELATION: &str = "0190f0f0-0000-7000-8000-00000000000c";
const CAUSATION: &str = "0190f0f0-0000-7000-8000-00000000000d";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// What only the factory says, and what a sender may say: the last three.
const SENT: [(&str, &str); 11] = [
    ("Factory-Correlation-Id", CORRELATION),
    ("Factory-Causation-Id", CAUSATION),
    ("Factory-Ingress", "cli"),
    ("Factory-Proven", "$G.forged"),
    ("Factory-Fault", "forged fault"),
    ("Factory-Position", "9999999"),
    ("Factory-Journal", CORRELATION),
    ("Factory-Odd", "forged"),
    ("Factory-Submitter", "alice"),
    ("X-Request-ID", "order-66"),
    ("traceparent", TRACE),
];

/// The status of a POST with the forged headers.
fn post(up: &Up, path: &str, asked: &Value) -> u16 {
    let mut request = up.http.client.post(format!("{}{path}", up.http.base)).json(asked);
    for (name, value) in SENT {
        request = request.header(name, value);
    }
    request.send().unwrap().status().as_u16()
}

#[test]
fn no_recorded_event_carries_what_a_sender_forged_through_whichever_ingress() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    found(&watcher);
    watcher.goals_are_taken_in();
    let goal = json!({ "goal": "Greet:\n```python\nprint('hello')\n```" });
    let asked = [
        ("planner", "dispatch", json!({ "prompt": "Greet" })),
        ("debugger", "run", json!({ "code": "print(1)" })),
        ("memory", "remember", json!({ "text": "a note" })),
        ("supervisor", "run", goal.clone()),
    ];
    for (actor, verb, asked) in &asked {
        assert_eq!(post(&up, &format!("/{actor}/{verb}"), asked), 200, "{actor}.{verb}");
        let subject = format!("factory.{actor}.{verb}");
        let answer = body(&watcher.ask_with(&SENT, &subject, asked.to_string().as_bytes()));
        assert_eq!(answer["detail"], Value::Null, "{subject}");
        assert_eq!(answer["request_id"], "order-66", "{subject}");
    }
    watcher.publish_with(&SENT, goal.to_string());
    let prompted = prompt(&watcher, &SENT, goal["goal"].as_str().unwrap().as_bytes());
    assert_eq!(prompted.error, None);
    watcher.sessions_end(4);
    watcher.goals_are_settled();
    up.terminate();

    let (recorded, _) = home.printed(0, &["tail", "--from", "1", "--json", "-n", "1000"]);
    let events: Vec<Value> =
        recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &events {
        let text = event.to_string();
        for forged in [CORRELATION, CAUSATION, "forged"] {
            assert!(!text.contains(forged), "{forged}: {text}");
        }
    }
    let opened = |ingress: &str| {
        let of = |event: &&Value| event["data"]["submitted_by"]["ingress"] == ingress;
        events.iter().filter(of).cloned().collect::<Vec<_>>()
    };
    for ingress in ["http", "nats", "goals", "agent"] {
        let [opened] = &opened(ingress)[..] else { panic!("one session by {ingress}: {recorded}") };
        let by = json!({ "ingress": ingress, "claims_to_be": "alice" });
        assert_eq!(opened["data"]["submitted_by"], by);
        assert_eq!(opened["data"]["request_id"], "order-66", "{ingress}");
        // The cause of a session is nothing recorded; what it causes belongs to it.
        assert_eq!(opened["causationid"], Value::Null, "{ingress}");
        let session = opened["correlationid"].as_str().unwrap();
        assert!(opened["subject"].as_str().is_some_and(|id| id.contains(session)), "{opened}");
    }
    assert!(opened("cli").is_empty());
}
