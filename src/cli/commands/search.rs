//! `search`: everything that was remembered, by nearness to a query.

use ai_factory_schemas::answer::SearchAnswer;
use clap::Args;

use crate::cli::{
    context::Context,
    exit::{Exit, Failure},
    output::Output,
    table::Table,
};

/// Search everything that was remembered.
#[derive(Args, Debug)]
pub(crate) struct Search {
    /// What to look for
    #[arg(required = true, value_name = "QUERY")]
    words: Vec<String>,
    /// How many results at most
    #[arg(long, short = 'n', default_value_t = 5, value_name = "N")]
    limit: usize,
}

impl Search {
    /// Prints the results, best first: with `--json`, the answer of `memory.search`.
    pub(crate) fn run(self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        let query = self.words.join(" ");
        if query.trim().is_empty() {
            return Err(Failure::usage("the query is blank: `ai-factory search WORDS`"));
        }
        let results = context.read(output, async |reader, _, _| {
            Ok(reader.views.search(&query, self.limit).await?)
        })?;
        if output.json {
            output.json(&SearchAnswer { query, results })?;
            return Ok(Exit::DONE);
        }
        if results.is_empty() {
            output.note("nothing like that was remembered");
            return Ok(Exit::DONE);
        }
        let mut table = Table::new(&["DISTANCE", "MEMORY", "TEXT"]);
        for found in &results {
            table.row([format!("{:.3}", found.distance).as_str(), &found.id, &found.text]);
        }
        output.table(&table)?;
        Ok(Exit::DONE)
    }
}
