//! The tool `read_output`: a part of an earlier result.

use ai_factory_schemas::{chat::ChatMessage, turn::ToolOutcome};
use serde::Deserialize;

use super::{
    arguments,
    files::factory_failed,
    terms::{EarlierResult, ToolEnd, ToolTerms},
};
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PLACE: ToolPlace = ToolPlace { turn: 3, index: 1 };

    fn read(result: &str, arguments: &Value) -> ToolEnd {
        let mut arguments = arguments.clone();
        arguments["output"] = "3.2".into();
        let asked = arguments::read(READ_OUTPUT, &arguments.to_string()).unwrap();
        part(&asked, PLACE, result, &Mask::default())
    }

    #[test]
    fn parts_put_together_are_the_whole_result() {
        let whole: String = (0..9_000).map(|n| format!("ü{n} ")).collect();
        let (mut next, mut got) = (0, String::new());
        while next < whole.len() {
            let text = read(&whole, &json!({ "offset": next })).text.into_string();
            assert!(text.len() <= RESULT_BYTES_MAX, "{}", text.len());
            let (_, rest) = text.split_once("]\n").unwrap();
            let (data, rest) = rest.split_once("\n[end ").unwrap();
            got.push_str(data);
            let on = rest.split_once("\"offset\": ").map(|(_, on)| on.trim_end_matches(".\n"));
            next = on.map_or(whole.len(), |on| on.parse().unwrap());
        }
        assert!(got == whole);
    }

    #[test]
    fn odd_offsets_and_limits_have_an_answer() {
        let text = read("üü", &json!({ "offset": 1, "limit": 0 })).text.into_string();
        assert!(text.starts_with("Bytes 0 to 4 of 4 of the result 3.2:\n"), "{text}");
        let beyond = read("ab", &json!({ "offset": 2 }));
        assert!(beyond.text.as_str().contains("has 2 bytes: there is none at 2"));
        assert_eq!(beyond.outcome, ToolOutcome::Failed);
        let huge = json!({ "offset": 1, "limit": usize::MAX });
        assert!(read("abc", &huge).text.as_str().contains("\nbc\n"));
    }
}
