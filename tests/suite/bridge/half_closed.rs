//! Clients that have closed their sending side alone, and those that are gone.

use super::harness::*;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn one_request() -> BridgeSettings {
    BridgeSettings { requests_max: 1, ..BridgeSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_sending_side_gets_its_answer() {
    let bridge = TestBridge::open().await;
    let body = json!({ "prompt": "half closed" }).to_string();
    let with_length = bridge.written("POST", "/planner/dispatch", &[JSON], body.as_bytes());
    let chunked = [JSON, ("Transfer-Encoding", "chunked")];
    let mut in_pieces = bridge.written("POST", "/planner/dispatch", &chunked, b"");
    in_pieces.extend_from_slice(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
    let old = String::from_utf8(with_length.clone()).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    let asking = [JSON, ("Expect", "100-continue")];
    for asked in [
        bridge.written("GET", "/livez", &[], b""),
        bridge.written("GET", "/memory/logs", &[("Connection", "keep-alive")], b""),
        bridge.written("GET", "/memory/logs", &[("Connection", "close")], b""),
        bridge.written("POST", "/planner/dispatch", &asking, body.as_bytes()),
        with_length,
        in_pieces,
        old.into_bytes(),
    ] {
        let mut line = bridge.line().await;
        line.send(&asked).await;
        line.send_no_more().await;
        let answer = line.answer("GET").await;
        answer.expect(200);
        answer.assert_complete();
        assert!(line.is_over().await, "nothing more can be asked for");
    }
    // A refusal is an answer too, and a request behind another one has its own.
    let mut line = bridge.line().await;
    line.send(&bridge.written("GET", "/nowhere", &[], b"")).await;
    line.send(&bridge.written("GET", "/livez", &[], b"")).await;
    line.send_no_more().await;
    line.answer("GET").await.expect(404);
    line.answer("GET").await.expect(200);
    assert!(line.is_over().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_an_answer_that_takes_its_time() {
    let bridge = TestBridge::open().await;
    let mut events = bridge.factory.events().await;
    for (path, body) in [
        ("/debugger/run", json!({ "code": "wait" })),
        ("/supervisor/run", json!({ "goal": code("wait") })),
    ] {
        let mut line = bridge.line().await;
        line.send(&bridge.written("POST", path, &[JSON], body.to_string().as_bytes())).await;
        line.send_no_more().await;
        wait_for(&mut events, "run.dispatched").await;
        bridge.factory.sandbox.gate.add_permits(1);
        line.answer("POST").await.expect(200);
        assert!(line.is_over().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_is_none() {
    let bridge = TestBridge::open().await;
    for head in ["", "GET /li", "GET /livez HTTP/1.1\r\nHost: a\r\n"] {
        let mut line = bridge.line().await;
        line.send(head.as_bytes()).await;
        line.send_no_more().await;
        assert!(line.is_over().await, "{head}");
    }
    let mut line = bridge.line().await;
    let headers = [JSON, ("Content-Length", "100")];
    line.send(&bridge.written("POST", "/planner/dispatch", &headers, b"")).await;
    line.send(b"{\"prompt\":").await;
    line.send_no_more().await;
    line.answer("POST").await.expect(400);
    assert!(line.is_over().await);
    bridge.get("/livez").await.expect(200);
    assert_eq!(bridge.factory.deps.journal.head().position, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_goes_on_for_a_client_that_only_listens() {
    let bridge = TestBridge::open().await;
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut line = bridge.line().await;
        let asked = String::from_utf8(bridge.written("GET", "/events", &[], b"")).unwrap();
        line.send(asked.replacen("HTTP/1.1", version, 1).as_bytes()).await;
        line.send_no_more().await;
        assert_eq!(line.head().await.status, 200);
        // A comment finds out whether anybody is there.
        while !line.next().await.unwrap().starts_with(':') {}
        for n in 0..3 {
            let said = json!({ "prompt": format!("{version} {n}") });
            bridge.post("/planner/dispatch", &said).await.expect(200);
            while !line.next().await.unwrap().starts_with("data: ") {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_client_is_gone_gives_its_place_back_at_once() {
    let few = BridgeSettings { streams_max: 1, ..BridgeSettings::default() };
    let bridge = TestBridge::open_with(few).await;
    for how in ["closed", "reset", "half closed before"] {
        let mut line = bridge.line().await;
        line.send(&bridge.written("GET", "/events", &[], b"")).await;
        assert_eq!(line.head().await.status, 200);
        while line.next().await.unwrap() != "retry: 1000" {}
        bridge.get("/events").await.expect(503);
        match how {
            "reset" => line.reset(),
            "half closed before" => {
                line.send_no_more().await;
                while !line.next().await.unwrap().starts_with(':') {}
                drop(line);
                // What is sent next finds it out, here an event.
                bridge.post("/planner/dispatch", &json!({ "prompt": "x" })).await.expect(200);
            }
            _ => drop(line),
        }
        let free = async { while bridge.ask("HEAD", "/events", &[], b"").await.status == 503 {} };
        in_time(free, how).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_broke_its_connection_off_is_not_waited_for() {
    let bridge = TestBridge::open_with(one_request()).await;
    let mut events = bridge.factory.events().await;
    for is_half_closed in [false, true] {
        let mut line = bridge.line().await;
        let body = json!({ "code": "wait" }).to_string();
        line.send(&bridge.written("POST", "/debugger/run", &[JSON], body.as_bytes())).await;
        wait_for(&mut events, "run.dispatched").await;
        if is_half_closed {
            line.send_no_more().await;
        }
        bridge.get("/memory/logs").await.expect(503);
        line.reset();
        let free = async { while bridge.get("/memory/logs").await.status == 503 {} };
        in_time(free, "its place is not given back").await;
        // What it asked for is done all the same.
        bridge.factory.sandbox.gate.add_permits(1);
        wait_for(&mut events, "run.finished").await;
    }
}
