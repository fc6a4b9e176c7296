//! `search`: ranked search in all memories.

use ai_factory_actors::memory::no_memory;
use ai_factory_ports::views::SearchQuery;
use ai_factory_schemas::{
    answer::{FoundMemory, SearchAnswer},
    id::MemoryId,
    memory::{MemoryKind, SearchMode},
    time::Timestamp,
};
use clap::{Args, builder::PossibleValuesParser};

use crate::cli::{
    colour::Colour,
    context::CommandContext,
    count,
    exit::{CommandError, Exit},
    output::Output,
    text::one_line,
};

/// Search memories: notes, plans, runs and sessions.
///
/// By keywords and by meaning together. "words in a row" in quotes must occur in this order; -word
/// must not occur.
#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    /// What to search for; after `--` also words that begin with a `-`
    #[arg(required_unless_present = "similar", value_name = "QUERY")]
    words: Vec<String>,
    /// Maximum number of results
    #[arg(long, short = 'n', default_value_t = 5, value_name = "N")]
    #[arg(value_parser = count::results, allow_negative_numbers = true)]
    limit: usize,
    /// Search for memories similar to this one instead
    #[arg(long, value_name = "ID", conflicts_with = "words")]
    similar: Option<MemoryId>,
    /// Only memories of this kind
    #[arg(long, value_parser = PossibleValuesParser::new(MemoryKind::NAMES))]
    kind: Option<String>,
    /// Only memories from this time on: RFC 3339, or a date
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only memories before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Only notes with this tag
    #[arg(long, value_name = "WORD")]
    tag: Option<String>,
    /// Search by words, by meaning, or by both
    #[arg(long, default_value = "hybrid", value_parser = PossibleValuesParser::new(SearchMode::NAMES))]
    mode: String,
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_human(text).map_err(|error| format!("{error}, or a date such as 2026-01-31"))
}

impl SearchArgs {
    /// Prints the results, best first; with `--json`, the answer of `memory.search`.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let query = self.words.join(" ");
        if query.trim().is_empty() && self.similar.is_none() {
            return Err(CommandError::usage("the query is blank: `ai-factory search WORDS`"));
        }
        let query = SearchQuery {
            text: query,
            limit: self.limit,
            fold: false,
            plain: false,
            similar_to: self.similar.map(|id| id.to_string()),
            kind: self.kind.as_deref().and_then(MemoryKind::from_name),
            since: self.since,
            until: self.until,
            tag: self.tag,
            without: None,
            mode: SearchMode::from_name(&self.mode).unwrap_or_default(),
        };
        let searched = context.read(output, async |reader, _, _| {
            if let Some(id) = self.similar
                && reader.views.memory(id).await?.is_none()
            {
                return Err(no_memory(id).into());
            }
            Ok(reader.views.search_with_mode(&query).await?)
        })?;
        let (mode, results) = (searched.other_mode(query.mode), searched.found);
        if output.json {
            let query = query.similar_to.unwrap_or(query.text);
            output.json(&SearchAnswer { query, results, mode })?;
            return Ok(Exit::DONE);
        }
        if results.is_empty() {
            output.note(match query.similar_to {
                Some(_) => "no memory is similar to it",
                None => "no memory matches",
            });
            return Ok(Exit::DONE);
        }
        for found in &results {
            print(found, output)?;
        }
        Ok(Exit::DONE)
    }
}

/// A line of facts, and below it the matching passage, with the query's words in bold.
fn print(found: &FoundMemory, output: &mut Output) -> Result<(), CommandError> {
    let facts = format!(
        "{:.3}  {:<8}  {}  {}",
        found.distance,
        found.kind.as_str(),
        found.timestamp,
        found.id
    );
    output.line(&output.painted(Colour::Dim, &facts))?;
    let mut line = String::from("  ");
    for (index, part) in one_line(&found.snippet).split("**").enumerate() {
        match index % 2 {
            0 => line.push_str(part),
            _ => line.push_str(&output.painted(Colour::Bold, part)),
        }
    }
    output.line(&line)?;
    Ok(())
}
