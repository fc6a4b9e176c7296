//! Parses a prompt (§5).

use ai_factory_actors::goal;
use ai_factory_ports::body::{read_body, utf_8, without_byte_order_mark};
use ai_factory_schemas::{plan::TaskType, problem::Problem, request::Goal};
use serde::Deserialize;

/// The largest prompt with its envelope, in bytes: the longest goal with its JSON escapes, and a
/// margin.
pub const PROMPT_BYTES_MAX: usize = 1024 * 1024;

/// The envelope (§5.1). Unknown fields are tolerated (§5.6).
#[derive(Deserialize)]
struct PromptEnvelope {
    prompt: String,
    #[serde(default)]
    attachments: Option<Vec<serde::de::IgnoredAny>>,
}

/// The goal in a prompt, or the reason for its refusal.
pub fn read(payload: &[u8]) -> Result<Goal, Problem> {
    if payload.len() > PROMPT_BYTES_MAX {
        let bytes = payload.len();
        let sentence = format!("a prompt of {bytes} bytes is too long: at most {PROMPT_BYTES_MAX}");
        return Err(Problem::too_large(sentence));
    }
    goal::check(Goal {
        goal: text(payload)?,
        task_type: TaskType::default(),
        check: None,
        files: Vec::new(),
        protect: Vec::new(),
        workspace: false,
        ask: false,
        budget: None,
        model: None,
        turns_max: None,
    })
}

/// The text in a prompt, or in the answer to a question (§7.2).
pub fn text(payload: &[u8]) -> Result<String, Problem> {
    let payload = without_byte_order_mark(payload);
    // §5.3: JSON white space is skipped; a brace begins an envelope; everything else is the prompt
    // itself.
    let first = payload.iter().find(|byte| !matches!(byte, b'\t' | b'\n' | b'\r' | b' '));
    if first == Some(&b'{') {
        let PromptEnvelope { prompt, attachments } = read_body(payload)?;
        if attachments.is_some_and(|attachments| !attachments.is_empty()) {
            return Err(Problem::bad_request("this agent takes no attachments"));
        }
        return Ok(prompt);
    }
    utf_8(payload, "a prompt is UTF-8 text or JSON").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_text_or_an_envelope_with_whatever_else_is_in_it() {
        let text = |payload: &[u8]| read(payload).unwrap().goal;
        assert_eq!(text(b"Greet me"), "Greet me");
        assert_eq!(text(br#"{"prompt": "Greet me"}"#), "Greet me");
        assert_eq!(text(b" \n{\"prompt\": \"x\", \"attachments\": [], \"more\": {\"a\": 1}}"), "x");
        assert_eq!(text(br#"{"prompt": "x", "attachments": null}"#), "x");
        assert_eq!(text(b"[1]"), "[1]");
        for marked in ["\u{feff}{\"prompt\": \"x\"}", "\n\u{feff} {\"prompt\": \"x\"}", "\u{feff}x"]
        {
            assert_eq!(text(marked.as_bytes()), "x", "{marked:?}");
        }
    }

    #[test]
    fn what_is_no_prompt_is_refused() {
        let nothing = br#"{"prompt": "x", "attachments": [{"filename": "a", "content": ""}]}"#;
        for payload in [
            &b""[..],
            b"  ",
            b"{",
            b"{}",
            br#"{"prompt": 1}"#,
            br#"{"prompt": ""}"#,
            br#"{"prompt": "x", "attachments": 1}"#,
            nothing,
            b"\xff",
            b"a\0b",
            &vec![b'x'; PROMPT_BYTES_MAX + 1],
        ] {
            let status = read(payload).unwrap_err().status;
            assert!(
                [400, 413, 422].contains(&status),
                "{status} {:?}",
                &payload[..payload.len().min(60)]
            );
        }
    }
}
