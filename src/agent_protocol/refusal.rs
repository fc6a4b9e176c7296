//! Refusals in the protocol's form (§9).

use ai_factory_ports::bus::{Headers, Message, header};
use ai_factory_schemas::{problem::Problem, quote::printable, subject::Subject};
use serde::Serialize;

/// The body of a refusal (§9.1).
#[derive(Serialize)]
struct RefusalBody<'a> {
    error: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<f64>,
}

/// The protocol's code for a problem (§9.2), and its word.
fn class(problem: &Problem) -> (u16, &'static str) {
    match problem.status {
        400 | 422 => (400, "bad_request"),
        413 => (400, "too_large"),
        401 => (401, "unauthorized"),
        403 => (403, "forbidden"),
        404 => (404, "not_found"),
        409 => (409, "conflict"),
        503 if problem.retry_after.is_some() => (429, "rate_limited"),
        503 => (500, "unavailable"),
        504 => (500, "timed_out"),
        _ => (500, "internal"),
    }
}

/// The error message for a problem.
pub fn message(to: Subject, problem: &Problem) -> Message {
    let (code, error) = class(problem);
    let sentence = problem.sentence();
    let retry_after_s = problem.retry_after.map(|after| after.as_secs_f64());
    let body = RefusalBody { error, message: &sentence, retry_after_s };
    let mut headers = Headers::default();
    headers.set(header::ERROR_CODE, code.to_string());
    headers.set(header::ERROR, printable(&sentence, usize::MAX));
    let payload = serde_json::to_vec(&body).unwrap_or_default();
    Message { headers, ..Message::new(to, payload) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_problem_has_a_code_of_the_protocol_and_its_body() {
        let busy = Problem::busy("full", Duration::from_millis(1_500));
        for (problem, code, expected) in [
            (busy, "429", r#"{"error":"rate_limited","message":"full","retry_after_s":1.5}"#),
            (Problem::too_large("long"), "400", r#"{"error":"too_large","message":"long"}"#),
            (
                Problem::invalid(&["a"], "b", "c"),
                "400",
                r#"{"error":"bad_request","message":"a: c"}"#,
            ),
            (Problem::not_found("gone"), "404", r#"{"error":"not_found","message":"gone"}"#),
            (Problem::conflict("used"), "409", r#"{"error":"conflict","message":"used"}"#),
            (Problem::unavailable("disk"), "500", r#"{"error":"unavailable","message":"disk"}"#),
            (Problem::timed_out("late"), "500", r#"{"error":"timed_out","message":"late"}"#),
        ] {
            let message = message("a".parse().unwrap(), &problem);
            assert_eq!(message.headers.get(header::ERROR_CODE), Some(code));
            assert_eq!(message.headers.get(header::ERROR), Some(&*problem.sentence()));
            assert_eq!(std::str::from_utf8(&message.payload).unwrap(), expected);
        }
    }
}
