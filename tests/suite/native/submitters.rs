//! Who submitted a goal, and a goal that repeats, whichever doors it comes through.

use serde_json::{Value, json};

use crate::{
    doors::{Up, Watcher, body},
    support::{nats::TestServer, process::Place},
};

/// Who submitted that session, as its story tells.
fn submitter(up: &Up, session: &Value) -> Value {
    let id = session["session_id"].as_str().unwrap();
    up.http.get(&format!("/supervisor/sessions/{id}"))["submitted_by"].clone()
}

#[test]
fn the_door_of_a_goal_is_recorded_and_whoever_it_claims_to_be_from() {
    let (place, server) = (Place::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    place.printed(0, &["run", "Greet"]);
    let up = Up::with(&place, &server);
    let goal = br#"{"goal": "Greet"}"#;
    let named = [("Factory-Submitter", "alice\u{202e}"), ("Factory-Door", "cli")];
    let asked = body(&watcher.ask_with(&named, "factory.supervisor.submit", goal));
    let claimed = json!({ "door": "nats", "claims_to_be": "alice\\u{202e}" });
    assert_eq!(submitter(&up, &asked), claimed, "a door is not what a message says it is");

    let (_, plain) = up.http.post_plain("/supervisor/submit", &json!({ "goal": "Greet" })).unwrap();
    assert_eq!(submitter(&up, &plain), json!({ "door": "http" }));
    let url = format!("{}/supervisor/submit", up.http.base);
    let asked = up.http.client.post(url).header("Factory-Submitter", "bob");
    let claimed: Value = asked.json(&json!({ "goal": "Greet" })).send().unwrap().json().unwrap();
    assert_eq!(submitter(&up, &claimed), json!({ "door": "http", "claims_to_be": "bob" }));

    // The one of the command line is told of too.
    watcher.sessions_end(4);
    watcher.goals_are_taken_in();
    watcher.publish_with(&[("Factory-Submitter", "carol"), ("Nats-Msg-Id", "k")], "Greet");
    watcher.sessions_end(1);
    let published = body(&watcher.ask("factory.supervisor.session", br#"{"key": "k"}"#));
    assert_eq!(published["submitted_by"], json!({ "door": "goals", "claims_to_be": "carol" }));
    up.told_to_end();

    let sessions = place.json(&["sessions"]);
    let first = sessions.as_array().unwrap().last().unwrap();
    let id = first["session_id"].as_str().unwrap();
    assert_eq!(place.json(&["show", id])["submitted_by"], json!({ "door": "cli" }));
    let id = published["session_id"].as_str().unwrap();
    let (shown, _) = place.printed(0, &["show", id]);
    assert!(shown.contains("through  goals, by who says to be carol"), "{shown}");
}
