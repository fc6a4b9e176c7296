//! The end of the work as a model declares it: a call of `finish` alone, or a text without calls.

use ai_factory_schemas::{
    chat::ChatMessage,
    limit::{FILES_MAX, SUMMARY_CHARS_MAX},
    session::SessionStatus,
    turn::{FinishCall, ToolOutcome},
    workspace::check_path,
};
use serde::Deserialize;

use super::{ToolEnd, arguments};
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

/// The result of a call that does not end the work.
pub(super) fn refusal(arguments: &str, alone: bool, mask: &Mask) -> ToolEnd {
    let words = match read(arguments) {
        Err(fault) => fault,
        Ok(_) if alone => "The work is declared done.".to_owned(),
        Ok(_) => format!(
            "`{FINISH}` must be the only tool call of an answer: look at the results of the others first, then call it \
             alone."
        ),
    };
    ToolEnd::sentence(ToolOutcome::Invalid, words, mask)
}
