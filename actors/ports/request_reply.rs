//! Client side of an operation on the bus, and both directions of the error convention (NATS
//! ADR-32).

use std::time::Duration;

use ai_factory_schemas::{
    problem::{Detail, Problem, ProblemBody},
    quote::printable,
    subject::{Operation, Subjects},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bus::{Bus, Headers, Message, RequestError, header},
    retry_after,
};

/// The longest error text in a header, in characters; the body has all of it.
const ERROR_CHARS_MAX: usize = 2_000;

/// Requests an operation and reads its answer; refusals and missing answers are a [`Problem`].
pub async fn call<T: DeserializeOwned>(
    bus: &dyn Bus,
    subjects: &Subjects,
    operation: Operation,
    body: &impl Serialize,
    headers: Headers,
    timeout: Duration,
) -> Result<T, Problem> {
    let payload = serde_json::to_vec(body)
        .map_err(|fault| Problem::internal(format!("the request cannot be written: {fault}")))?;
    let mut message = Message::new(subjects.operation(operation), payload);
    message.headers = headers;
    let subject = message.subject.clone();
    let answer = ask(bus, message, timeout).await?;
    serde_json::from_slice(&answer).map_err(|fault| {
        Problem::internal(format!("the answer on `{subject}` cannot be read: {fault}"))
    })
}

/// Requests an operation and returns its answer unread.
pub async fn ask(bus: &dyn Bus, message: Message, timeout: Duration) -> Result<Bytes, Problem> {
    let answer = bus.request(message, timeout).await.map_err(|error| not_answered(&error))?;
    read_answer(answer)
}

/// The problem for a failed request.
fn not_answered(error: &RequestError) -> Problem {
    let sentence = error.to_string();
    match error {
        RequestError::TimedOut { .. } => Problem::timed_out(sentence),
        RequestError::NoResponders(_) => Problem::busy(sentence, retry_after::ACTOR),
        RequestError::Publish(_) => Problem::unavailable(sentence),
    }
}

/// The answer in a message, or the problem that it carries.
pub fn read_answer(message: Message) -> Result<Bytes, Problem> {
    let Some(code) = message.headers.get(header::ERROR_CODE) else { return Ok(message.payload) };
    let detail = match serde_json::from_slice::<ProblemBody>(&message.payload) {
        Ok(body) => body.detail,
        Err(_) => {
            Detail::Sentence(message.headers.get(header::ERROR).unwrap_or("refused").to_owned())
        }
    };
    let retry_after = message
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|text| text.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Err(Problem { status: code.parse().unwrap_or(500), detail, retry_after })
}

/// Headers and payload of an answer.
pub fn write_answer(answer: Result<Bytes, Problem>) -> (Headers, Bytes) {
    let mut headers = Headers::default();
    match answer {
        Ok(payload) => (headers, payload),
        Err(problem) => {
            headers.set(header::ERROR_CODE, problem.status.to_string());
            headers.set(header::ERROR, printable(&problem.sentence(), ERROR_CHARS_MAX));
            if let Some(after) = problem.retry_after {
                headers.set(header::RETRY_AFTER, format!("{:.3}", after.as_secs_f64()));
            }
            let body = serde_json::to_vec(&ProblemBody { detail: problem.detail });
            (headers, body.unwrap_or_default().into())
        }
    }
}
