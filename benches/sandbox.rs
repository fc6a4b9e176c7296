//! What a sandbox costs: one run of `print(2+2)` as a plain subprocess, in a jail made for it
//! (cold), in one that waited (warm), and in one that waited and gets a workspace; the same over
//! HTTP at one client and at 8; and what it costs others: planning beside the pool's refill, health
//! checks beside 100 endless loops.
//!
//! Run it by hand on a quiet machine: `cargo bench --bench sandbox`. They take turns, so that what
//! disturbs one disturbs all. Between warm runs there is a pause in which the pool fills again; what
//! is measured is the run, not the refill. Needs `python3` on PATH. Prints, and asserts nothing but
//! that the programs ran.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use ai_factory::sandbox::{SandboxSettings, SelectedSandbox};
use ai_factory_ports::sandbox::{FileContents, Program, ProgramWorkspace, Sandbox as _};
use ai_factory_schemas::{
    run::IsolationLevel,
    text::BlobHash,
    workspace::{WorkspaceFile, WorkspaceLimits, WorkspaceManifest},
};
use support::{
    probe,
    server::{Up, exchange, get, post},
};
use tokio::net::TcpStream;

/// How often each is run.
const ROUNDS: usize = 200;
/// How long the pool has for its next member; more than a start takes.
const REFILL: Duration = Duration::from_millis(100);
/// How long an empty pool of 8 has.
const FILL: Duration = Duration::from_millis(1_500);
/// How many ask at once, and how often they do.
const AT_ONCE: u32 = 8;
const BURSTS: u32 = 20;
/// The files of a workspace, and their size together, in bytes.
const WORKSPACE_FILES: usize = 500;
const WORKSPACE_BYTES: usize = 5_000_000;
const SOURCE: &str = "print(2+2)";

fn sandbox(pool_members: usize) -> Arc<SelectedSandbox> {
    let settings = SandboxSettings {
        guardian: env!("CARGO_BIN_EXE_ai-factory").into(),
        pool_members,
        ..SandboxSettings::new(std::env::temp_dir())
    };
    SelectedSandbox::new(IsolationLevel::Full, settings)
}

fn program() -> Program {
    Program {
        language: "python".into(),
        source: SOURCE.into(),
        stdin: None,
        files: Vec::new(),
        return_files: Vec::new(),
        wall_max: Duration::from_secs(10),
        traceparent: None,
        cpu_max: None,
        workspace: None,
    }
}

/// Contents in memory.
struct Contents(HashMap<BlobHash, Vec<u8>>);

#[async_trait::async_trait]
impl FileContents for Contents {
    async fn contents(&self, hashes: Vec<BlobHash>) -> Result<Vec<Vec<u8>>, String> {
        let content = |hash: BlobHash| self.0.get(&hash).cloned().ok_or_else(|| hash.to_string());
        hashes.into_iter().map(content).collect()
    }
}

/// A workspace of [`WORKSPACE_FILES`] files in directories of 20, of [`WORKSPACE_BYTES`] in all.
fn workspace() -> ProgramWorkspace {
    let mut contents = HashMap::new();
    let mut files = WorkspaceManifest::default();
    for number in 0..WORKSPACE_FILES {
        let mut content = format!("{number}\n").into_bytes();
        content.resize(WORKSPACE_BYTES / WORKSPACE_FILES, b'x');
        let (blob, bytes) = (BlobHash::of(&content), content.len() as u64);
        let path = format!("package{}/module{number}.py", number / 20);
        files.files.insert(path, WorkspaceFile { blob, bytes, executable: false });
        contents.insert(blob, content);
    }
    ProgramWorkspace {
        files: Arc::new(files),
        contents: Arc::new(Contents(contents)),
        limits: WorkspaceLimits::default(),
        discard: false,
    }
}

async fn timed(sandbox: &SelectedSandbox) -> Duration {
    timed_with(sandbox, None).await
}

async fn timed_with(sandbox: &SelectedSandbox, workspace: Option<ProgramWorkspace>) -> Duration {
    let began = Instant::now();
    let ran = sandbox
        .run(Program { workspace, ..program() })
        .await
        .expect("the sandbox works: `ai-factory doctor`");
    assert_eq!(ran.stdout.text, "4\n", "{ran:?}");
    began.elapsed()
}

fn plain(python: &std::path::Path) -> Duration {
    let began = Instant::now();
    let output = Command::new(python).args(["-I", "-B", "-c", SOURCE]).output().unwrap();
    assert_eq!(output.stdout, b"4\n");
    began.elapsed()
}

/// The middle and the 99th percentile, in milliseconds.
fn shown(name: &str, mut taken: Vec<Duration>) {
    taken.sort();
    let ms =
        |share: usize| taken[(taken.len() * share / 100).min(taken.len() - 1)].as_secs_f64() * 1e3;
    println!("{name:<52} {:>8.2} {:>8.2}", ms(50), ms(99));
}

/// A plain subprocess, a jail made for the run, one that waited, and one that waited and gets a
/// workspace, taking turns.
async fn within_the_process() {
    let (cold, warm) = (sandbox(0), sandbox(2));
    let languages = cold.languages().await;
    let python = languages.iter().find(|it| it.name == "python").expect("Python 3 on PATH");
    println!("{SOURCE} with {}, {ROUNDS} interleaved runs", python.interpreter.display());
    timed(&cold).await;
    timed(&warm).await;
    let workspace = workspace();
    timed_with(&warm, Some(workspace.clone())).await;
    let [mut plains, mut colds, mut warms, mut workspaces] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        plains.push(plain(&python.interpreter));
        colds.push(timed(&cold).await);
        tokio::time::sleep(REFILL).await;
        warms.push(timed(&warm).await);
        tokio::time::sleep(REFILL).await;
        workspaces.push(timed_with(&warm, Some(workspace.clone())).await);
        tokio::time::sleep(REFILL).await;
    }
    shown("plain subprocess", plains);
    shown("cold", colds);
    shown("warm", warms);
    shown("warm, on a workspace of 500 files and 5 MB", workspaces);
    drop((cold, warm));
}

/// Somebody who asks one thing again and again over one connection.
struct Asker {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Asker {
    async fn new(address: SocketAddr, request: Vec<u8>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, request, buffer: Vec::new() }
    }

    async fn ask(&mut self) -> Duration {
        let began = Instant::now();
        exchange(&mut self.stream, &self.request, &mut self.buffer).await;
        began.elapsed()
    }

    async fn asks(&mut self, times: usize, pause: Duration) -> Vec<Duration> {
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            taken.push(self.ask().await);
            tokio::time::sleep(pause).await;
        }
        taken
    }
}

/// The same through the whole program, and what it does to others.
async fn over_http(data: &Path) {
    let up = Up::start(
        data,
        &["--set", "pool_members=8", "--set", "runs_max=8", "--set", "runs_waiting_max=100"],
    );
    let to = up.address;
    let run = |code: &str| post(to, "/debugger/run", &format!(r#"{{"code": "{code}"}}"#));
    let mut runner = Asker::new(to, run(SOURCE)).await;
    tokio::time::sleep(FILL).await;
    println!("\nover HTTP, pool of 8, ms ({:.0} syncs/s)", probe(data));
    shown("run, one client, pauses", runner.asks(ROUNDS, REFILL).await);
    shown("run, one client, no pauses", runner.asks(ROUNDS, Duration::ZERO).await);

    // As many at once as wait: what the pool is for.
    let mut bursts = Vec::new();
    let mut crowd = Vec::new();
    for _ in 0..AT_ONCE {
        crowd.push(Asker::new(to, run(SOURCE)).await);
    }
    for _ in 0..BURSTS {
        tokio::time::sleep(FILL).await;
        let began = Instant::now();
        futures_util::future::join_all(crowd.iter_mut().map(Asker::ask)).await;
        bursts.push(began.elapsed());
    }
    let seconds: f64 = bursts.iter().map(Duration::as_secs_f64).sum();
    let rate = f64::from(BURSTS * AT_ONCE) / seconds;
    shown("8 runs at once, all of them", bursts);
    println!("  that is {rate:.0} runs/s while the pool keeps up");

    // One that says nothing for long is closed.
    let mut planner =
        Asker::new(to, post(to, "/planner/dispatch", r#"{"prompt": "Think about it"}"#)).await;
    let mut runner = Asker::new(to, run(SOURCE)).await;
    shown("dispatch, alone", planner.asks(500, Duration::from_millis(2)).await);
    let refilling = tokio::spawn(async move {
        loop {
            runner.ask().await;
            tokio::time::sleep(REFILL).await;
        }
    });
    shown(
        "dispatch, beside a run and a refill each 100 ms",
        planner.asks(500, Duration::from_millis(2)).await,
    );
    refilling.abort();

    let mut doctor = Asker::new(to, get(to, "/healthcheck")).await;
    shown("healthcheck, alone", doctor.asks(500, Duration::from_millis(2)).await);
    let loops: Vec<_> = (0..100)
        .map(|_| {
            let request = run("while True: pass");
            tokio::spawn(async move { Asker::new(to, request).await.ask().await })
        })
        .collect();
    tokio::time::sleep(FILL).await;
    shown(
        "healthcheck, beside 100 endless loops",
        doctor.asks(2_000, Duration::from_millis(2)).await,
    );
    loops.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::main]
async fn main() {
    within_the_process().await;
    let dir = tempfile::tempdir_in(".").unwrap();
    over_http(dir.path()).await;
}
