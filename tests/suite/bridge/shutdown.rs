//! Closing the door: what is under way is answered, nothing new comes in, nobody who is idle is waited for.

use super::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_answered_before_the_door_is_closed() {
    // Nobody is waited for because of these: the test would run out of patience.
    let head_read_max = Duration::from_hours(1);
    let mut door =
        Door::open_with(BridgeSettings { head_read_max, ..BridgeSettings::default() }).await;
    let mut events = door.factory.events().await;
    let (mut silent, mut idle, mut busy) =
        (door.line().await, door.line().await, door.line().await);
    idle.send(&door.written("GET", "/livez", &[], b"")).await;
    idle.answer("GET").await.expect(200);
    let json = [("Content-Type", "application/json")];
    busy.send(&door.written("POST", "/debugger/run", &json, br#"{"code":"wait"}"#)).await;
    wait_for(&mut events, "run.dispatched").await;

    door.close();
    assert!(silent.is_over().await && idle.is_over().await);
    assert!(tokio::net::TcpStream::connect(door.address).await.is_err(), "nothing new comes in");
    door.factory.sandbox.gate.add_permits(1);
    let answer = busy.answer("POST").await;
    answer.expect(200);
    answer.assert_complete();
    door.closed().await;
    assert!(busy.is_over().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_is_dropped_is_closed_at_once() {
    let factory = TestFactory::start().await;
    let door = Door::before(factory, BridgeSettings::default()).await;
    let mut line = door.line().await;
    line.send(&door.written("GET", "/livez", &[], b"")).await;
    line.answer("GET").await.expect(200);
    door.abort();
    assert!(line.is_over().await);
}

#[tokio::test]
async fn no_door_opens_beyond_loopback_without_a_token() {
    let factory = TestFactory::start().await;
    let deps = &factory.deps;
    let bridge = Bridge {
        bus: Arc::clone(&deps.bus),
        subjects: deps.subjects.clone(),
        journal: Arc::clone(&deps.journal),
        world: Arc::clone(&deps.world),
        traces: Arc::clone(&deps.traces),
        vitals: Arc::new(Vitals::default),
        settings: BridgeSettings::default(),
    };
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = bridge.serve(listener, std::future::pending()).await.unwrap_err();
    assert!(refused.to_string().contains("AI_FACTORY_TOKEN"), "{refused}");
}
