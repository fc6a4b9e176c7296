//! What a sandbox costs: one run of `print(2+2)` as a plain subprocess, in a jail made for it (cold), and in one that waited
//! (warm).
//!
//! Run it by hand on a quiet machine: `cargo bench --bench sandbox`. The three take turns, so that what disturbs one disturbs
//! all. Between warm runs there is a pause in which the pool fills again; what is measured is the run, not the refill.
//! Needs `python3` on PATH. Prints, and asserts nothing but that the programs ran.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use ai_factory::sandbox::{Chosen, SandboxSettings};
use ai_factory_actors::ports::sandbox::{Program, Sandbox as _};
use ai_factory_schemas::run::IsolationLevel;

/// How often each is run.
const ROUNDS: usize = 200;
/// How long the pool has for its next member; more than a start takes.
const REFILL: Duration = Duration::from_millis(100);
const SOURCE: &str = "print(2+2)";

fn sandbox(pool_members: usize) -> Arc<Chosen> {
    let settings = SandboxSettings {
        guardian: env!("CARGO_BIN_EXE_ai-factory").into(),
        pool_members,
        ..SandboxSettings::new(std::env::temp_dir())
    };
    Chosen::new(IsolationLevel::Full, settings)
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
    }
}

async fn timed(sandbox: &Chosen) -> Duration {
    let began = Instant::now();
    let ran = sandbox.run(program()).await.expect("the sandbox works: `ai-factory doctor`");
    assert_eq!(ran.stdout.text, "4\n", "{ran:?}");
    began.elapsed()
}

fn plain(python: &std::path::Path) -> Duration {
    let began = Instant::now();
    let output = Command::new(python).args(["-I", "-B", "-c", SOURCE]).output().unwrap();
    assert_eq!(output.stdout, b"4\n");
    began.elapsed()
}

#[tokio::main]
async fn main() {
    let (cold, warm) = (sandbox(0), sandbox(2));
    let languages = cold.languages().await;
    let python = languages.iter().find(|it| it.name == "python").expect("Python 3 on PATH");
    timed(&cold).await;
    timed(&warm).await;
    let mut times = [("plain subprocess", Vec::new()), ("cold", Vec::new()), ("warm", Vec::new())];
    for _ in 0..ROUNDS {
        times[0].1.push(plain(&python.interpreter));
        times[1].1.push(timed(&cold).await);
        tokio::time::sleep(REFILL).await;
        times[2].1.push(timed(&warm).await);
        tokio::time::sleep(REFILL).await;
    }
    println!("{SOURCE}, {ROUNDS} interleaved runs, ms      p50      p99");
    for (name, mut taken) in times {
        taken.sort();
        let ms = |share: usize| taken[(ROUNDS * share / 100).min(ROUNDS - 1)].as_secs_f64() * 1e3;
        println!("{name:<40} {:>8.1} {:>8.1}", ms(50), ms(99));
    }
    cold.drained().await;
    warm.drained().await;
}
