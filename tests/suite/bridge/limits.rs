//! Every limit of the HTTP server: what is too much, too large or too slow is refused or let go,
//! and nobody else suffers.

use super::harness::*;

fn settings() -> BridgeSettings {
    BridgeSettings::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_however_it_comes() {
    let bridge = TestBridge::open_with(BridgeSettings { body_bytes_max: 1000, ..settings() }).await;
    let fits = format!(r#"{{"prompt":"x"}}{}"#, " ".repeat(986));
    bridge.post_with("/planner/dispatch", &[], &fits).await.expect(200);
    let over = fits + " ";
    bridge.post_with("/planner/dispatch", &[], &over).await.expect(413);
    // Asked first, nothing is sent in vain; said to be huge, nothing is waited for.
    for (length, more) in [("1001", "Expect: 100-continue\r\n"), ("99999999999", "")] {
        let mut line = bridge.line().await;
        let head = format!(
            "POST /planner/dispatch HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{more}\r\n",
            bridge.address
        );
        line.send(head.as_bytes()).await;
        line.answer("POST").await.expect(413);
    }
    // Without a length, in pieces.
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")];
    let mut line = bridge.line().await;
    let mut bytes = bridge.written("POST", "/planner/dispatch", &chunked, b"");
    for _ in 0..11 {
        bytes.extend_from_slice(format!("64\r\n{}\r\n", " ".repeat(100)).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    line.send(&bytes).await;
    line.answer("POST").await.expect(413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_pieces_is_one_body() {
    let bridge = TestBridge::open().await;
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")];
    let mut line = bridge.line().await;
    line.send(&bridge.written("POST", "/planner/dispatch", &chunked, b"")).await;
    for piece in ["{\"pro", "mpt\": ", "\"in pieces\"}"] {
        line.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await;
    }
    line.send(b"0\r\n\r\n").await;
    line.answer("POST").await.expect(200);
    let logs = bridge.get("/memory/logs").await.expect(200);
    assert_eq!(logs[0]["prompt"], "in pieces");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_too_slow_is_disconnected() {
    let quick = Duration::from_millis(50);
    let bridge = TestBridge::open_with(BridgeSettings { body_read_max: quick, ..settings() }).await;
    let mut line = bridge.line().await;
    let headers = [("Content-Type", "application/json"), ("Content-Length", "100")];
    line.send(&bridge.written("POST", "/planner/dispatch", &headers, b"")).await;
    line.send(b"{").await;
    let refused = line.answer("POST").await;
    refused.expect(408);
    refused.assert_complete();
    assert!(line.is_over().await);
    bridge.get("/livez").await.expect(200);
    let bridge = TestBridge::open_with(BridgeSettings { head_read_max: quick, ..settings() }).await;
    for head in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a"] {
        let mut line = bridge.line().await;
        line.send(head.as_bytes()).await;
        assert!(line.is_over().await, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_answer_is_disconnected() {
    let stalled = BridgeSettings {
        write_stall_max: Duration::from_millis(50),
        connections_max: 1,
        ..settings()
    };
    let bridge = TestBridge::open_with(stalled).await;
    // More answers than the system holds for a client that reads none of them.
    let mut line = bridge.line().await;
    let one = bridge.written("GET", "/openapi.json", &[], b"");
    let asking = tokio::spawn(async move {
        for _ in 0..1000 {
            line.send(&one).await;
        }
        line
    });
    // There is room for one connection, and it is not idle: another is served once the first was
    // let go.
    let served = async { while bridge.get("/memory/logs").await.status == 503 {} };
    in_time(served, "the first was not let go").await;
    drop(in_time(asking, "the first was not let go").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_nothing_keep_nobody_out() {
    let bridge = TestBridge::open_with(BridgeSettings { connections_max: 3, ..settings() }).await;
    let mut events = bridge.factory.events().await;
    // One has work under way, one has asked before, and many never finish what they say.
    let mut working = bridge.line().await;
    let json = [("Content-Type", "application/json")];
    working.send(&bridge.written("POST", "/debugger/run", &json, br#"{"code":"wait"}"#)).await;
    wait_for(&mut events, "run.dispatched").await;
    let mut idle = bridge.line().await;
    idle.send(&bridge.written("GET", "/livez", &[], b"")).await;
    idle.answer("GET").await.expect(200);
    let mut silent = Vec::new();
    for head in ["", "G", "GET / HTTP/1.1\r\nHost: a"].repeat(3) {
        let mut line = bridge.line().await;
        line.send(head.as_bytes()).await;
        silent.push(line);
        bridge.get("/memory/logs").await.expect(200);
    }
    assert!(idle.is_over().await, "the longest idle one is closed");
    bridge.factory.sandbox.gate.add_permits(1);
    working.answer("POST").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_connection_has_work_another_is_told_to_come_again_and_checks_are_answered() {
    let bridge = TestBridge::open_with(BridgeSettings { connections_max: 2, ..settings() }).await;
    let mut events = bridge.factory.events().await;
    let mut working = bridge.line().await;
    let json = [("Content-Type", "application/json")];
    working.send(&bridge.written("POST", "/debugger/run", &json, br#"{"code":"wait"}"#)).await;
    wait_for(&mut events, "run.dispatched").await;
    // A stream of events is work too, though it is silent.
    let mut stream = bridge.line().await;
    stream.send(&bridge.written("GET", "/events", &[], b"")).await;
    assert_eq!(stream.head().await.status, 200);
    for _ in 0..3 {
        let mut line = bridge.line().await;
        line.send(&bridge.written("GET", "/memory/logs", &[], b"")).await;
        let refused = line.answer("GET").await;
        refused.expect(503);
        refused.assert_complete();
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(line.is_over().await, "its seat is needed");
        for check in ["/livez", "/readyz", "/healthcheck"] {
            bridge.get(check).await.expect(200);
        }
    }
    bridge.factory.sandbox.gate.add_permits(1);
    working.answer("POST").await.expect(200);
    bridge.get("/memory/logs").await.expect(200);
    assert!(working.is_over().await, "it is the idle one now");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_headers_have_limits() {
    let narrow = BridgeSettings { uri_bytes_max: 100, headers_max: 10, ..settings() };
    let bridge = TestBridge::open_with(narrow).await;
    let padded = |bytes: usize| format!("/livez?{}", "x".repeat(bytes - "/livez?".len()));
    bridge.get(&padded(100)).await.expect(200);
    bridge.get(&padded(101)).await.expect(414);
    bridge.ask("GET", "/livez", &[("X-A", "x"); 9], b"").await.expect(200);
    bridge.ask("GET", "/livez", &[("X-A", "x"); 10], b"").await.expect(431);
    let bridge = TestBridge::open_with(BridgeSettings { head_bytes_max: 8192, ..settings() }).await;
    bridge.ask("GET", "/livez", &[("X-A", &"x".repeat(7000))], b"").await.expect(200);
    bridge.ask("GET", "/livez", &[("X-A", &"x".repeat(9000))], b"").await.expect_bare(431);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_told_from_an_address_that_is_too_long() {
    let bridge = TestBridge::open().await;
    for bytes in [17_000, 40_000, 70_000, 1_000_000] {
        let long = "x".repeat(bytes);
        // A head beyond its limit is not parsed, whatever makes it long.
        let of_address = if bytes == 17_000 { 414 } else { 431 };
        for (path, header, status) in [
            (format!("/{long}"), "x", of_address),
            (format!("/?{long}"), "x", of_address),
            ("/livez".to_owned(), &*long, 431),
        ] {
            // Also behind another request on the same connection.
            for before in [0, 2] {
                let mut line = bridge.line().await;
                for _ in 0..before {
                    line.send(&bridge.written("GET", "/livez", &[], b"")).await;
                    line.answer("GET").await.expect(200);
                }
                if status == 431 && bytes == 17_000 {
                    // Within the limit of a head.
                    continue;
                }
                line.send(&bridge.written("GET", &path, &[("X-A", header)], b"")).await;
                let refused = line.answer("GET").await;
                assert_eq!(refused.status, status, "{bytes} bytes behind {before}: {refused}");
                if status == 414 {
                    refused.assert_complete();
                } else {
                    refused.expect_bare(431);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_limit_the_server_says_when_to_try_again_and_still_answers_health_checks() {
    let bridge = TestBridge::open_with(BridgeSettings { requests_max: 1, ..settings() }).await;
    let mut events = bridge.factory.events().await;
    let mut line = bridge.line().await;
    let json = [("Content-Type", "application/json")];
    line.send(&bridge.written("POST", "/debugger/run", &json, br#"{"code":"wait"}"#)).await;
    wait_for(&mut events, "run.dispatched").await;
    let refused = bridge.get("/memory/logs").await;
    refused.expect(503);
    refused.assert_complete();
    assert_eq!(refused.header("retry-after"), Some("1"));
    for check in ["/livez", "/readyz", "/healthcheck"] {
        bridge.get(check).await.expect(200);
    }
    bridge.factory.sandbox.gate.add_permits(1);
    line.answer("POST").await.expect(200);
    bridge.get("/memory/logs").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_actors_refusals_keep_their_time_to_try_again() {
    let narrow = ai_factory_actors::limits::Limits { sessions_max: 1, ..limits() };
    let factory = TestFactory::start_with(narrow, true, TempDir::new().unwrap()).await;
    let bridge = TestBridge::before(factory, settings()).await;
    bridge.post("/supervisor/submit", &json!({ "goal": code("wait") })).await.expect(202);
    let refused = bridge.post("/supervisor/submit", &json!({ "goal": "one more" })).await;
    refused.expect(503);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_out_of_its_time_is_said_to_have() {
    let run_answer_max = Duration::from_millis(50);
    let bridge = TestBridge::open_with(BridgeSettings { run_answer_max, ..settings() }).await;
    let answer = bridge.post("/debugger/run", &json!({ "code": "wait" })).await;
    answer.expect(504);
    answer.assert_complete();
    bridge
        .post("/supervisor/run", &json!({ "goal": "other operations have their own" }))
        .await
        .expect(200);
}
