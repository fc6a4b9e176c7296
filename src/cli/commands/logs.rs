//! `logs`: the list of plans.

use clap::Args;

use super::{TIME, clock};
use crate::cli::{
    context::CommandContext,
    count,
    exit::{CommandError, Exit},
    output::Output,
    table::TextTable,
};

/// List plans, newest first.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Maximum number of plans
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    #[arg(value_parser = count::rows, allow_negative_numbers = true)]
    limit: usize,
}

impl LogsArgs {
    /// Prints them; with `--json`, the rows of `memory.logs`.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let rows =
            context.read(output, async |reader, _, _| Ok(reader.views.logs(self.limit).await?))?;
        if output.json {
            output.json(&rows)?;
            return Ok(Exit::DONE);
        }
        if rows.is_empty() {
            output.note("no plans yet: `ai-factory run GOAL` begins with one");
            return Ok(Exit::DONE);
        }
        let mut table = TextTable::new(&["#", TIME, "TYPE", "REQUEST", "PROMPT"]);
        for row in &rows {
            table.row([
                row.id.to_string().as_str(),
                &clock(row.timestamp),
                row.task_type.as_str(),
                row.request_id.as_str(),
                &row.prompt,
            ]);
        }
        output.table(&table)?;
        Ok(Exit::DONE)
    }
}
