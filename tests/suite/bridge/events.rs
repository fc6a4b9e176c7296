//! The journal as server-sent events: everything, once, in order, and again from where a client
//! was.

use super::harness::*;

/// A stream under way. Asked for in HTTP/1.0, its body is what the line carries.
struct Events(RawConnection);

impl Events {
    async fn open(bridge: &TestBridge, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut line = bridge.line().await;
        let asked = bridge.written("GET", &format!("/events{query}"), headers, b"");
        let asked = String::from_utf8(asked).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
        line.send(asked.as_bytes()).await;
        let head = line.head().await;
        head.assert_complete();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        // Or nginx would keep events back until it has some kilobytes of them.
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        Self(line)
    }

    /// Position, type and data of the next event; `None` when the stream is over.
    async fn next(&mut self) -> Option<(u64, String, Value)> {
        let (mut id, mut kind) = (None, None);
        loop {
            let line = self.0.next().await?;
            match line.split_once(": ").unwrap_or((&line, "")) {
                ("id", value) => id = Some(value.parse().unwrap()),
                ("event", value) => kind = Some(value.to_owned()),
                ("data", value) => {
                    let data: Value = serde_json::from_str(value).unwrap();
                    assert_eq!(
                        (data["position"].as_u64(), data["type"].as_str()),
                        (id, kind.as_deref())
                    );
                    assert_eq!(self.0.next().await.as_deref(), Some(""));
                    return Some((id.unwrap(), kind.unwrap(), data));
                }
                _ => {}
            }
        }
    }
}

async fn dispatched(bridge: &TestBridge, count: usize) {
    for n in 0..count {
        bridge.post("/planner/dispatch", &json!({ "prompt": format!("p{n}") })).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_was_and_what_comes_each_once_and_in_order() {
    let bridge = TestBridge::open().await;
    dispatched(&bridge, 40).await;
    let mut all = Events::open(&bridge, "?after=0", &[]).await;
    for position in 1..=40 {
        assert_eq!(all.next().await.unwrap().0, position);
    }
    let mut new = Events::open(&bridge, "", &[]).await;
    bridge.post("/supervisor/run", &json!({ "goal": "think" })).await.expect(200);
    for position in 41..=45 {
        let (at, kind, data) = all.next().await.unwrap();
        assert_eq!(at, position);
        assert!(kind.starts_with("dev.ai-factory.session."), "{kind}");
        assert_eq!(
            new.next().await.unwrap(),
            (at, kind, data),
            "without a position it begins at the end"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_goes_on_behind_what_it_saw() {
    let bridge = TestBridge::open().await;
    dispatched(&bridge, 10).await;
    let mut first = Events::open(&bridge, "?after=3", &[]).await;
    assert_eq!(first.next().await.unwrap().0, 4);
    assert_eq!(first.next().await.unwrap().0, 5);
    drop(first);
    let mut again = Events::open(&bridge, "?after=3", &[("Last-Event-ID", "5")]).await;
    assert_eq!(again.next().await.unwrap().0, 6);
    let mut at_the_end = Events::open(&bridge, "?after=10", &[]).await;
    dispatched(&bridge, 1).await;
    assert_eq!(at_the_end.next().await.unwrap().0, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_lets_through_what_its_subjects_match() {
    let bridge = TestBridge::open().await;
    dispatched(&bridge, 30).await;
    let mut events = Events::open(&bridge, "?after=0&filter=factory.events.memory.%3E", &[]).await;
    bridge.post("/memory/remember", &json!({ "text": "a note" })).await.expect(200);
    let (position, kind, _) = events.next().await.unwrap();
    assert_eq!((position, kind.as_str()), (31, "dev.ai-factory.memory.remembered.v1"));
    let mut short = Events::open(&bridge, "?after=0&filter=memory.%3E", &[]).await;
    assert_eq!(short.next().await.unwrap().0, 31, "what follows `factory.events.` is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_can_match_nothing_is_refused_and_says_what_one_looks_like() {
    let bridge = TestBridge::open().await;
    for filter in ["a..b", "foo", "session", "factory.goals", "session.*.concludes", "%1B%0A"] {
        let refused = bridge.get(&format!("/events?filter={filter}")).await;
        refused.expect_fault(&["query", "filter"]);
    }
    let said = bridge.get("/events?filter=foo").await.json().to_string();
    assert!(said.contains("session.>") && said.contains("factory.events.>"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_none_is_refused() {
    let bridge = TestBridge::open().await;
    dispatched(&bridge, 2).await;
    for query in ["?after=3", "?after=x", "?after=-1", "?after=", "?after=1&after=1", "?after=%"] {
        bridge.get(&format!("/events{query}")).await.expect_fault(&["query", "after"]);
    }
    for last in ["3", "x", "-1", "18446744073709551616"] {
        let refused = bridge.ask("GET", "/events?after=0", &[("Last-Event-ID", last)], b"").await;
        refused.expect_fault(&["header", "Last-Event-ID"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_says_that_it_lives() {
    let heartbeat = Duration::from_millis(10);
    let bridge =
        TestBridge::open_with(BridgeSettings { heartbeat, ..BridgeSettings::default() }).await;
    let mut events = Events::open(&bridge, "", &[]).await;
    let mut comments = 0;
    while comments < 3 {
        comments += usize::from(events.0.next().await.unwrap().starts_with(':'));
    }
    dispatched(&bridge, 1).await;
    assert_eq!(events.next().await.unwrap().0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_their_own_room_and_give_it_back() {
    let few = BridgeSettings { streams_max: 1, requests_max: 1, ..BridgeSettings::default() };
    let mut bridge = TestBridge::open_with(few).await;
    let mut first = Events::open(&bridge, "", &[]).await;
    let refused = bridge.get("/events").await;
    refused.expect(503);
    assert!(refused.header("retry-after").is_some());
    bridge.get("/memory/logs").await.expect(200);
    assert_eq!(bridge.ask("HEAD", "/events", &[], b"").await.status, 503);
    bridge.close();
    assert!(first.next().await.is_none(), "a closing server ends its streams");
    bridge.closed().await;
}
