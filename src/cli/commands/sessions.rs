//! `sessions`: the newest sessions.

use clap::Args;

use super::{TIME, clock};
use crate::cli::{
    context::Context,
    count,
    exit::{Exit, Failure},
    output::Output,
    table::Table,
};

/// List sessions, newest first.
#[derive(Args, Debug)]
pub(crate) struct Sessions {
    /// How many at most
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    #[arg(value_parser = count::rows, allow_negative_numbers = true)]
    limit: usize,
}

impl Sessions {
    /// Prints them: with `--json`, the rows of `supervisor.status`.
    pub(crate) fn run(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        let rows = context
            .read(output, async |reader, _, _| Ok(reader.views.sessions(self.limit).await?))?;
        if output.json {
            output.json(&rows)?;
            return Ok(Exit::DONE);
        }
        if rows.is_empty() {
            output.note("no sessions yet: `ai-factory run GOAL` makes one");
            return Ok(Exit::DONE);
        }
        let mut table = Table::new(&["SESSION", TIME, "STATUS", "GOAL"]);
        for row in &rows {
            let id = row.session_id.to_string();
            table.row([&id, &clock(row.timestamp), &row.status, &row.goal].map(String::as_str));
        }
        output.table(&table)?;
        Ok(Exit::DONE)
    }
}
