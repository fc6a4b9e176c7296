//! Performing the one effect of a run: its program, in the sandbox.

use std::time::Duration;

use ai_factory_schemas::{
    id::RunId,
    run::{EndedBy, RunEnd, RunStatus},
    text::{BlobHash, Text},
};
use tokio::sync::watch;
use tracing::Instrument as _;

use super::decider::{Execute, RunOutcome};
use crate::{
    deps::Deps,
    ports::sandbox::{Program, Ran},
    service::Context,
    spans,
};

/// Runs the program until it ends or `cancelled` is raised; the outcome, and the blobs that its record refers to.
pub(super) async fn perform(
    deps: &Deps,
    context: &Context,
    run_id: RunId,
    effect: Execute,
    mut cancelled: watch::Receiver<bool>,
) -> (RunOutcome, Vec<(BlobHash, Vec<u8>)>) {
    let span = spans::program(run_id, effect.attempt, &effect.language);
    let program = Program {
        language: effect.language,
        source: effect.code,
        wall_max: Duration::from_millis(effect.wall_ms_max),
        traceparent: deps.traces.of(&span).or_else(|| context.traceparent.clone()),
    };
    let running = async {
        tokio::select! {
            ran = deps.sandbox.run(program) => Some(ran),
            _ = cancelled.wait_for(|cancelled| *cancelled) => None,
        }
    };
    match running.instrument(span.clone()).await {
        Some(Ok(ran)) => {
            let (end, blobs) = recorded_end(ran);
            spans::ended(&span, &end);
            (RunOutcome::Ended(Box::new(end)), blobs)
        }
        Some(Err(error)) => {
            spans::failed(&span);
            (RunOutcome::Broken { reason: error.to_string() }, Vec::new())
        }
        None => {
            span.record("ended_by", "Cancel");
            (RunOutcome::Cancelled, Vec::new())
        }
    }
}

/// A program's end as its record holds it, with the blobs that the record refers to.
fn recorded_end(ran: Ran) -> (RunEnd, Vec<(BlobHash, Vec<u8>)>) {
    let (stdout, first) = Text::new(ran.stdout.text);
    let (stderr, second) = Text::new(ran.stderr.text);
    let status = match (ran.ended_by, ran.exit_code) {
        (EndedBy::Wall, _) => RunStatus::Timeout,
        (EndedBy::Exit, 0) => RunStatus::Success,
        _ => RunStatus::Error,
    };
    let end = RunEnd {
        status,
        exit_code: ran.exit_code,
        signal: ran.signal,
        ended_by: ran.ended_by,
        stdout,
        stderr,
        stdout_bytes: ran.stdout.bytes_total,
        stderr_bytes: ran.stderr.bytes_total,
        duration_ms: u64::try_from(ran.duration.as_millis()).unwrap_or(u64::MAX),
    };
    (end, first.into_iter().chain(second).collect())
}
