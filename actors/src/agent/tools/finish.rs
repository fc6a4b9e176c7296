//! The end of the work as a model declares it: a call of `finish` alone, or a text without calls.

use ai_factory_schemas::{
    chat::ChatMessage,
    limit::{FILES_MAX, SUMMARY_CHARS_MAX},
    session::SessionStatus,
    turn::{FinishCall, ToolOutcome},
    workspace::check_path,
};
use serde::Deserialize;

use super::{arguments, terms::ToolEnd};
use crate::{agent::tool_names::FINISH, mask::Mask};

/// The result of an answer without a word.
const NOTHING: &str = "The model ended its work without a word.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishArguments {
    result: String,
    status: SessionStatus,
    #[serde(default)]
    files: Option<Vec<String>>,
}

/// The arguments of a call, if they are valid.
fn read(arguments: &str) -> Result<(String, SessionStatus, Vec<String>), String> {
    let FinishArguments { result, status, files } = arguments::read(FINISH, arguments)?;
    let files = files.unwrap_or_default();
    if result.trim().is_empty() {
        let fault = "`result` is empty: write the answer to the goal, or what was done.";
        return Err(fault.to_owned());
    }
    if files.len() > FILES_MAX {
        return Err(format!("`files` names {} files: at most {FILES_MAX}.", files.len()));
    }
    for path in &files {
        check_path(path).map_err(|fault| format!("`files`: the path {path:?} {fault}."))?;
    }
    Ok((result, status, files))
}

/// Result, status and files of an answer that ends the work; `None` if it does not.
fn end_of(answer: &ChatMessage) -> Option<(String, SessionStatus, Vec<String>)> {
    let ChatMessage::Assistant { text, tool_calls } = answer else { return None };
    match tool_calls.as_slice() {
        [] if text.trim().is_empty() => {
            Some((NOTHING.to_owned(), SessionStatus::Error, Vec::new()))
        }
        [] => Some((text.trim().to_owned(), SessionStatus::Success, Vec::new())),
        [call] if call.name == FINISH => read(&call.arguments).ok(),
        _ => None,
    }
}

/// The end that an answer declares: a lone call of `finish` with valid arguments, or a text without
/// tool calls, which counts as a success. An empty answer is an end with an error.
pub fn finish_of(answer: &ChatMessage) -> Option<FinishCall> {
    let (result, status, files) = end_of(answer)?;
    Some(FinishCall { status, summary: summary(&result), files })
}

/// The complete result of an answer that ends the work; empty if it does not.
pub fn result_of(answer: &ChatMessage) -> String {
    end_of(answer).map(|(result, ..)| result).unwrap_or_default()
}

fn summary(result: &str) -> String {
    match result.char_indices().nth(SUMMARY_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &result[..end]),
        None => result.to_owned(),
    }
}

/// The end of a call that does not end the work: its arguments are wrong, or it is not alone.
pub(super) fn refusal(arguments: &str, alone: bool, mask: &Mask) -> ToolEnd {
    let (outcome, words) = match read(arguments) {
        Err(fault) => (ToolOutcome::Invalid, fault),
        Ok(_) if alone => (ToolOutcome::Done, "The work is declared done.".to_owned()),
        Ok(_) => {
            let words = format!(
                "`{FINISH}` must be the only tool call of an answer: look at the results of the others first, then \
                 call it alone."
            );
            (ToolOutcome::Invalid, words)
        }
    };
    ToolEnd::sentence(outcome, words, mask)
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{chat::ToolCall, id::ToolCallId};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::agent::tool_names::RUN;

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall {
            id: ToolCallId(Uuid::nil()),
            provider_id: None,
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        }
    }

    fn answer(text: &str, tool_calls: Vec<ToolCall>) -> ChatMessage {
        ChatMessage::Assistant { text: text.to_owned(), tool_calls }
    }

    fn finishes(arguments: &str) -> Option<FinishCall> {
        finish_of(&answer("", vec![call(FINISH, arguments)]))
    }

    #[test]
    fn a_lone_call_with_valid_arguments_is_an_end() {
        let long = "ü".repeat(SUMMARY_CHARS_MAX + 1);
        let arguments = json!({ "result": long, "status": "partial", "files": ["a/b.py"] });
        let end = finishes(&arguments.to_string()).unwrap();
        assert_eq!((end.status, end.files), (SessionStatus::Partial, vec!["a/b.py".to_owned()]));
        assert_eq!(end.summary, format!("{}...", "ü".repeat(SUMMARY_CHARS_MAX)));
        let whole = result_of(&answer("", vec![call(FINISH, &arguments.to_string())]));
        assert_eq!(whole, long);
        assert!(
            finishes("{\"result\": \"r\", \"status\": \"success\", \"files\": null}").is_some()
        );
    }

    #[test]
    fn a_text_without_calls_is_a_success_and_an_empty_answer_an_error() {
        let end = finish_of(&answer("  6765\n", Vec::new())).unwrap();
        assert_eq!((end.status, end.summary.as_str()), (SessionStatus::Success, "6765"));
        assert_eq!(result_of(&answer("  6765\n", Vec::new())), "6765");
        let end = finish_of(&answer(" \n", Vec::new())).unwrap();
        assert_eq!((end.status, end.summary.as_str()), (SessionStatus::Error, NOTHING));
    }

    #[test]
    fn wrong_arguments_and_calls_beside_others_are_no_end_and_told_why() {
        let mask = Mask::default();
        for (arguments, words) in [
            ("{}", "missing field `result`"),
            ("{\"result\": \"r\"}", "missing field `status`"),
            ("{\"result\": \"r\", \"status\": \"done\"}", "unknown variant `done`"),
            ("{\"result\": \" \", \"status\": \"success\"}", "`result` is empty"),
            ("{\"result\": \"r\", \"status\": \"error\", \"files\": \"a\"}", "expected a sequence"),
            (
                "{\"result\": \"r\", \"status\": \"error\", \"files\": [\"../a\"]}",
                "\"../a\" must be",
            ),
            ("{\"result\": \"r\", \"status\": \"error\", \"x\": 1}", "unknown field `x`"),
        ] {
            assert_eq!(finishes(arguments), None, "{arguments}");
            let told = refusal(arguments, true, &mask);
            assert!(told.text.as_str().contains(words), "{}", told.text.as_str());
            assert_eq!(told.outcome, ToolOutcome::Invalid);
        }
        let many = json!({ "result": "r", "status": "error", "files": vec!["a"; FILES_MAX + 1] });
        assert_eq!(finishes(&many.to_string()), None);
        let valid = "{\"result\": \"r\", \"status\": \"success\"}";
        let both = answer("", vec![call(FINISH, valid), call(RUN, "{}")]);
        assert_eq!((finish_of(&both), result_of(&both)), (None, String::new()));
        assert_eq!(finish_of(&answer("t", vec![call(RUN, "{}")])), None);
        assert_eq!(finish_of(&ChatMessage::User { text: "t".to_owned() }), None);
        assert!(refusal(valid, false, &mask).text.as_str().contains("only tool call"));
    }
}
