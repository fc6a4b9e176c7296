//! The spans of a goal's path: their names and attributes, in one place.
//!
//! Names and attributes are those of the OpenTelemetry semantic conventions where these have one (messaging,
//! processes, errors), else the words of the contract: `session_id`, `run_id`, `request_id`.
//!
//! *Promises.* Names come from a small set; ids are attributes. Where nobody wants a span, it costs one look at
//! an atomic. Nothing that goals, programs or notes say is put into a span.

use ai_factory_schemas::{
    id::{RunId, SessionId},
    problem::Problem,
    run::{RunEnd, RunStatus},
    session::{SessionConcluded, SessionStatus},
};
use tracing::{Span, field::Empty};

use crate::{
    ports::{
        bus::{MESSAGING_SYSTEM, Message, header},
        journal::{Append, AppendError, Appended},
    },
    session::vocabulary::SessionEffect,
};

/// A number as attributes hold it: signed, and at its end where it would not fit.
fn number(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// From a request's arrival at an actor to its answer.
pub(crate) fn request(actor: &str, verb: &str, request_id: &str, message: &Message) -> Span {
    let subject = message.subject.as_str();
    tracing::info_span!(
        "request",
        actor,
        verb,
        request_id,
        otel.kind = "server",
        otel.name = %format_args!("process {subject}"),
        otel.status_code = Empty,
        "error.type" = Empty,
        messaging.system = MESSAGING_SYSTEM,
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = subject,
        messaging.message.id = message.headers.get(header::MESSAGE_ID),
        messaging.message.body.size = number(message.payload.len()),
    )
}

/// Notes that a request was refused. What the asker did wrong is no fault of the server.
pub(crate) fn refused(span: &Span, problem: &Problem) {
    span.record("error.type", i64::from(problem.status));
    if problem.status >= 500 {
        failed(span);
    }
}

/// Notes that what the span is about failed.
pub(crate) fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

/// From the first step of a session's shell to its last.
pub(crate) fn session(id: SessionId, is_resumed: bool) -> Span {
    tracing::info_span!(
        "session",
        session_id = %id,
        is_resumed,
        status = Empty,
        otel.status_code = Empty,
    )
}

/// Notes how a session went.
pub(crate) fn concluded(span: &Span, end: &SessionConcluded) {
    span.record("status", end.status.as_str());
    if end.status == SessionStatus::Error {
        failed(span);
    }
}

/// One effect of a session.
pub(crate) fn effect(effect: &SessionEffect) -> Span {
    match effect {
        SessionEffect::Propose => tracing::info_span!("propose"),
        SessionEffect::Recall => tracing::info_span!("recall"),
        SessionEffect::Run { step, run_id, attempt } => {
            tracing::info_span!("run step", step = number(*step), attempt = number(*attempt), %run_id)
        }
    }
}

/// One append, from the moment it is handed over to the moment it is on disk.
pub(crate) fn append(append: &Append) -> Span {
    tracing::info_span!(
        "append",
        stream = %append.stream,
        events = number(append.events.len()),
        position = Empty,
        otel.status_code = Empty,
    )
}

/// Notes what became of an append.
pub(crate) fn appended(span: &Span, done: &Result<Appended, AppendError>) {
    match done {
        Ok(appended) => {
            span.record("position", number(appended.last));
        }
        Err(_) => failed(span),
    }
}

/// A run that waits for its turn.
pub(crate) fn turn() -> Span {
    tracing::debug_span!("wait for a turn")
}

/// One attempt at a run: the child process.
pub(crate) fn program(run_id: RunId, attempt: u32, language: &str) -> Span {
    tracing::info_span!(
        "run program",
        %run_id,
        attempt = number(attempt),
        language,
        process.exit.code = Empty,
        duration_ms = Empty,
        ended_by = Empty,
        otel.status_code = Empty,
    )
}

/// Notes how a program ended.
pub(crate) fn ended(span: &Span, end: &RunEnd) {
    span.record("process.exit.code", i64::from(end.exit_code));
    span.record("duration_ms", number(end.duration_ms));
    span.record("ended_by", tracing::field::debug(end.ended_by));
    if end.status != RunStatus::Success {
        failed(span);
    }
}
