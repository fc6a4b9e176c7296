//! One goal is one trace, from the `traceparent` of a request to the program that the goal runs.

use std::collections::HashSet;

use serde_json::json;

use super::{
    collector::{Collector, ReceivedSpan},
    export::{ENDPOINT, TRACE, one, recorded, traceparent, way},
};
use crate::{
    ingress::{Up, Watcher},
    support::{nats::TestServer, process::TestHome},
};

const GOAL: &str = "Print it:\n```python\nprint(6 * 7)\n```\n";

/// The way from the program to the supervisor that was asked with `verb`, and what stands above it.
fn assert_way(spans: &[ReceivedSpan], verb: &str, server: &[&str]) {
    let (process, request) = (
        format!("process factory.supervisor.{verb}"),
        format!("request factory.supervisor.{verb}"),
    );
    let mut expected = vec![
        "run program",
        "process factory.debugger.run",
        "request factory.debugger.run",
        "run step",
        "session",
        &process,
        &request,
    ];
    expected.extend(server);
    assert_eq!(way(spans, one(spans, "run program")), expected);
}

fn traces(spans: &[ReceivedSpan]) -> HashSet<&str> {
    spans
        .iter()
        .filter(|span| !span.name.starts_with("ai-factory"))
        .map(|span| &*span.trace)
        .collect()
}

#[test]
fn one_goal_over_http_is_one_trace() {
    let (home, collector) = (TestHome::new(), Collector::start());
    let up = Up::start_in(&home, &[], &[(ENDPOINT, &collector.endpoint())]);
    let asked = up.http.client.post(format!("{}/supervisor/run", up.http.base));
    let asked = asked.header("traceparent", traceparent()).json(&json!({ "goal": GOAL }));
    assert_eq!(asked.send().unwrap().status().as_u16(), 200);
    up.terminate();
    let spans = collector.spans();
    assert_eq!(traces(&spans), HashSet::from([TRACE]), "{spans:#?}");
    assert_way(&spans, "run", &["POST /supervisor/run"]);
    let server = one(&spans, "POST /supervisor/run");
    assert_eq!(server.kind, 2, "a server");
    assert_eq!(server.attributes["http.response.status_code"], "200");
    assert_eq!(server.attributes["http.route"], "/supervisor/run");
    assert_eq!(recorded(&home), HashSet::from([TRACE.to_owned()]));
}

#[test]
fn one_goal_over_nats_is_one_trace() {
    let (home, server, collector) = (TestHome::new(), TestServer::start(), Collector::start());
    let mut watcher = Watcher::at(&server);
    let nats = ["--nats", &server.url()];
    let up = Up::start_in(&home, &nats, &[(ENDPOINT, &collector.endpoint())]);
    watcher.goals_are_taken_in();
    watcher.publish_with(&[("traceparent", &traceparent())], GOAL);
    watcher.sessions_end(1);
    up.terminate();
    let spans = collector.spans();
    assert_eq!(traces(&spans), HashSet::from([TRACE]), "{spans:#?}");
    assert_way(&spans, "accept", &[]);
    assert_eq!(recorded(&home), HashSet::from([TRACE.to_owned()]));
}
