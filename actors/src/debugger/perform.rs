//! The one effect of a run: its program, executed in the sandbox.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::sandbox::{Program, ProgramOutcome};
use ai_factory_schemas::{
    diagnosis::Diagnosis,
    id::RunId,
    request::RunRequest,
    run::{EndedBy, RunEnd, RunStatus},
    text::Text,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    decider::{RunEffect, RunOutcome},
    diagnosis::sources::ProgramSources,
    input::{self, Blobs},
    workspace,
};
use crate::{blobs, deps::Deps, request::RequestContext, spans};

/// Runs the program until it ends or is cancelled. Returns the outcome and the blobs that
/// its record refers to.
pub(super) async fn perform(
    deps: &Deps,
    context: &RequestContext,
    run_id: RunId,
    effect: RunEffect,
    asked: &RunRequest,
    cancel: &CancellationToken,
) -> (RunOutcome, Blobs) {
    let span = spans::program(run_id, effect.attempt, &effect.language);
    let traceparent = deps.traces.of(&span).or_else(|| context.traceparent.clone());
    let files = effect.input.files.clone();
    let program = match program(deps, effect, asked, traceparent).await {
        Ok(program) => program,
        Err(reason) => {
            spans::failed(&span);
            return (RunOutcome::Broken { reason }, Blobs::new());
        }
    };
    let sources = Arc::new(ProgramSources::new(&program, files));
    let running = async {
        tokio::select! {
            ran = deps.sandbox.run(program) => Some(ran),
            () = cancel.cancelled() => None,
        }
    };
    match running.instrument(span.clone()).await {
        Some(Ok(mut ran)) => {
            let diagnosis = sources.diagnose(&*deps.journal, &ran).await;
            let left = ran.workspace.take();
            let (mut end, mut blobs) = recorded_end(ran, diagnosis);
            if let (Some(left), Some(given)) = (left, &asked.workspace) {
                let left = workspace::record_end(deps, &given.files, left, &mut blobs).await;
                end.workspace = Some(left).filter(|left| !left.is_empty());
            }
            spans::ended(&span, &end);
            (RunOutcome::Ended(Box::new(end)), blobs)
        }
        Some(Err(error)) => {
            spans::failed(&span);
            (RunOutcome::Broken { reason: error.to_string() }, Blobs::new())
        }
        None => {
            span.record("ended_by", "Cancel");
            (RunOutcome::Cancelled, Blobs::new())
        }
    }
}

/// The program for the sandbox, with everything that its record refers to.
async fn program(
    deps: &Deps,
    effect: RunEffect,
    asked: &RunRequest,
    traceparent: Option<String>,
) -> Result<Program, String> {
    let RunEffect { language, code, input, wall_ms_max, .. } = effect;
    let stdin = match &input.stdin {
        Some(text) => {
            let whole = blobs::load_text(&*deps.journal, text).await;
            Some(whole.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    Ok(Program {
        language,
        source: code,
        stdin,
        files: input::files(&*deps.journal, &input.files).await?,
        return_files: input.return_files,
        wall_max: Duration::from_millis(wall_ms_max),
        traceparent,
        // A time limit of the run's own is one of both times.
        cpu_max: asked.wall_ms_max.map(Duration::from_millis),
        workspace: asked.workspace.as_ref().map(|files| workspace::of_program(deps, files)),
    })
}

/// A program's end as its record holds it, with the blobs that the record refers to.
fn recorded_end(ran: ProgramOutcome, diagnosis: Option<Diagnosis>) -> (RunEnd, Blobs) {
    let (stdout, first) = Text::new(ran.stdout.text);
    let (stderr, second) = Text::new(ran.stderr.text);
    let mut blobs: Blobs = first.into_iter().chain(second).collect();
    let mut files_left_out = ran.files_left_out;
    let files = input::record_outputs(ran.files, &mut files_left_out, &mut blobs);
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
        isolation: ran.isolation,
        files,
        files_left_out,
        reason: None,
        diagnosis: diagnosis.map(Box::new),
        workspace: None,
    };
    (end, blobs)
}
