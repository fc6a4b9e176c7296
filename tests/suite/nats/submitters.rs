//! Who submitted a goal, and a goal that repeats, whichever ingress it uses.

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{agent_up, found, prompt};
use crate::{
    ingress::{Up, Watcher, body},
    support::{nats::TestServer, process::TestHome},
};

const GOAL: &str = "Greet:\n```python\nprint('hello')\n```";
const RESULT: &str = "[step 0] stdout:\nhello";

/// Hands the same goal in under the same key through every ingress, and answers with the session it
/// has everywhere.
fn through_every_ingress(watcher: &Watcher, up: &Up) -> String {
    let named = [("Nats-Msg-Id", "order-7")];
    let goal = json!({ "goal": GOAL });
    found(watcher);
    let prompted = prompt(watcher, &named, GOAL.as_bytes());
    assert_eq!((prompted.text().as_str(), &prompted.error), (RESULT, &None));
    let id = prompted.session().to_owned();
    let again = prompt(watcher, &named, json!({ "prompt": GOAL }).to_string().as_bytes());
    assert_eq!(again.chunks, prompted.chunks);

    let (status, over_http) = up.http.post("/supervisor/run", "order-7", &goal).unwrap();
    assert_eq!((status, &over_http["session_id"]), (200, &json!(id)));
    assert_eq!(over_http["result"], RESULT);
    let (status, submitted) = up.http.post("/supervisor/submit", "order-7", &goal).unwrap();
    assert_eq!((status, &submitted["session_id"]), (202, &json!(id)));
    let asked = goal.to_string();
    let over_nats = watcher.ask_with(&named, "factory.supervisor.run", asked.as_bytes());
    assert_eq!(body(&over_nats), over_http);
    watcher.goals_are_taken_in();
    watcher.publish_with(&named, asked);
    watcher.goals_are_settled();

    let other = prompt(watcher, &named, b"Something else");
    assert_eq!(other.error.unwrap().0, "409");
    id
}

#[test]
fn a_goal_that_repeats_has_one_session_and_one_answer_whatever_ingress_and_restart() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = agent_up(&home, &server, &[]);
    let first = through_every_ingress(&watcher, &up);
    up.terminate();
    let up = agent_up(&home, &server, &[]);
    let second = through_every_ingress(&watcher, &up);
    up.terminate();
    assert_eq!(first, second);
    let sessions = home.json(&["sessions"]);
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
}

/// Who submitted that session, as its story tells.
fn submitter(up: &Up, session: &Value) -> Value {
    let id = session["session_id"].as_str().unwrap();
    up.http.get(&format!("/supervisor/sessions/{id}"))["submitted_by"].clone()
}

#[test]
fn the_ingress_of_a_goal_is_recorded_and_whoever_it_claims_to_be_from() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    home.printed(0, &["run", "Greet"]);
    let up = agent_up(&home, &server, &[]);
    let goal = br#"{"goal": "Greet"}"#;
    let named = [
        ("Factory-Submitter", "alice\u{202e}"),
        ("Factory-Ingress", "agent"),
        ("Factory-Proven", "$G.eve"),
    ];
    let asked = body(&watcher.ask_with(&named, "factory.supervisor.submit", goal));
    let claimed = json!({ "ingress": "nats", "claims_to_be": "alice\\u{202e}" });
    assert_eq!(submitter(&up, &asked), claimed, "an ingress is not what a message claims");

    let (_, plain) = up.http.post_plain("/supervisor/submit", &json!({ "goal": "Greet" })).unwrap();
    assert_eq!(submitter(&up, &plain), json!({ "ingress": "http" }));
    let url = format!("{}/supervisor/submit", up.http.base);
    let asked = up.http.client.post(url).header("Factory-Submitter", "bob");
    let claimed: Value = asked.json(&json!({ "goal": "Greet" })).send().unwrap().json().unwrap();
    assert_eq!(submitter(&up, &claimed), json!({ "ingress": "http", "claims_to_be": "bob" }));

    // The one of the command line is told of too.
    watcher.sessions_end(4);
    watcher.goals_are_taken_in();
    watcher.publish_with(&[("Factory-Submitter", "carol"), ("Nats-Msg-Id", "k")], "Greet");
    watcher.sessions_end(1);
    let published = body(&watcher.ask("factory.supervisor.session", br#"{"key": "k"}"#));
    assert_eq!(published["submitted_by"], json!({ "ingress": "goals", "claims_to_be": "carol" }));
    let user = KeyPair::new_user().public_key();
    let sender = json!({ "v": 1, "account": "$G", "user": user, "name": "dave" }).to_string();
    // What only the agent may say of a signature is believed of nobody else.
    let named = [
        ("Agent-Sender", &*sender),
        ("Factory-Submitter", "eve"),
        ("Factory-Proven", "$G.eve"),
        ("Factory-Ingress", "agent"),
    ];
    let prompted = prompt(&watcher, &named, b"Greet");
    let prompted = json!({ "session_id": prompted.session() });
    let claimed = json!({ "ingress": "agent", "claims_to_be": format!("dave ($G.{user})") });
    assert_eq!(submitter(&up, &prompted), claimed);
    up.terminate();

    let sessions = home.json(&["sessions"]);
    let first = sessions.as_array().unwrap().last().unwrap();
    let id = first["session_id"].as_str().unwrap();
    assert_eq!(home.json(&["show", id])["submitted_by"], json!({ "ingress": "cli" }));
    let id = published["session_id"].as_str().unwrap();
    let (shown, _) = home.printed(0, &["show", id]);
    assert!(shown.contains("through  goals, by a sender that claims to be carol"), "{shown}");
}
