//! Goals as they come in: what was published is read, and what cannot become a session is recorded as rejected.
//!
//! Whoever publishes a goal may not wait for an answer, so a refusal that was only answered would be lost.

use ai_factory_schemas::{
    envelope::Draft,
    goal::GoalRejected,
    id::{EventId, GoalId},
    limit::{GOAL_BYTES_MAX, REJECTED_BYTES_MAX},
    plan::TaskType,
    problem::Problem,
    request::Goal,
};

use crate::{
    append::patiently, body::read_body, deps::Deps, ports::journal::Append, service::Context,
};

/// The goal in a published payload: a JSON object where its first character is `{`, else plain UTF-8 text.
pub fn read(payload: &[u8]) -> Result<Goal, Problem> {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        return read_body(payload).and_then(check);
    }
    let text = std::str::from_utf8(payload).map_err(|fault| {
        Problem::bad_request(format!(
            "a goal is UTF-8 text or a JSON object with a `goal`: byte {} is neither",
            fault.valid_up_to()
        ))
    })?;
    check(Goal { goal: text.to_owned(), task_type: TaskType::default() })
}

/// The goal, or why it is refused.
pub fn check(goal: Goal) -> Result<Goal, Problem> {
    if crate::planner::is_blank(&goal.goal) {
        return Err(Problem::bad_request("`goal` is missing or blank: say what is to be done"));
    }
    if goal.goal.contains('\0') {
        return Err(Problem::bad_request("`goal` must not contain a NUL character"));
    }
    if goal.goal.len() > GOAL_BYTES_MAX {
        let bytes = goal.goal.len();
        let sentence = format!("`goal` of {bytes} bytes is too long: at most {GOAL_BYTES_MAX}");
        return Err(Problem::too_large(sentence));
    }
    Ok(goal)
}

/// The record of a refusal. Pure, like every decision.
fn rejected(context: &Context, payload: &[u8], problem: &Problem) -> GoalRejected {
    let head = &payload[..payload.len().min(REJECTED_BYTES_MAX)];
    GoalRejected {
        request_id: context.request_id.clone(),
        key: context.key.clone(),
        status: problem.status,
        reason: problem.sentence(),
        payload: String::from_utf8_lossy(head).into_owned(),
        payload_bytes: payload.len() as u64,
    }
}

/// Records that a published goal was refused for good. Answers with the problem, or with why it could not be recorded:
/// then the goal is to be published again.
pub async fn reject(deps: &Deps, context: &Context, payload: &[u8], problem: Problem) -> Problem {
    if problem.is_transient() {
        return problem;
    }
    let draft = Draft {
        id: EventId(deps.world.new_id()),
        time: deps.world.now(),
        event: rejected(context, payload, &problem).into(),
        trail: context.trail(),
    };
    let append = Append {
        stream: GoalId(deps.world.new_id()).into(),
        expected: 0,
        events: vec![draft],
        command: None,
        blobs: Vec::new(),
    };
    match patiently(&*deps.journal, append).await {
        Ok(_) => problem,
        Err(error) => crate::convert::not_appended(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(payload: &[u8]) -> u16 {
        read(payload).unwrap_err().status
    }

    #[test]
    fn a_payload_that_begins_with_a_brace_is_json_and_all_else_is_text() {
        let text = |payload: &[u8]| read(payload).unwrap().goal;
        assert_eq!(text(b"Greet me"), "Greet me");
        assert_eq!(text(b" \n{\"goal\": \"Greet me\", \"more\": 1}"), "Greet me");
        assert_eq!(text(b"[1, 2]"), "[1, 2]");
        assert_eq!(text("\"Grüße\" {x}".as_bytes()), "\"Grüße\" {x}");
        let coding = read(br#"{"goal": "x", "task_type": "coding"}"#).unwrap();
        assert_eq!(coding.task_type, TaskType::Coding);
    }

    #[test]
    fn what_is_no_goal_is_refused() {
        for blank in
            [&b""[..], b" \r\n\t", b"{}", br#"{"goal": " "}"#, b"a\0b", br#"{"goal": "\u0000"}"#]
        {
            assert_eq!(refusal(blank), 400, "{blank:?}");
        }
        assert_eq!(refusal(b"\xff\xfe"), 400);
        for malformed in [
            &b"{goal: 1}"[..],
            br#"{"goal": 1}"#,
            br#"{"goal": "\ud800"}"#,
            b"{\"goal\": \"\xff\"}",
        ] {
            assert_eq!(refusal(malformed), 422, "{malformed:?}");
        }
        assert_eq!(refusal(&vec![b'x'; GOAL_BYTES_MAX + 1]), 413);
    }
}
