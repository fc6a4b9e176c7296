//! The HTTP server and NATS ingress of the real program under load: request rates, start, memory.
//!
//! Run it by hand on a quiet machine: `cargo bench --bench ingress`. The load comes from this
//! process, so both share the machine. Lines about what is durable stand beside an fdatasync probe
//! taken just before, in the same directory. Needs nats-server on the PATH for its last part; `--
//! nats` runs that part alone. Prints, and asserts nothing.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio::net::TcpStream;

use support::{
    probe,
    server::{Up, exchange, get, post},
};

/// How long each line is measured.
const SPAN: Duration = Duration::from_secs(3);
/// How long one round of requests over NATS is measured, and how many rounds there are of each
/// kind.
const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 21;
/// The argument with which this program is the bare responder, in a process of its own as the
/// factory is.
const ECHO: &str = "echo";

/// How often a second something is done by so many tasks, each of which counts what it does.
async fn rate<F: Future<Output = ()> + Send + 'static>(
    span: Duration,
    at_once: usize,
    begin: impl Fn(Counted) -> F,
) -> f64 {
    let counted = Counted::default();
    let start = Instant::now();
    let all: Vec<_> = (0..at_once).map(|_| tokio::spawn(begin(counted.clone()))).collect();
    tokio::time::sleep(span).await;
    counted.over.store(true, Ordering::Relaxed);
    for one in all {
        one.await.unwrap();
    }
    f64::from(counted.done.load(Ordering::Relaxed)) / start.elapsed().as_secs_f64()
}

/// What was done so far, and whether it is enough.
#[derive(Clone, Default)]
struct Counted {
    done: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
}

impl Counted {
    fn count(&self) -> bool {
        self.done.fetch_add(1, Ordering::Relaxed);
        !self.over.load(Ordering::Relaxed)
    }
}

/// Requests a second of so many clients, each with a connection of its own.
async fn http_rate(address: SocketAddr, request: Vec<u8>, clients: usize) -> f64 {
    let request = Arc::new(request);
    rate(SPAN, clients, |counted| {
        let request = Arc::clone(&request);
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = Vec::with_capacity(64 * 1024);
            loop {
                exchange(&mut stream, &request, &mut buffer).await;
                if !counted.count() {
                    break;
                }
            }
        }
    })
    .await
}

async fn http(data: &Path, host: SocketAddr) {
    let dispatch = || post(host, "/planner/dispatch", r#"{"prompt": "Write a haiku about rust"}"#);
    let session = || post(host, "/supervisor/run", r#"{"goal": "Think about it"}"#);
    for (name, request, durable) in [
        ("planner/dispatch", dispatch(), true),
        ("supervisor/run without code", session(), true),
        ("memory/logs?limit=50", get(host, "/memory/logs?limit=50"), false),
        ("supervisor/history?limit=50", get(host, "/supervisor/history?limit=50"), false),
    ] {
        for clients in [1, 64] {
            let syncs =
                if durable { format!("probe {:.0} syncs/s", probe(data)) } else { String::new() };
            let rate = http_rate(host, request.clone(), clients).await;
            println!("{name:<28} {clients:>3} clients {rate:>9.0}/s   {syncs}");
        }
    }
}

/// Requests a second that so many askers get answered on a subject.
async fn nats_rate(client: &async_nats::Client, subject: &str, body: &str, askers: usize) -> f64 {
    rate(ROUND, askers, |counted| {
        let (client, subject) = (client.clone(), subject.to_owned());
        let body = bytes::Bytes::from(body.to_owned());
        async move {
            loop {
                let answer = client.request(subject.clone(), body.clone()).await.unwrap();
                assert!(answer.headers.is_none(), "refused");
                if !counted.count() {
                    break;
                }
            }
        }
    })
    .await
}

async fn nats(dir: &Path) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("nats://{address}");
    let _up = Up::start(&dir.join("nats"), &["--start-nats", "--nats", &url]);
    let client = async_nats::connect(&url).await.unwrap();
    let (subject, body) = ("factory.supervisor.status", r#"{"limit": 1}"#);
    let answered = async |subject: &'static str| loop {
        if let Ok(answer) = client.request(subject, body.into()).await {
            break answer.payload;
        }
    };
    let answer = answered(subject).await;
    // Somebody who answers at once, with as much as the actor does.
    let mut echo = std::process::Command::new(std::env::current_exe().unwrap())
        .args([ECHO, &url, std::str::from_utf8(&answer).unwrap()])
        .spawn()
        .unwrap();
    answered(ECHO).await;
    for askers in [1, 64] {
        let mut rounds = Vec::new();
        // In turns: what else the machine does meets both alike.
        for _ in 0..ROUNDS {
            let raw = nats_rate(&client, ECHO, body, askers).await;
            rounds.push((nats_rate(&client, subject, body, askers).await, raw));
        }
        let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let mut all: Vec<_> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[ROUNDS / 2]
        };
        let (actor, raw) = (median(&|round| round.0), median(&|round| round.1));
        println!(
            "{:<28} {askers:>3} askers  {actor:>9.0}/s   raw {raw:.0}/s: {:.2} (median of the rounds' own: {:.2})",
            "request/reply over NATS",
            actor / raw,
            median(&|round| round.0 / round.1)
        );
    }
    echo.kill().unwrap();
    echo.wait().unwrap();
}

/// Answers every request with the same, until it is killed.
async fn echo(url: &str, answer: String) {
    let client = async_nats::connect(url).await.unwrap();
    let answer = bytes::Bytes::from(answer);
    let mut asked = client.queue_subscribe(ECHO, "q".to_owned()).await.unwrap();
    while let Some(request) = asked.next().await {
        client.publish(request.reply.unwrap(), answer.clone()).await.unwrap();
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let [_, word, url, answer] = &std::env::args().collect::<Vec<_>>()[..]
        && word == ECHO
    {
        return runtime.block_on(echo(url, answer.clone()));
    }
    let dir = tempfile::tempdir_in(".").unwrap();
    if std::env::args().any(|argument| argument == "nats") {
        return runtime.block_on(nats(dir.path()));
    }
    let mut starts = Vec::new();
    for number in 0..9 {
        let start = Instant::now();
        let up = Up::start(&dir.path().join(format!("start-{number}")), &[]);
        let request = get(up.address, "/readyz");
        runtime.block_on(async {
            let mut stream = TcpStream::connect(up.address).await.unwrap();
            exchange(&mut stream, &request, &mut Vec::new()).await;
        });
        starts.push(start.elapsed());
        if number == 8 {
            let (resident, anonymous) = up.memory();
            println!("idle: {resident:.1} MB resident, {anonymous:.1} MB of them its own");
        }
    }
    starts.sort();
    println!("start to first 200, empty journal: {:.1?} (median of {})", starts[4], starts.len());
    let data = dir.path().join("http");
    let up = Up::start(&data, &[]);
    runtime.block_on(http(&data, up.address));
    let (resident, anonymous) = up.memory();
    println!("after that load: {resident:.1} MB resident, {anonymous:.1} MB of them its own");
    drop(up);
    runtime.block_on(nats(dir.path()));
}
