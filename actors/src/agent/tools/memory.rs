//! The tool `search_memory`.

use std::time::Duration;

use ai_factory_ports::request_reply::call;
use ai_factory_schemas::{
    answer::{FoundMemory, SearchAnswer},
    limit::{CONTEXT_ITEM_BYTES_MAX, QUERY_BYTES_MAX},
    problem::Problem,
    request::SearchMemory,
    subject::operation,
    turn::ToolOutcome,
};
use serde::Deserialize;

use super::{ToolEnd, ToolTerms, arguments, files::factory_failed};
use crate::{
    agent::{fences::FencedWriter, tool_names::SEARCH_MEMORY},
    deps::Deps,
    mask::Mask,
};

/// The most memories of one answer.
const FOUND_MAX: usize = 5;
/// The longest text of a memory, in bytes; the rest is left out. All of them fit a result.
const TEXT_BYTES_MAX: usize = CONTEXT_ITEM_BYTES_MAX / 2;
/// Timeout of memory.
const MEMORY_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchArguments {
    query: String,
}

/// Carries out a call of `search_memory`. What belongs to the session itself is not found.
pub(super) async fn perform(deps: &Deps, terms: &ToolTerms, arguments: &str) -> ToolEnd {
    let mask = &*deps.mask;
    let query = match query(arguments) {
        Ok(query) => query,
        Err(fault) => return ToolEnd::sentence(ToolOutcome::Invalid, fault, mask),
    };
    let asked = SearchMemory {
        q: query,
        n: u32::try_from(FOUND_MAX).ok(),
        without: Some(terms.session),
        fold: true,
        plain: true,
        ..SearchMemory::default()
    };
    let answer: Result<SearchAnswer, Problem> = call(
        &*deps.bus,
        &deps.subjects,
        operation::MEMORY_SEARCH,
        &asked,
        terms.headers.clone(),
        MEMORY_MAX,
    )
    .await;
    match answer {
        Ok(answer) => told(&answer.results, mask),
        Err(problem) => {
            let words = factory_failed(&problem.sentence());
            ToolEnd::sentence(ToolOutcome::Failed, words, mask)
        }
    }
}

fn query(arguments: &str) -> Result<String, String> {
    let SearchArguments { query } = arguments::read(SEARCH_MEMORY, arguments)?;
    if query.trim().is_empty() {
        return Err("`query` is empty: write words, or a question.".to_owned());
    }
    Ok(query[..query.floor_char_boundary(QUERY_BYTES_MAX)].to_owned())
}

fn told(found: &[FoundMemory], mask: &Mask) -> ToolEnd {
    let mut text = FencedWriter::new(mask);
    if found.is_empty() {
        text.say("Nothing is remembered about this.");
    }
    for (memory, number) in found.iter().take(FOUND_MAX).zip(1..) {
        let date = memory.timestamp.to_string();
        let date = date.get(..10).unwrap_or_default();
        text.say(format!("Memory {number}, a {} of {date}:", memory.kind.as_str()));
        let shown = text.shown(&memory.text);
        text.shown_data(cut(&shown));
    }
    ToolEnd::new(ToolOutcome::Done, text.finish())
}

fn cut(text: &str) -> String {
    match text.floor_char_boundary(TEXT_BYTES_MAX) {
        end if end < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}
