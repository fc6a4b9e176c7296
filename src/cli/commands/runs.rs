//! `runs`: the newest runs of code, or those whose code or output contains a text.

use ai_factory_schemas::answer::{FoundRun, RunRow, RunSearchAnswer};
use clap::Args;

use super::{TIME, clock};
use crate::cli::{
    context::CommandContext,
    count,
    exit::{CommandError, Exit},
    output::Output,
    table::TextTable,
};

/// List or search runs of code, newest first.
#[derive(Args, Debug)]
pub(crate) struct RunsArgs {
    /// Only those whose code or output contains this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Maximum number of runs
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    #[arg(value_parser = count::rows, allow_negative_numbers = true)]
    limit: usize,
}

impl RunsArgs {
    /// Prints them; with `--json`, the answer of `debugger.logs` or `debugger.search`.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        match self.search {
            Some(text) if text.is_empty() => Err(CommandError::usage(
                "`--search` needs a text: `ai-factory runs` without it lists all runs",
            )),
            Some(query) => {
                let results = context.read(output, async |reader, _, _| {
                    Ok(reader.views.search_runs(&query, self.limit).await?)
                })?;
                print_matches(output, &RunSearchAnswer { query, results })
            }
            None => {
                let rows = context
                    .read(output, async |reader, _, _| Ok(reader.views.runs(self.limit).await?))?;
                print_list(output, &rows)
            }
        }
    }
}

fn print_list(output: &mut Output, rows: &[RunRow]) -> Result<Exit, CommandError> {
    if output.json {
        output.json(&rows)?;
        return Ok(Exit::DONE);
    }
    if rows.is_empty() {
        output.note("no code was run yet: a goal with a block of Python code makes a run");
        return Ok(Exit::DONE);
    }
    let mut table = TextTable::new(&["#", TIME, "STATUS", "RUN", "REQUEST", "LANGUAGE"]);
    for row in rows {
        table.row([
            row.id.to_string().as_str(),
            &clock(row.timestamp),
            &row.status,
            &row.run_id.to_string(),
            row.request_id.as_str(),
            &row.language,
        ]);
    }
    output.table(&table)?;
    Ok(Exit::DONE)
}

fn print_matches(output: &mut Output, answer: &RunSearchAnswer) -> Result<Exit, CommandError> {
    if output.json {
        output.json(answer)?;
        return Ok(Exit::DONE);
    }
    if answer.results.is_empty() {
        output.note("no run's code or output contains that text");
        return Ok(Exit::DONE);
    }
    let mut table = TextTable::new(&["#", "STATUS", "REQUEST", "SNIPPET"]);
    for FoundRun { id, request_id, status, snippet, .. } in &answer.results {
        table.row([id.to_string().as_str(), status, request_id.as_str(), snippet]);
    }
    output.table(&table)?;
    Ok(Exit::DONE)
}
