//! Sessions without code through the local bus: how many a second, at 1, 8 and 64 at once, and
//! dispatches.
//!
//! Run it by hand: `cargo bench --bench sessions`. Each line stands beside an fdatasync probe taken
//! in the same seconds, in the same directory. Prints, and asserts nothing.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ai_factory::{
    config::{SettingsSources, load},
    connections::Connections,
    wiring::{Factory, UnfinishedSessions},
};
use ai_factory_ports::{bus::Headers, trace::NoTraces};
use ai_factory_schemas::{
    answer::{Dispatched, SessionAnswer},
    plan::TaskType,
    request::{Dispatch, Goal},
    subject::operation,
};
use support::probe;

/// How long each line is measured.
const SPAN: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

async fn session(factory: &Factory) {
    let body = Goal::new("Think about it");
    let (run, none) = (operation::SUPERVISOR_RUN, Headers::default());
    let _: SessionAnswer = factory.call(run, &body, none, PATIENCE).await.unwrap();
}

async fn dispatch(factory: &Factory) {
    let body = Dispatch { prompt: "Think about it".to_owned(), task_type: TaskType::General };
    let (dispatch, none) = (operation::PLANNER_DISPATCH, Headers::default());
    let _: Dispatched = factory.call(dispatch, &body, none, PATIENCE).await.unwrap();
}

#[derive(Clone, Copy)]
enum What {
    Session,
    Dispatch,
}

async fn measure(factory: &Arc<Factory>, what: What, name: &str, at_once: usize, dir: &Path) {
    let before = probe(dir);
    let start = Instant::now();
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let factory = Arc::clone(factory);
            tokio::spawn(async move {
                let mut done = 0_u32;
                while start.elapsed() < SPAN {
                    match what {
                        What::Session => session(&factory).await,
                        What::Dispatch => dispatch(&factory).await,
                    }
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for worker in workers {
        done += worker.await.unwrap();
    }
    let rate = f64::from(done) / start.elapsed().as_secs_f64();
    let probed = f64::midpoint(before, probe(dir));
    println!(
        "{name:10} {at_once:3} at once: {rate:8.0} a second, probe {probed:6.0} syncs a second, \
         {:5.2} a probe sync",
        rate / probed
    );
}

fn main() {
    // `cargo test --benches` starts benchmarks with this argument to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let dir = tempfile::TempDir::new_in(".").unwrap();
    let data = dir.path().join("data");
    let inputs = SettingsSources {
        data_dir: Some(data.display().to_string()),
        directory: dir.path().to_owned(),
        ..SettingsSources::default()
    };
    let settings = load(&inputs).unwrap().settings;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let connections = Connections::new(Arc::new(NoTraces));
        let factory = Arc::new(
            Factory::start(&settings, UnfinishedSessions::Resume, &connections).await.unwrap(),
        );
        dispatch(&factory).await;
        println!("start to first durable answer: {:.1?}", start.elapsed());
        for at_once in [1, 8, 64] {
            measure(&factory, What::Session, "sessions", at_once, dir.path()).await;
        }
        for at_once in [1, 8, 64] {
            measure(&factory, What::Dispatch, "dispatches", at_once, dir.path()).await;
        }
        Arc::into_inner(factory).unwrap().shutdown().await.unwrap();
    });
}
