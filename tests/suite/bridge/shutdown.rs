//! Shutdown of the HTTP server: what is in flight is answered, nothing new comes in, nobody who is
//! idle is waited for.

use super::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_answered_before_the_server_closes() {
    // Nobody is waited for because of these: the test would run out of patience.
    let head_read_max = Duration::from_hours(1);
    let mut bridge =
        TestBridge::open_with(BridgeSettings { head_read_max, ..BridgeSettings::default() }).await;
    let mut events = bridge.factory.events().await;
    let (mut silent, mut idle, mut busy) =
        (bridge.line().await, bridge.line().await, bridge.line().await);
    idle.send(&bridge.written("GET", "/livez", &[], b"")).await;
    idle.answer("GET").await.expect(200);
    let json = [("Content-Type", "application/json")];
    busy.send(&bridge.written("POST", "/debugger/run", &json, br#"{"code":"wait"}"#)).await;
    wait_for(&mut events, "run.dispatched").await;

    bridge.close();
    assert!(silent.is_over().await && idle.is_over().await);
    assert!(tokio::net::TcpStream::connect(bridge.address).await.is_err(), "nothing new comes in");
    bridge.factory.sandbox.gate.add_permits(1);
    let answer = busy.answer("POST").await;
    answer.expect(200);
    answer.assert_complete();
    bridge.closed().await;
    assert!(busy.is_over().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_closes_at_once() {
    let factory = TestFactory::start().await;
    let bridge = TestBridge::before(factory, BridgeSettings::default()).await;
    let mut line = bridge.line().await;
    line.send(&bridge.written("GET", "/livez", &[], b"")).await;
    line.answer("GET").await.expect(200);
    bridge.abort();
    assert!(line.is_over().await);
}

#[tokio::test]
async fn no_server_listens_beyond_loopback_without_a_token() {
    let factory = TestFactory::start().await;
    let deps = &factory.deps;
    let bridge = Bridge {
        bus: Arc::clone(&deps.bus),
        subjects: deps.subjects.clone(),
        tail: Tail::new(Arc::clone(&deps.journal)),
        ids: Arc::clone(&deps.ids),
        traces: Arc::clone(&deps.traces),
        health_report: Arc::new(HealthReport::default),
        settings: BridgeSettings::default(),
    };
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = bridge.serve(listener, std::future::pending()).await.unwrap_err();
    assert!(refused.to_string().contains("AI_FACTORY_TOKEN"), "{refused}");
}
