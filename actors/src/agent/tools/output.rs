//! The tool `read_output`: a part of an earlier result.

use ai_factory_schemas::{chat::ChatMessage, turn::ToolOutcome};
use serde::Deserialize;

use super::{EarlierResult, ToolEnd, ToolTerms, arguments, files::factory_failed};
use crate::{
    agent::{
        fences::FencedWriter,
        results::{RESULT_BYTES_MAX, ToolPlace},
        tool_names::READ_OUTPUT,
    },
    deps::Deps,
    mask::Mask,
    workspace::contents,
};

/// The longest part, in bytes.
const PART_BYTES_MAX: usize = RESULT_BYTES_MAX - 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputArguments {
    output: String,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    limit: Option<usize>,
}

/// Carries out a call of `read_output`.
pub(super) async fn perform(deps: &Deps, terms: &ToolTerms, arguments: &str) -> ToolEnd {
    let mask = &*deps.mask;
    let invalid = |fault: String| ToolEnd::sentence(ToolOutcome::Invalid, fault, mask);
    let asked: OutputArguments = match arguments::read(READ_OUTPUT, arguments) {
        Ok(asked) => asked,
        Err(fault) => return invalid(fault),
    };
    let place: ToolPlace = match asked.output.parse() {
        Ok(place) => place,
        Err(fault) => return invalid(format!("`output`: {fault}.")),
    };
    let Some(earlier) = terms.earlier.iter().find(|earlier| earlier.place == place) else {
        return invalid(format!("`output`: there is no result {place}."));
    };
    match complete(deps, earlier).await {
        Ok(result) => part(&asked, place, &result, mask),
        Err(fault) => ToolEnd::sentence(ToolOutcome::Failed, factory_failed(&fault), mask),
    }
}

/// The complete text of a result. It was masked when it was made.
async fn complete(deps: &Deps, earlier: &EarlierResult) -> Result<String, String> {
    let hash = earlier.complete.unwrap_or(earlier.result).hash;
    let bytes = contents::load(&*deps.journal, hash, "the result").await?;
    if earlier.complete.is_some() {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    match ChatMessage::from_bytes(&bytes) {
        Ok(ChatMessage::Tool { text, .. }) => Ok(text),
        Ok(_) => Err(format!("the result ({hash}) is another message")),
        Err(fault) => Err(format!("the result ({hash}) is unreadable: {fault}")),
    }
}

/// The end of a call for a part of this result.
fn part(asked: &OutputArguments, place: ToolPlace, result: &str, mask: &Mask) -> ToolEnd {
    let total = result.len();
    let start = asked.offset.unwrap_or(0);
    if start >= total {
        let words = format!("The result {place} has {total} bytes: there is none at {start}.");
        return ToolEnd::sentence(ToolOutcome::Failed, words, mask);
    }
    // At least one character.
    let limit = asked.limit.unwrap_or(PART_BYTES_MAX).clamp(4, PART_BYTES_MAX);
    let start = result.floor_char_boundary(start);
    let end = result.floor_char_boundary(start.saturating_add(limit));
    let mut text = FencedWriter::new(mask);
    text.say(format!("Bytes {start} to {end} of {total} of the result {place}:"));
    text.shown_data(&result[start..end]);
    if end < total {
        text.say(format!("More follows: read on with \"offset\": {end}."));
    }
    ToolEnd::new(ToolOutcome::Done, text.finish())
}
