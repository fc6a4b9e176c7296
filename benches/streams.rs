//! How fast events get into the JetStream stream, how far behind they are, and when the first one
//! of a goal is seen.
//!
//! `cargo bench --bench streams -- [--events N] [--seconds N]`. Needs nats-server on the PATH; it
//! runs with its default sync, on this machine. Prints, and asserts nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs
)]

mod support;

use std::{
    collections::VecDeque,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ai_factory::{
    config::{self, Settings, SettingsSources},
    connections::Connections,
    wiring::{Factory, UnfinishedSessions},
};
use ai_factory_ports::{journal::Append, trace::NoTraces};
use ai_factory_schemas::{
    envelope::{EventDraft, Trail},
    id::{EventId, MemoryId},
    memory::MemoryRemembered,
};
use async_nats::jetstream::{self, consumer::pull};
use futures_util::StreamExt as _;
use support::probe;

/// Events of each append when the journal is filled.
const FILL_EVENTS: u64 = 250;
/// Events a second whose lag is measured.
const PACE: u64 = 5_000;
/// How many goals are published, one after the other, to see when their first event comes.
const FIRST_EVENTS: usize = 200;
/// How often some of them are appended.
const TICK: Duration = Duration::from_millis(10);

/// The server, ended with the benchmark.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Server {
    fn start(dir: &Path) -> (Self, String) {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::fs::create_dir_all(dir).unwrap();
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &address.port().to_string(), "--jetstream"])
            .arg("--store_dir")
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server on the PATH");
        (Self(child), format!("nats://{address}"))
    }
}

fn settings(dir: &Path, nats: &str) -> Settings {
    let set = [("data_dir", dir.join("data").display().to_string()), ("nats", nats.to_owned())];
    let set = set.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let inputs = SettingsSources { set, directory: dir.to_owned(), ..SettingsSources::default() };
    config::load(&inputs).unwrap().settings
}

/// Appends so many events of some 600 bytes each, in one append; answers with the last position.
async fn append(factory: &Factory, count: u64) -> u64 {
    let events = (0..count).map(|_| EventDraft {
        id: EventId(factory.ids.new_id()),
        time: factory.clock.now(),
        event: MemoryRemembered {
            request_id: factory.ids.new_id().into(),
            text: "What a step says of itself is about as long as this.".to_owned(),
            tags: Vec::new(),
        }
        .into(),
        trail: Trail::default(),
    });
    let append = Append {
        stream: MemoryId(factory.ids.new_id()).into(),
        expected: 0,
        events: events.collect(),
        command: None,
        blobs: Vec::new(),
    };
    factory.journal.append(append).await.unwrap().last
}

async fn kept(context: &jetstream::Context) -> u64 {
    match context.get_stream("FACTORY_EVENTS").await {
        Ok(stream) => stream.cached_info().state.messages,
        Err(_) => 0,
    }
}

async fn backlog(context: &jetstream::Context, events: u64) {
    let (mut first, mut at_first) = (Instant::now(), 0);
    loop {
        let now = kept(context).await;
        if at_first == 0 {
            (first, at_first) = (Instant::now(), now);
        }
        if now >= events {
            let rate = (events - at_first) as f64 / first.elapsed().as_secs_f64();
            println!("backlog of {events} events: {rate:.0} events/s into the stream");
            return;
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn lag(factory: &Factory, context: &jetstream::Context, seconds: u64) {
    let stream = context.get_stream("FACTORY_EVENTS").await.unwrap();
    let from = stream.cached_info().state.last_sequence + 1;
    let consumer = stream
        .create_consumer(pull::Config {
            deliver_policy: jetstream::consumer::DeliverPolicy::ByStartSequence {
                start_sequence: from,
            },
            ack_policy: jetstream::consumer::AckPolicy::None,
            ..pull::Config::default()
        })
        .await
        .unwrap();
    // The last position of each append, when it was on disk, and how many events it had.
    let appended = Arc::new(Mutex::new(VecDeque::new()));
    let seen = Arc::clone(&appended);
    let watching = tokio::spawn(async move {
        let mut messages = consumer.messages().await.unwrap();
        let mut lags = Vec::new();
        while let Some(Ok(message)) = messages.next().await {
            let headers = message.headers.as_ref().unwrap();
            let position: u64 = headers.get("Factory-Position").unwrap().as_str().parse().unwrap();
            let next = seen.lock().unwrap().front().copied();
            match next {
                Some((0, _)) => break,
                Some((last, at)) if position >= last => {
                    seen.lock().unwrap().pop_front();
                    lags.push(Instant::now().duration_since(at));
                }
                _ => {}
            }
            if seen.lock().unwrap().front().is_some_and(|(last, _)| *last == 0) {
                break;
            }
        }
        lags.sort();
        lags
    });
    let mut tick = tokio::time::interval(TICK);
    let per_tick = PACE * u64::try_from(TICK.as_millis()).unwrap() / 1_000;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        tick.tick().await;
        let last = append(factory, per_tick).await;
        appended.lock().unwrap().push_back((last, Instant::now()));
        count += per_tick;
    }
    let pace = count as f64 / start.elapsed().as_secs_f64();
    appended.lock().unwrap().push_back((0, Instant::now()));
    let lags = watching.await.unwrap();
    println!(
        "at {pace:.0} events/s: behind by {:.1?} (median), {:.1?} (most), from disk to a consumer of the stream",
        lags[lags.len() / 2],
        lags[lags.len() - 1]
    );
}

/// How long a goal takes from its publication to the moment when a subscriber has its session's
/// first event: through the goals' stream, and asked of the supervisor. Beside it what one sync
/// takes, in the same seconds.
async fn first_event(dir: &Path, url: &str) {
    let publisher = async_nats::connect(url).await.unwrap();
    let subscriber = async_nats::connect(url).await.unwrap();
    let mut opened = subscriber.subscribe("factory.events.session.*.opened").await.unwrap();
    subscriber.flush().await.unwrap();
    let context = jetstream::new(publisher.clone());
    while context.get_stream("FACTORY_GOALS").await.is_err() {
        tokio::time::sleep(TICK).await;
    }
    for subject in ["factory.goals", "factory.supervisor.submit"] {
        let before = probe(dir);
        let mut took = Vec::new();
        for number in 0..FIRST_EVENTS {
            let goal = format!("{{\"goal\": \"Think about {number}\"}}");
            let reply = publisher.new_inbox();
            let start = Instant::now();
            publisher.publish_with_reply(subject, reply, goal.into()).await.unwrap();
            opened.next().await.unwrap();
            took.push(start.elapsed());
            tokio::time::sleep(TICK).await;
        }
        took.sort();
        println!(
            "{subject}: first event after {:.2?} (median), {:.2?} (nine of ten); one sync {:.2} ms",
            took[took.len() / 2],
            took[took.len() * 9 / 10],
            2_000.0 / (before + probe(dir)),
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, usual: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(usual, |at| arguments[at + 1].parse().unwrap())
    };
    let (events, seconds) = (number("--events", 200_000), number("--seconds", 10));
    let dir = tempfile::tempdir_in(".").unwrap();
    let (_server, url) = Server::start(&dir.path().join("nats"));
    println!("probe {:.0} syncs/s", probe(dir.path()));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let traces = || Arc::new(NoTraces) as Arc<_>;
        let alone = settings(dir.path(), "");
        let connections = Connections::new(traces());
        let factory =
            Factory::start(&alone, UnfinishedSessions::LeaveAlone, &connections).await.unwrap();
        for _ in 0..events.div_ceil(FILL_EVENTS) {
            append(&factory, FILL_EVENTS).await;
        }
        let events = factory.journal.head().position;
        factory.shutdown().await.unwrap();

        let with = settings(dir.path(), &url);
        let context = jetstream::new(async_nats::connect(&url).await.unwrap());
        let connections = Connections::open(&with, false, traces()).await.unwrap();
        let factory =
            Factory::start(&with, UnfinishedSessions::LeaveAlone, &connections).await.unwrap();
        backlog(&context, events).await;
        lag(&factory, &context, seconds).await;
        factory.shutdown().await.unwrap();
        connections.close().await;

        // A factory and a server with nothing else to do.
        let dir = dir.path().join("first");
        let (_server, url) = Server::start(&dir.join("nats"));
        let with = settings(&dir, &url);
        let connections = Connections::open(&with, false, traces()).await.unwrap();
        let factory =
            Factory::start(&with, UnfinishedSessions::LeaveAlone, &connections).await.unwrap();
        first_event(&dir, &url).await;
        factory.shutdown().await.unwrap();
        connections.close().await;
    });
}
