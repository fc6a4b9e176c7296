//! The actors as NATS services (ADR-32), asked as any NATS client asks.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use ai_factory::{
    bus::{LocalBus, LocalBusSettings},
    micro,
};
use ai_factory_ports::bus::{Bus as _, Message};
use ai_factory_schemas::subject::operation;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    ingress::{Up, Watcher, body, header},
    support::{nats::TestServer, process::TestHome},
};

/// What is asked on `subject`, and everybody's answers until there are so many.
fn answers(watcher: &Watcher, subject: &str, count: usize) -> Vec<Value> {
    let client = watcher.client();
    watcher.wait(async {
        let inbox = client.new_inbox();
        let replies = client.subscribe(inbox.clone()).await.unwrap();
        client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
        replies.take(count).map(|message| body(&message)).collect().await
    })
}

fn planned(watcher: &Watcher) -> Value {
    body(&watcher.ask("factory.planner.propose", br#"{"prompt": "Greet"}"#))
}

fn endpoint<'a>(of: &'a Value, name: &str) -> &'a Value {
    let endpoints = of["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["name"] == name).unwrap()
}

#[test]
fn each_actor_is_found_as_a_service_that_says_what_it_takes() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    planned(&watcher);
    let mut subjects = Vec::new();
    for actor in ["planner", "memory", "debugger", "supervisor"] {
        let name = format!("ai-factory-{actor}");
        let pong = body(&watcher.ask(&format!("$SRV.PING.{name}"), b""));
        assert_eq!(pong["type"], "io.nats.micro.v1.ping_response");
        assert_eq!(
            (&pong["name"], &pong["version"]),
            (&json!(name), &json!(env!("CARGO_PKG_VERSION")))
        );
        let id = pong["id"].as_str().unwrap();
        let info = body(&watcher.ask(&format!("$SRV.INFO.{name}.{id}"), b""));
        assert_eq!(info["type"], "io.nats.micro.v1.info_response");
        assert_eq!(info["id"], id);
        assert_eq!(info["metadata"]["node"], "local");
        assert!(!info["description"].as_str().unwrap().is_empty());
        for endpoint in info["endpoints"].as_array().unwrap() {
            assert_eq!(endpoint["queue_group"], "q");
            let schema = endpoint["metadata"]["schema"].as_str().unwrap();
            let schema: Value = serde_json::from_str(schema).unwrap();
            assert!(schema["request"]["type"].is_string(), "{endpoint}");
            subjects.push(endpoint["subject"].as_str().unwrap().to_owned());
        }
    }
    subjects.sort();
    let mut expected: Vec<_> =
        operation::ALL.iter().map(|operation| format!("factory.{operation}")).collect();
    expected.sort();
    assert_eq!(subjects, expected);
    up.terminate();
}

#[test]
fn requests_refusals_and_their_time_are_counted() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    planned(&watcher);
    planned(&watcher);
    let refused = watcher.ask("factory.planner.propose", br#"{"prompt": " "}"#);
    assert_eq!(header(&refused, "Nats-Service-Error-Code"), Some("422"));
    let sentence = header(&refused, "Nats-Service-Error").unwrap();
    assert_eq!(body(&refused)["detail"][0]["loc"], json!(["body", "prompt"]));

    let stats = body(&watcher.ask("$SRV.STATS.ai-factory-planner", b""));
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    let propose = endpoint(&stats, "propose");
    assert_eq!((&propose["num_requests"], &propose["num_errors"]), (&json!(3), &json!(1)));
    assert_eq!(propose["last_error"], format!("422:{sentence}"));
    let time = propose["processing_time"].as_u64().unwrap();
    assert!(time > 0);
    assert_eq!(propose["average_processing_time"], time / 3);
    assert_eq!(endpoint(&stats, "dispatch")["num_requests"], 0);
    up.terminate();
}

#[test]
fn several_factories_on_one_server_share_the_requests() {
    const REQUESTS: u64 = 60;
    let (one, two, server) = (TestHome::new(), TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let ups = [Up::with(&one, &server), Up::with(&two, &server)];
    while watcher_sees(&watcher) < 2 {
        std::thread::yield_now();
    }
    let before: u64 = shares(&watcher).values().sum();
    for _ in 0..REQUESTS {
        planned(&watcher);
    }
    let shares = shares(&watcher);
    assert_eq!(shares.len(), 2);
    assert_eq!(shares.values().sum::<u64>() - before, REQUESTS, "{shares:?}");
    assert!(shares.values().all(|count| *count > 0), "{shares:?}");
    for up in ups {
        up.terminate();
    }
}

/// How many plans each of two factories was asked for.
fn shares(watcher: &Watcher) -> BTreeMap<String, u64> {
    answers(watcher, "$SRV.STATS.ai-factory-planner", 2)
        .iter()
        .map(|stats| {
            (stats["id"].to_string(), endpoint(stats, "propose")["num_requests"].as_u64().unwrap())
        })
        .collect()
}

/// How many instances of the planner there are: all that the server has passed a ping to, before
/// what it answers next.
fn watcher_sees(watcher: &Watcher) -> usize {
    let client = watcher.client();
    watcher.wait(async {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.unwrap();
        let asked = "$SRV.PING.ai-factory-planner";
        client.publish_with_reply(asked, inbox.clone(), "".into()).await.unwrap();
        // Each of them has answered by the time that it has answered to something that came later.
        for _ in 0..8 {
            let _ = client.request("factory.planner.propose", r#"{"prompt": "a"}"#.into()).await;
        }
        client.publish(inbox, "that is all".into()).await.unwrap();
        let mut count = 0;
        while let Some(reply) = replies.next().await {
            if &reply.payload[..] == b"that is all" {
                break;
            }
            count += usize::from(reply.status.is_none());
        }
        count
    })
}

#[test]
fn what_had_come_is_answered_when_the_factory_ends() {
    const REQUESTS: usize = 300;
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    planned(&watcher);
    let client = watcher.client();
    let inbox = client.new_inbox();
    let replies = watcher.wait(async {
        let replies = client.subscribe(inbox.clone()).await.unwrap();
        for number in 0..REQUESTS {
            let prompt = json!({ "prompt": format!("Write {number} haikus") }).to_string();
            let asked = "factory.planner.dispatch";
            client.publish_with_reply(asked, inbox.clone(), prompt.into()).await.unwrap();
        }
        // The server has them all, and has handed them on.
        let _ = client.request("nobody.is.here", "".into()).await;
        replies
    });
    up.terminate();
    let answered: Vec<_> = watcher.wait(replies.take(REQUESTS).collect::<Vec<_>>());
    for answer in &answered {
        assert_eq!(header(answer, "Nats-Service-Error"), None);
        assert_eq!(answer.status, None);
    }
    assert_eq!(home.json(&["logs", "--limit", "1"]).as_array().unwrap().len(), 1);
    assert_eq!(home.events().len(), REQUESTS);
}

#[tokio::test]
async fn an_endpoint_that_ends_works_on_all_that_had_come() {
    let bus = LocalBus::new(LocalBusSettings::default());
    let requests = bus.subscribe("a".parse().unwrap(), None, 16).await.unwrap();
    for _ in 0..5 {
        bus.publish(Message::new("a".parse().unwrap(), "")).await.unwrap();
    }
    let ended = tokio_util::sync::CancellationToken::new();
    ended.cancel();
    let done = AtomicUsize::new(0);
    let handle = async |_| {
        tokio::task::yield_now().await;
        done.fetch_add(1, Ordering::Relaxed);
    };
    micro::serve(requests, ended, handle).await;
    assert_eq!(done.load(Ordering::Relaxed), 5);
}

#[test]
fn after_the_servers_restart_the_services_are_found_and_asked_again() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    planned(&watcher);
    let before = body(&watcher.ask("$SRV.PING.ai-factory-memory", b""));
    server.kill();
    server.again();
    let after = body(&watcher.request_until_answered("$SRV.PING.ai-factory-memory", b""));
    assert_eq!(before, after);
    let planned =
        watcher.request_until_answered("factory.planner.propose", br#"{"prompt": "Greet"}"#);
    assert!(body(&planned)["request_id"].is_string());
    up.terminate();
}

#[test]
fn one_request_too_many_is_refused_at_once_and_the_others_are_served() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::start(&home, &["--nats", &server.url(), "--set", "requests_waiting_max=1"]);
    planned(&watcher);
    let gate = home.path().join("gate");
    let code = format!("import os\nwhile not os.path.exists({gate:?}): pass\nprint('through')");
    let code = json!({ "code": code }).to_string();
    let client = watcher.client();
    let inbox = client.new_inbox();
    let mut replies = watcher.wait(async {
        let replies = client.subscribe(inbox.clone()).await.unwrap();
        for _ in 0..2 {
            let asked = "factory.debugger.run";
            client.publish_with_reply(asked, inbox.clone(), code.clone().into()).await.unwrap();
        }
        replies
    });
    let refused = watcher.wait(replies.next()).unwrap();
    assert_eq!(header(&refused, "Nats-Service-Error-Code"), Some("503"));
    assert!(header(&refused, "Retry-After").unwrap().parse::<f64>().unwrap() > 0.0);
    planned(&watcher);
    std::fs::write(gate, "").unwrap();
    let ran = watcher.wait(replies.next()).unwrap();
    assert_eq!(body(&ran)["stdout"], "through\n");
    up.terminate();
}
