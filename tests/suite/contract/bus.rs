//! What every bus must do, whoever carries the messages.
//!
//! An implementation passes by implementing [`BusFixture`] and adding one `bus_contract!` line. The
//! cases hold for a bus where a subscription takes effect a little later than `subscribe` returns:
//! [`settle`] waits for that.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use ai_factory::{
    bus::{LocalBus, LocalBusSettings},
    nats::NatsBus,
};
use ai_factory_ports::{
    bus::{Bus, Message, PublishError, QueueGroup, RequestError, Subscription},
    queue::QUEUE_BYTES_MAX,
};
use ai_factory_schemas::subject::Subject;
use bytes::Bytes;
use uuid::Uuid;

use crate::support::nats::TestServer;

/// How long anything may take before the test is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One bus, reached in two ways.
trait BusFixture: Sized {
    async fn start() -> Self;
    fn bus(&self) -> Arc<dyn Bus>;
    fn other(&self) -> Arc<dyn Bus>;
    /// The largest payload that a message without headers may have.
    fn payload_bytes_max(&self) -> usize;
}

struct Local(Arc<LocalBus>);

impl BusFixture for Local {
    async fn start() -> Self {
        Self(LocalBus::new(LocalBusSettings::default()))
    }

    fn bus(&self) -> Arc<dyn Bus> {
        self.0.clone()
    }

    fn other(&self) -> Arc<dyn Bus> {
        self.0.clone()
    }

    fn payload_bytes_max(&self) -> usize {
        LocalBusSettings::default().message_bytes_max
    }
}

/// Two connections to a server of the test's own.
struct OverNats {
    one: Arc<NatsBus>,
    two: Arc<NatsBus>,
    _server: TestServer,
}

impl BusFixture for OverNats {
    async fn start() -> Self {
        let server = TestServer::start();
        Self { one: server.bus().await, two: server.bus().await, _server: server }
    }

    fn bus(&self) -> Arc<dyn Bus> {
        self.one.clone()
    }

    fn other(&self) -> Arc<dyn Bus> {
        self.two.clone()
    }

    fn payload_bytes_max(&self) -> usize {
        self.one.message_bytes_max()
    }
}

macro_rules! bus_contract {
    ($name:ident, $fixture:ident, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    use super::BusFixture;
                    let fixture = super::$fixture::start().await;
                    super::in_time(super::$case(&fixture)).await;
                }
            )*
        }
    };
    ($name:ident, $fixture:ident) => {
        bus_contract!($name, $fixture, [
            wildcards_match_as_nats_says,
            members_of_a_queue_group_share_the_messages,
            a_plain_subscriber_and_each_queue_group_get_the_same_message,
            messages_of_one_publisher_arrive_in_order,
            a_request_gets_its_answer,
            concurrent_requests_get_their_own_answers,
            a_request_that_nobody_listens_to_fails_at_once,
            a_request_that_nobody_answers_times_out,
            the_first_answer_wins,
            a_late_answer_harms_nobody,
            headers_arrive_as_they_were_set,
            payloads_arrive_as_they_were_sent,
            a_message_that_is_too_large_is_refused,
            a_slow_subscriber_loses_and_counts_and_harms_nobody_else,
            a_subscriber_that_reads_nothing_holds_no_more_bytes_than_a_queue_may,
            a_dropped_subscription_listens_no_more,
            a_drained_subscription_has_what_came_before_and_then_ends,
        ]);
    };
}

bus_contract!(local, Local);
bus_contract!(nats, OverNats);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it never ended")
}

/// A corner of the bus that no other test uses.
struct Corner(String);

impl Corner {
    fn new() -> Self {
        Self(format!("contract.{}", Uuid::now_v7().simple()))
    }

    fn subject(&self, rest: &str) -> Subject {
        format!("{}.{rest}", self.0).parse().unwrap()
    }

    async fn listen(&self, bus: &Arc<dyn Bus>, rest: &str) -> Subscription {
        self.join(bus, rest, None).await
    }

    async fn join(
        &self,
        bus: &Arc<dyn Bus>,
        rest: &str,
        queue: Option<QueueGroup>,
    ) -> Subscription {
        let filter = format!("{}.{rest}", self.0).parse().unwrap();
        bus.subscribe(filter, queue, 4096).await.unwrap()
    }
}

/// Waits until what was subscribed over `bus` so far is in force: messages of one publisher are in
/// order.
async fn settle(bus: &Arc<dyn Bus>) {
    let corner = Corner::new();
    let mut echo = corner.listen(bus, "echo").await;
    bus.publish(Message::new(corner.subject("echo"), "")).await.unwrap();
    echo.next().await.unwrap();
}

async fn say(bus: &Arc<dyn Bus>, subject: &Subject, payload: impl ToString) {
    bus.publish(Message::new(subject.clone(), payload.to_string())).await.unwrap();
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

async fn next_text(subscription: &mut Subscription) -> String {
    text(&subscription.next().await.unwrap())
}

fn waiting_texts(subscription: &mut Subscription) -> Vec<String> {
    std::iter::from_fn(|| subscription.try_next()).map(|message| text(&message)).collect()
}

/// Answers every request with `answer(its payload)`.
fn answer_with(
    bus: Arc<dyn Bus>,
    mut requests: Subscription,
    answer: impl Fn(String) -> String + Send + 'static,
) {
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.clone().expect("a request names its reply subject");
            say(&bus, &reply, answer(text(&request))).await;
        }
    });
}

async fn wildcards_match_as_nats_says(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let table: &[(&str, &[&str])] = &[
        ("a.b", &["a.b"]),
        ("a.*", &["a.b", "a.c"]),
        ("*.b", &["a.b", "b.b"]),
        ("a.>", &["a.b", "a.c", "a.b.c", "a.b.c.d"]),
        ("*.*.c", &["a.b.c"]),
        ("a.*.>", &["a.b.c", "a.b.c.d"]),
        (">", &["a", "a.b", "a.c", "b.b", "a.b.c", "a.b.c.d"]),
    ];
    let mut listeners = Vec::new();
    for (filter, _) in table {
        listeners.push(corner.listen(&other, filter).await);
    }
    let mut last = corner.listen(&other, "end").await;
    settle(&other).await;
    for subject in ["a", "a.b", "a.c", "b.b", "a.b.c", "a.b.c.d"] {
        say(&bus, &corner.subject(subject), subject).await;
    }
    say(&bus, &corner.subject("end"), "end").await;
    next_text(&mut last).await;
    // Listeners are independent: that one has heard the end says nothing of the others.
    for ((filter, expected), listener) in table.iter().zip(&mut listeners) {
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            heard.push(next_text(listener).await);
        }
        heard.extend(waiting_texts(listener));
        heard.retain(|subject| subject != "end");
        assert_eq!(heard, *expected, "{filter}");
    }
}

async fn members_of_a_queue_group_share_the_messages(fixture: &impl BusFixture) {
    const MESSAGES: usize = 600;
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut members = vec![
        corner.join(&bus, "work", Some("workers")).await,
        corner.join(&other, "work", Some("workers")).await,
        corner.join(&other, "*", Some("workers")).await,
    ];
    settle(&bus).await;
    settle(&other).await;
    for number in 0..MESSAGES {
        say(&bus, &corner.subject("work"), number).await;
    }
    let mut shares = vec![0; members.len()];
    let mut heard = BTreeSet::new();
    while heard.len() < MESSAGES {
        for (share, member) in shares.iter_mut().zip(&mut members) {
            for number in waiting_texts(member) {
                assert!(heard.insert(number.clone()), "{number} came twice");
                *share += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

async fn a_plain_subscriber_and_each_queue_group_get_the_same_message(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut plain = corner.listen(&other, "news").await;
    let mut red = corner.join(&other, "news", Some("red")).await;
    let mut blue = corner.join(&other, "*", Some("blue")).await;
    settle(&other).await;
    say(&bus, &corner.subject("news"), "extra").await;
    for subscription in [&mut plain, &mut red, &mut blue] {
        assert_eq!(next_text(subscription).await, "extra");
    }
}

async fn messages_of_one_publisher_arrive_in_order(fixture: &impl BusFixture) {
    const MESSAGES: usize = 1000;
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut listener = corner.listen(&other, "*.*").await;
    settle(&other).await;
    let publishers = (0..2).map(|publisher| {
        let (bus, subject) = (bus.clone(), corner.subject(&format!("from.{publisher}")));
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                say(&bus, &subject, number).await;
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut expected = [0, 0];
    for _ in 0..2 * MESSAGES {
        let message = listener.next().await.unwrap();
        let from = usize::from(message.subject.as_str().ends_with('1'));
        assert_eq!(text(&message), expected[from].to_string());
        expected[from] += 1;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

async fn a_request_gets_its_answer(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let requests = corner.listen(&other, "shout").await;
    settle(&other).await;
    answer_with(other, requests, |word| word.to_uppercase());
    let request = Message::new(corner.subject("shout"), "quietly");
    let answer = bus.request(request, PATIENCE).await.unwrap();
    assert_eq!(text(&answer), "QUIETLY");
}

async fn concurrent_requests_get_their_own_answers(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    for bus in [&bus, &other] {
        let requests = corner.join(bus, "echo", Some("q")).await;
        settle(bus).await;
        answer_with(bus.clone(), requests, |word| word);
    }
    let mut askers = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (bus, subject) = (bus.clone(), corner.subject("echo"));
        askers.spawn(async move {
            let request = Message::new(subject, number.to_string());
            let answer = bus.request(request, PATIENCE).await.unwrap();
            assert_eq!(text(&answer), number.to_string());
        });
    }
    while let Some(asker) = askers.join_next().await {
        asker.unwrap();
    }
}

async fn a_request_that_nobody_listens_to_fails_at_once(fixture: &impl BusFixture) {
    let (bus, corner) = (fixture.bus(), Corner::new());
    let subject = corner.subject("nobody");
    // Longer than this test may take: only an answer at once passes.
    let refused = bus.request(Message::new(subject.clone(), ""), 10 * PATIENCE).await;
    assert_eq!(refused, Err(RequestError::NoResponders(subject)));
}

async fn a_request_that_nobody_answers_times_out(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut silent = corner.listen(&other, "silent").await;
    settle(&other).await;
    let (subject, after) = (corner.subject("silent"), Duration::from_millis(50));
    let refused = bus.request(Message::new(subject.clone(), "hello"), after).await;
    assert_eq!(refused, Err(RequestError::TimedOut { subject, after }));
    assert_eq!(next_text(&mut silent).await, "hello");
}

async fn the_first_answer_wins(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut requests = corner.listen(&other, "question").await;
    settle(&other).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.clone().unwrap();
            for answer in ["first", "second"] {
                say(&other, &reply, format!("{answer} {}", text(&request))).await;
            }
        }
    });
    for number in 0..20 {
        let request = Message::new(corner.subject("question"), number.to_string());
        let answer = bus.request(request, PATIENCE).await.unwrap();
        assert_eq!(text(&answer), format!("first {number}"));
    }
}

async fn a_late_answer_harms_nobody(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut requests = corner.listen(&other, "question").await;
    settle(&other).await;
    let hasty = Message::new(corner.subject("question"), "hasty");
    let refused = bus.request(hasty, Duration::from_millis(20)).await;
    assert!(matches!(refused, Err(RequestError::TimedOut { .. })), "{refused:?}");
    let late = requests.next().await.unwrap();
    say(&other, &late.reply.unwrap(), "late").await;
    answer_with(other, requests, |word| format!("in time: {word}"));
    let patient = Message::new(corner.subject("question"), "patient");
    let answer = bus.request(patient, PATIENCE).await.unwrap();
    assert_eq!(text(&answer), "in time: patient");
}

async fn headers_arrive_as_they_were_set(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut listener = corner.listen(&other, "headers").await;
    settle(&other).await;
    let mut message = Message::new(corner.subject("headers"), "with headers");
    message.reply = Some(corner.subject("reply"));
    message.headers.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    message.headers.set("Traceparent", "another one");
    message.headers.set("Nats-Msg-Id", "a: b, c; d");
    bus.publish(message.clone()).await.unwrap();
    assert_eq!(listener.next().await.unwrap(), message);
}

async fn payloads_arrive_as_they_were_sent(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut listener = corner.listen(&other, "payload").await;
    settle(&other).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = every_byte.iter().copied().cycle().take(fixture.payload_bytes_max()).collect();
    for payload in [vec![], b"\r\n.\r\n".to_vec(), every_byte, large] {
        bus.publish(Message::new(corner.subject("payload"), payload.clone())).await.unwrap();
        let message = listener.next().await.unwrap();
        assert!(message.payload == payload, "{} bytes changed", payload.len());
    }
}

async fn a_message_that_is_too_large_is_refused(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut listener = corner.listen(&other, "large").await;
    settle(&other).await;
    let too_large = vec![0; fixture.payload_bytes_max() + 1];
    let message = Message::new(corner.subject("large"), too_large);
    let refused = bus.publish(message.clone()).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
    let refused = bus.request(message, PATIENCE).await;
    assert!(
        matches!(refused, Err(RequestError::Publish(PublishError::TooLarge { .. }))),
        "{refused:?}"
    );
    say(&bus, &corner.subject("large"), "small").await;
    assert_eq!(next_text(&mut listener).await, "small");
}

async fn a_slow_subscriber_loses_and_counts_and_harms_nobody_else(fixture: &impl BusFixture) {
    const MESSAGES: u64 = 2000;
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let filter = format!("{}.flood", corner.0).parse().unwrap();
    let mut slow = other.subscribe(filter, None, 4).await.unwrap();
    let mut fast = corner.listen(&other, "flood").await;
    settle(&other).await;
    for number in 0..MESSAGES {
        say(&bus, &corner.subject("flood"), number).await;
    }
    for number in 0..MESSAGES {
        assert_eq!(next_text(&mut fast).await, number.to_string());
    }
    assert_eq!(fast.lost(), 0);
    assert!(slow.lost() > 0);
    let mut heard = 0;
    while heard + slow.lost() < MESSAGES {
        heard += u64::from(slow.try_next().is_some());
        tokio::task::yield_now().await;
    }
    assert_eq!(heard + slow.lost(), MESSAGES);
    assert_eq!(slow.try_next(), None);
    say(&bus, &corner.subject("flood"), "after").await;
    assert_eq!(next_text(&mut slow).await, "after");
}

async fn a_subscriber_that_reads_nothing_holds_no_more_bytes_than_a_queue_may(
    fixture: &impl BusFixture,
) {
    const BYTES: usize = 1_000_000;
    const FIT: u64 = (QUEUE_BYTES_MAX / BYTES) as u64;
    const MORE: u64 = 7;
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut slow = corner.listen(&other, "heavy").await;
    settle(&other).await;
    let payload = Bytes::from(vec![b'x'; BYTES]);
    for _ in 0..FIT + MORE {
        bus.publish(Message::new(corner.subject("heavy"), payload.clone())).await.unwrap();
    }
    while slow.lost() < MORE {
        tokio::task::yield_now().await;
    }
    for _ in 0..FIT {
        assert_eq!(slow.next().await.unwrap().payload, payload);
    }
    assert_eq!((slow.lost(), slow.try_next()), (MORE, None));
    say(&bus, &corner.subject("heavy"), "after").await;
    assert_eq!(next_text(&mut slow).await, "after");
}

async fn a_drained_subscription_has_what_came_before_and_then_ends(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let mut listener = corner.listen(&other, "drained").await;
    settle(&other).await;
    for number in 0..100 {
        say(&bus, &corner.subject("drained"), number).await;
    }
    bus.publish_all(Vec::new()).await.unwrap();
    listener.drain();
    for number in 0..100 {
        assert_eq!(next_text(&mut listener).await, number.to_string());
    }
    assert_eq!(listener.next().await, None);
    let asked = bus.request(Message::new(corner.subject("drained"), ""), PATIENCE).await;
    assert!(matches!(asked, Err(RequestError::NoResponders(_))), "{asked:?}");
}

async fn a_dropped_subscription_listens_no_more(fixture: &impl BusFixture) {
    let (bus, other, corner) = (fixture.bus(), fixture.other(), Corner::new());
    let plain = corner.listen(&other, "gone").await;
    let member = corner.join(&other, "*", Some("q")).await;
    let mut stays = corner.listen(&other, ">").await;
    settle(&other).await;
    drop((plain, member));
    say(&bus, &corner.subject("gone"), "still heard").await;
    assert_eq!(next_text(&mut stays).await, "still heard");
    drop(stays);
    // A subscription may end a little later than its drop: ask until nobody is there.
    loop {
        let request = Message::new(corner.subject("gone"), "");
        match bus.request(request, Duration::from_millis(10)).await {
            Err(RequestError::NoResponders(_)) => break,
            Err(RequestError::TimedOut { .. }) => {}
            unexpected => panic!("{unexpected:?}"),
        }
    }
}
