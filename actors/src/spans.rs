//! Spans along the path of a goal: names and attributes, in one place.
//!
//! They follow the OpenTelemetry semantic conventions where one exists (messaging, processes,
//! generative AI, errors), otherwise the words of the contract: `session_id`, `run_id`, `request_id`.
//!
//! *Promises.* Names come from a small set; ids are attributes. A span without a subscriber costs
//! one load of an atomic. Texts of goals, programs, notes and conversations are never put into a
//! span.

use ai_factory_ports::{
    bus::{MESSAGING_SYSTEM, Message, header},
    journal::{Append, AppendError, Appended},
    model::{ModelAnswer, ModelCall},
};
use ai_factory_schemas::{
    id::{RunId, SessionId},
    model::ModelErrorClass,
    problem::Problem,
    run::{RunEnd, RunStatus},
    session::{SessionConcluded, SessionStatus},
};
use tracing::{Span, field::Empty};

/// A number as attributes hold it: signed, and clamped to the largest if it does not fit.
fn number(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// From the arrival of a request at an actor to its answer.
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

/// Records the refusal of a request. The caller's faults are no errors of the server.
pub(crate) fn refused(span: &Span, problem: &Problem) {
    span.record("error.type", i64::from(problem.status));
    if problem.status >= 500 {
        failed(span);
    }
}

/// Marks the span as failed.
pub(crate) fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

/// From the start of a session's actor to its end.
pub(crate) fn session(id: SessionId, is_resumed: bool) -> Span {
    tracing::info_span!(
        "session",
        session_id = %id,
        is_resumed,
        status = Empty,
        otel.status_code = Empty,
    )
}

/// Records how a session went.
pub(crate) fn concluded(span: &Span, end: &SessionConcluded) {
    span.record("status", end.status.as_str());
    if end.status == SessionStatus::Error {
        failed(span);
    }
}

/// A session's question to the planner.
pub(crate) fn propose() -> Span {
    tracing::info_span!("propose")
}

/// A session's question to memory.
pub(crate) fn recall() -> Span {
    tracing::info_span!("recall")
}

/// A session's step with code.
pub(crate) fn run_step(step: u32, attempt: u32, run_id: RunId) -> Span {
    tracing::info_span!("run step", step = number(step), attempt = number(attempt), %run_id)
}

/// A session's check.
pub(crate) fn run_check(attempt: u32, run_id: RunId) -> Span {
    tracing::info_span!("run check", attempt = number(attempt), %run_id)
}

/// One append, from its submission to its durability.
pub(crate) fn append(append: &Append) -> Span {
    tracing::info_span!(
        "append",
        stream = %append.stream,
        events = number(append.events.len()),
        position = Empty,
        otel.status_code = Empty,
    )
}

/// Records the result of an append.
pub(crate) fn appended(span: &Span, done: &Result<Appended, AppendError>) {
    match done {
        Ok(appended) => {
            span.record("position", number(appended.last));
        }
        Err(_) => failed(span),
    }
}

/// A wait for a free slot of a run or a model call.
pub(crate) fn wait_for_slot() -> Span {
    tracing::debug_span!("wait for a slot")
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

/// Records how a program ended.
pub(crate) fn ended(span: &Span, end: &RunEnd) {
    span.record("process.exit.code", i64::from(end.exit_code));
    span.record("duration_ms", number(end.duration_ms));
    span.record("ended_by", tracing::field::debug(end.ended_by));
    if end.status != RunStatus::Success {
        failed(span);
    }
}

/// One attempt at a model call: the request to the provider.
pub(crate) fn chat(call: &ModelCall) -> Span {
    let (endpoint, parameters) = (&call.endpoint, &call.parameters);
    let (provider, model) = (endpoint.provider(), endpoint.name());
    let temperature = parameters.temperature_milli.map(|milli| f64::from(milli) / 1000.0);
    tracing::info_span!(
        "chat",
        otel.kind = "client",
        otel.name = %format_args!("chat {model}"),
        otel.status_code = Empty,
        "error.type" = Empty,
        server.address = endpoint.host(),
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = provider,
        gen_ai.request.model = model,
        gen_ai.request.max_tokens = number(parameters.output_tokens_max),
        gen_ai.request.temperature = temperature,
        gen_ai.request.seed = parameters.seed.map(number),
        gen_ai.response.id = Empty,
        gen_ai.response.model = Empty,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.usage.cache_read.input_tokens = Empty,
        gen_ai.usage.cache_creation.input_tokens = Empty,
    )
}

/// Records what a model answered: counts and names.
pub(crate) fn answered(span: &Span, answer: &ModelAnswer) {
    span.record("gen_ai.response.id", answer.provider_id.as_deref());
    span.record("gen_ai.response.model", answer.answered_by.as_deref());
    span.record("gen_ai.response.finish_reasons", tracing::field::display(answer.stop));
    let Some(usage) = &answer.usage else { return };
    span.record("gen_ai.usage.input_tokens", number(usage.input_total()));
    span.record("gen_ai.usage.output_tokens", number(usage.output));
    span.record("gen_ai.usage.cache_read.input_tokens", number(usage.cache_read));
    span.record("gen_ai.usage.cache_creation.input_tokens", number(usage.cache_write));
}

/// Records why a model did not answer.
pub(crate) fn not_answered(span: &Span, class: ModelErrorClass) {
    span.record("error.type", class.as_str());
    failed(span);
}
