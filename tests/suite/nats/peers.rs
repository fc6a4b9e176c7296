//! Two instances of one agent: what is asked of either goes to the one that knows of it.

use ai_factory_schemas::{event::Event, session::SessionEvent};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Answer, Asked, agent_up, found, gated, prompt, subject};
use crate::{
    ingress::{Up, Watcher, body, header},
    support::{nats::TestServer, process::TestHome},
};

/// How often the same is asked: whom a question reaches is left to chance.
const ROUND: usize = 16;

/// How many prompt in the same moment.
const AT_ONCE: usize = 8;

struct Pair {
    places: [TestHome; 2],
    ups: [Up; 2],
    watcher: Watcher,
    /// Their ids, in the order of the places.
    ids: [String; 2],
}

impl Pair {
    /// Two instances that have heard of each other.
    fn up(server: &TestServer) -> Self {
        let watcher = Watcher::at(server);
        let client = watcher.client();
        let mut beats = watcher.wait(async {
            let beats = client.subscribe(subject("hb")).await.unwrap();
            client.flush().await.unwrap();
            beats
        });
        let mut next = || {
            let beat = body(&watcher.wait(beats.next()).unwrap());
            beat["instance_id"].as_str().unwrap().to_owned()
        };
        let places = [TestHome::new(), TestHome::new()];
        let first_up = agent_up(&places[0], server, &[]);
        let first = next();
        let second_up = agent_up(&places[1], server, &[]);
        let second = loop {
            let id = next();
            if id != first {
                break id;
            }
        };
        let pair = Self { places, ups: [first_up, second_up], watcher, ids: [first, second] };
        // Hearing of each other takes a moment.
        while !pair.ids.iter().all(|id| (0..ROUND).all(|_| pair.status(id).as_ref() == Some(id))) {}
        pair
    }

    /// Which instance answers when this one is asked for; `None` where it is refused with a 404.
    fn status(&self, id: &str) -> Option<String> {
        let asked = json!({ "instance_id": id }).to_string();
        let answer = self.watcher.ask(&subject("status"), asked.as_bytes());
        match header(&answer, "Nats-Service-Error-Code") {
            None => Some(body(&answer)["instance_id"].as_str().unwrap().to_owned()),
            Some(code) => {
                assert_eq!(code, "404");
                None
            }
        }
    }

    fn events(&self, asked: &Value) -> Answer {
        let asked = asked.to_string();
        Asked::ask(&self.watcher, "events", &[], asked.as_bytes()).rest(&self.watcher)
    }

    fn cancel(&self, asked: &Value) -> Value {
        body(&self.watcher.ask(&subject("cancel"), asked.to_string().as_bytes()))
    }

    fn end(self) -> [TestHome; 2] {
        for up in self.ups {
            up.terminate();
        }
        self.places
    }
}

fn opened(places: &[TestHome]) -> usize {
    let is_opened = |event: &Event| matches!(event, Event::Session(SessionEvent::Opened(_)));
    let of = |home: &TestHome| home.events().iter().filter(|it| is_opened(&it.event)).count();
    places.iter().map(of).sum()
}

#[test]
fn what_names_a_session_or_an_instance_reaches_the_one_that_has_it() {
    let server = TestServer::start();
    let pair = Pair::up(&server);
    let (goal, _gate) = gated(&pair.places[0]);
    let mut asked = Asked::ask(&pair.watcher, "prompt", &[("Nats-Msg-Id", "k")], goal.as_bytes());
    let id = loop {
        let chunk = body(&asked.next(&pair.watcher));
        if let Some(id) = chunk["session_id"].as_str() {
            break id.to_owned();
        }
    };
    let owners: Vec<_> = (0..ROUND)
        .map(|_| {
            let page = pair.events(&json!({ "session_id": id, "limit": 1 }));
            assert_eq!(page.error, None);
            assert_eq!(page.chunks[0]["data"]["stream"], format!("session-{id}"));
            page.chunks.last().unwrap()["instance_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(pair.ids.contains(&owners[0]) && owners.iter().all(|owner| *owner == owners[0]));
    let cancelled: Vec<_> = (0..ROUND)
        .map(|turn| {
            let asked = if turn % 2 == 0 { json!({ "id": id }) } else { json!({ "key": "k" }) };
            pair.cancel(&asked)["session_id"].as_str().map(str::to_owned)
        })
        .collect();
    assert!(cancelled.iter().all(|told| told.as_ref() == Some(&id)), "{cancelled:?}");
    assert_eq!(asked.rest(&pair.watcher).error.unwrap().0, "409");
    pair.end();
}

#[test]
fn a_prompt_that_repeats_has_one_session_whichever_of_two_it_reaches() {
    let server = TestServer::start();
    let pair = Pair::up(&server);
    let answers: Vec<_> = (0..ROUND)
        .map(|_| {
            let answer = prompt(&pair.watcher, &[("Nats-Msg-Id", "once")], b"Greet");
            assert_eq!(answer.error, None);
            answer.session().to_owned()
        })
        .collect();
    assert!(answers.iter().all(|session| *session == answers[0]), "{answers:?}");
    assert_eq!(opened(&pair.end()), 1);
}

#[test]
fn prompts_under_one_new_key_in_the_same_moment_have_one_session_of_two_instances() {
    let server = TestServer::start();
    let pair = Pair::up(&server);
    for round in 0..ROUND {
        let key = format!("new-{round}");
        let named = [("Nats-Msg-Id", key.as_str())];
        let asked: Vec<_> =
            (0..AT_ONCE).map(|_| Asked::ask(&pair.watcher, "prompt", &named, b"Greet")).collect();
        let sessions: Vec<_> = asked
            .into_iter()
            .map(|asked| {
                let answer = asked.rest(&pair.watcher);
                assert_eq!(answer.error, None);
                answer.session().to_owned()
            })
            .collect();
        assert!(sessions.iter().all(|session| *session == sessions[0]), "{sessions:?}");
    }
    assert_eq!(opened(&pair.end()), ROUND);
}

#[test]
fn a_key_that_was_claimed_by_an_instance_which_is_gone_is_claimed_by_another_one() {
    let server = TestServer::start();
    let pair = Pair::up(&server);
    prompt(&pair.watcher, &[("Nats-Msg-Id", "makes-the-bucket")], b"Greet");
    let client = pair.watcher.client();
    let name = format!("{:x}", <sha2::Sha256 as sha2::Digest>::digest("k"));
    pair.watcher.wait(async {
        let context = async_nats::jetstream::new(client);
        let bucket = context.get_key_value("FACTORY_KEYS").await.unwrap();
        bucket.create(format!("alice.bench.{name}"), "gone".into()).await.unwrap();
    });
    let named = [("Nats-Msg-Id", "k")];
    let asked: Vec<_> =
        (0..AT_ONCE).map(|_| Asked::ask(&pair.watcher, "prompt", &named, b"Greet")).collect();
    for asked in asked {
        assert_eq!(asked.rest(&pair.watcher).error, None);
    }
    assert_eq!(opened(&pair.end()), 2);
}

#[test]
fn what_neither_of_two_has_is_not_found() {
    let server = TestServer::start();
    let pair = Pair::up(&server);
    assert_eq!(pair.cancel(&json!({ "key": "nobody" }))["error"], "not_found");
    let unknown = json!({ "session_id": "01a2137d-ce31-70e1-b18a-0cb050d8adcd" });
    assert_eq!(pair.events(&unknown).error.unwrap().0, "404");
    assert_eq!(pair.events(&json!({ "instance_id": "nobody" })).error.unwrap().0, "404");
    assert_eq!(pair.status("nobody"), None);
    // One that was there and is gone.
    let Pair { places, ups: [first, second], watcher, ids } = pair;
    first.terminate();
    found(&watcher);
    let gone = json!({ "instance_id": ids[0] }).to_string();
    let answer = watcher.ask(&subject("status"), gone.as_bytes());
    assert_eq!(header(&answer, "Nats-Service-Error-Code"), Some("404"));
    second.terminate();
    assert_eq!(opened(&places), 0);
}
