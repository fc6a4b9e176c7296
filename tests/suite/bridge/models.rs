//! Sessions with a model over HTTP, in front of a supervisor that answers what the test says.

use std::sync::Mutex;

use ai_factory::bus::{LocalBus, LocalBusSettings};
use ai_factory_ports::{
    bus::{Message, header},
    request_reply,
    trace::NoTraces,
};
use ai_factory_schemas::{
    id::SessionId,
    subject::{Operation, Subjects, operation},
};
use uuid::Uuid;

use super::harness::*;

const SESSION: &str = "019a0000-0000-7000-8000-000000000004";

/// Whether a request may raise, how long its caller waits, and its body.
type Seen = (Option<String>, Option<String>, Value);

/// Answers requests of one operation, and keeps their headers and bodies.
struct ScriptedSupervisor {
    asked: Mutex<Vec<Seen>>,
}

impl ScriptedSupervisor {
    async fn serve(bus: &Arc<LocalBus>, asked: Operation, answer: Value) -> Arc<Self> {
        let this = Arc::new(Self { asked: Mutex::default() });
        let subject = Subjects::default().operation(asked);
        let mut requests = bus.subscribe((&subject).into(), None, 16).await.unwrap();
        let (kept, bus) = (Arc::clone(&this), Arc::clone(bus));
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let told = |name| request.headers.get(name).map(str::to_owned);
                let body = serde_json::from_slice(&request.payload).unwrap();
                let seen = (told(header::TRUSTED), told(header::ANSWER_WITHIN), body);
                kept.asked.lock().unwrap().push(seen);
                let mut reply = Message::new(request.reply.unwrap(), "");
                (reply.headers, reply.payload) =
                    request_reply::write_answer(Ok(answer.to_string().into()));
                bus.publish(reply).await.unwrap();
            }
        });
        this
    }

    fn asked(&self) -> Vec<Seen> {
        self.asked.lock().unwrap().clone()
    }
}

async fn bridge(bus: &Arc<LocalBus>) -> TestBridge {
    let factory = TestFactory::start().await;
    let bus = Arc::clone(bus) as Arc<dyn Bus>;
    TestBridge::over(bus, factory, BridgeSettings::default(), Arc::new(NoTraces)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_on_is_answered_with_202_and_its_address() {
    let bus = LocalBus::new(LocalBusSettings::default());
    let pending = json!({
        "request_id": "r", "session_id": SESSION, "status": "waiting: question",
        "waits_for": "an answer",
    });
    let supervisor = ScriptedSupervisor::serve(&bus, operation::SUPERVISOR_RUN, pending).await;
    let bridge = bridge(&bus).await;
    let goal =
        json!({ "goal": "g", "model": "ollama/x", "budget": { "tokens_max": 9 }, "ask": true });
    let answer = bridge.post("/supervisor/run", &goal).await;
    assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("waiting: question")));
    let place = format!("/supervisor/sessions/{SESSION}");
    assert_eq!(answer.header("location"), Some(place.as_str()));
    let (trusted, within, body) = supervisor.asked().remove(0);
    assert_eq!((trusted, &body), (None, &goal));
    // In time for the caller, who waits as long as the bridge does.
    let within: u128 = within.unwrap().parse().unwrap();
    assert!(within < BridgeSettings::default().session_answer_max.as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_raised_by_peers_of_this_machine_and_the_header_is_no_clients_to_set() {
    let bus = LocalBus::new(LocalBusSettings::default());
    let told = json!({ "session_id": SESSION, "status": "running", "tokens_spent": 1,
        "tokens_reserved": 0, "tokens_max": 9 });
    let supervisor = ScriptedSupervisor::serve(&bus, operation::SUPERVISOR_BUDGET, told).await;
    let answering = json!({ "session_id": SESSION, "status": "running" });
    let answers = ScriptedSupervisor::serve(&bus, operation::SUPERVISOR_ANSWER, answering).await;
    let bridge = bridge(&bus).await;
    let path = format!("/supervisor/sessions/{SESSION}");
    bridge.post(&format!("{path}/budget"), &json!({ "add_tokens": 5 })).await.expect(200);
    bridge.get(&format!("{path}/budget")).await.expect(200);
    let bodies: Vec<_> =
        supervisor.asked().into_iter().map(|(it, _, body)| (it.is_some(), body)).collect();
    assert_eq!(
        bodies,
        [(true, json!({ "id": SESSION, "add_tokens": 5 })), (true, json!({ "id": SESSION }))]
    );
    let forged = [(header::TRUSTED, "1")];
    let body = json!({ "answer": "blue" }).to_string();
    bridge.post_with(&format!("{path}/answer"), &forged, body).await.expect(200);
    let (trusted, _, body) = answers.asked().remove(0);
    assert_eq!((trusted, body), (None, json!({ "id": SESSION, "answer": "blue" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_says_is_told_while_it_says_it_to_those_who_listen_to_its_session() {
    let bus = LocalBus::new(LocalBusSettings::default());
    let bridge = bridge(&bus).await;
    let refused = bridge.get("/supervisor/sessions/order-66/stream").await;
    assert_eq!(refused.status, 422, "{refused}");
    let mut line = bridge.line().await;
    let path = format!("/supervisor/sessions/{SESSION}/stream");
    let asked = String::from_utf8(bridge.written("GET", &path, &[], b"")).unwrap();
    line.send(asked.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes()).await;
    let head = line.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let session: SessionId = SESSION.parse().unwrap();
    let say = async |of: SessionId, text: &str| {
        let part = json!({ "call": SESSION, "attempt": 1, "seq": 0, "text": text }).to_string();
        bus.publish(Message::new(Subjects::default().stream(of), part)).await.unwrap();
    };
    say(SessionId(Uuid::nil()), "of another").await;
    say(session, "I begin").await;
    let mut lines = Vec::new();
    while lines.len() < 2 {
        let line = line.next().await.unwrap();
        if line.starts_with("event:") || line.starts_with("data:") {
            lines.push(line);
        }
    }
    assert_eq!(lines[0], "event: part");
    assert!(lines[1].contains("I begin"), "{lines:?}");
}
