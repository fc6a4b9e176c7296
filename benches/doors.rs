//! The doors of the real program under load: requests a second over HTTP and NATS, start, memory.
//!
//! Run it by hand on a quiet machine: `cargo bench --bench doors`. The load comes from this process, so both share
//! the machine. Lines about what is durable stand beside an fdatasync probe taken just before, in the same
//! directory. Needs nats-server on the PATH for its last part; `-- nats` runs that part alone. Prints, and asserts nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod support;

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use support::probe;

/// How long each line is measured.
const SPAN: Duration = Duration::from_secs(3);

/// The program, ended with the benchmark.
struct Up {
    child: Child,
    address: SocketAddr,
}

impl Up {
    fn start(data: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ai-factory"))
            .arg("--data-dir")
            .arg(data)
            .args(["up", "--port", "0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://").map(str::to_owned))
            .expect("it listens");
        // What it says later is not waited for.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, address: address.parse().unwrap() }
    }

    /// What it has in memory, in MB: resident, and that without pages of files.
    fn memory(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (of("VmRSS:"), of("RssAnon:"))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends one request and reads its answer, which must be a 200.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) {
    stream.write_all(request).await.unwrap();
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the connection was closed");
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse::<usize>().unwrap());
        if buffer.len() >= end + 4 + length {
            return;
        }
    }
}

/// How often a second something is done by so many tasks, each of which counts what it does.
async fn rate<F: Future<Output = ()> + Send + 'static>(
    at_once: usize,
    begin: impl Fn(Counted) -> F,
) -> f64 {
    let counted = Counted::default();
    let start = Instant::now();
    let all: Vec<_> = (0..at_once).map(|_| tokio::spawn(begin(counted.clone()))).collect();
    tokio::time::sleep(SPAN).await;
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
    rate(clients, |counted| {
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
    // The door wants to be called by its own name.
    let named = |request: Vec<u8>| {
        let text = String::from_utf8(request).unwrap();
        text.replace("host: localhost", &format!("host: {host}")).into_bytes()
    };
    let dispatch = || named(post("/planner/dispatch", r#"{"prompt": "Write a haiku about rust"}"#));
    let session = || named(post("/supervisor/run", r#"{"goal": "Think about it"}"#));
    for (name, request, durable) in [
        ("planner/dispatch", dispatch(), true),
        ("supervisor/run without code", session(), true),
        ("memory/logs?limit=50", named(get("/memory/logs?limit=50")), false),
        ("supervisor/history?limit=50", named(get("/supervisor/history?limit=50")), false),
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
    rate(askers, |counted| {
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
    // Somebody who answers at once, with as much as the actor does, in a process of the same machine.
    let echo = async_nats::connect(&url).await.unwrap();
    let mut asked = echo.queue_subscribe("echo", "q".to_owned()).await.unwrap();
    let client = async_nats::connect(&url).await.unwrap();
    let (subject, body) = ("factory.supervisor.status", r#"{"limit": 1}"#);
    let answer = loop {
        if let Ok(answer) = client.request(subject, body.into()).await {
            break answer.payload;
        }
    };
    tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            echo.publish(request.reply.unwrap(), answer.clone()).await.unwrap();
        }
    });
    for askers in [1, 64] {
        let raw = nats_rate(&client, "echo", body, askers).await;
        let actor = nats_rate(&client, subject, body, askers).await;
        println!(
            "{:<28} {askers:>3} askers  {actor:>9.0}/s   raw {raw:.0}/s: {:.2}",
            "request/reply over NATS",
            actor / raw
        );
    }
}

fn main() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::args().any(|argument| argument == "nats") {
        return runtime.block_on(nats(dir.path()));
    }
    let mut starts = Vec::new();
    for number in 0..9 {
        let start = Instant::now();
        let up = Up::start(&dir.path().join(format!("start-{number}")), &[]);
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {}\r\n\r\n", up.address).into_bytes();
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
