//! `sessions`: the newest sessions.

use ai_factory_actors::session::lookup;
use ai_factory_ports::views::SessionFilter;
use ai_factory_schemas::{
    answer::SessionRow,
    id::{CommandId, RequestId},
};
use clap::Args;

use super::{TIME, clock};
use crate::cli::{
    budget_words::count,
    context::CommandContext,
    count,
    exit::{CommandError, Exit},
    output::Output,
    session_lookup,
    table::TextTable,
};

/// List sessions, newest first.
#[derive(Args, Debug)]
pub(crate) struct SessionsArgs {
    /// Maximum number of sessions
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    #[arg(value_parser = count::rows, allow_negative_numbers = true)]
    limit: usize,
    /// Only sessions opened by the request with this id
    #[arg(long = "request", value_name = "ID")]
    request_id: Option<RequestId>,
    /// Only the session opened under this key
    #[arg(long, value_name = "KEY")]
    key: Option<CommandId>,
}

impl SessionsArgs {
    /// Prints them; with `--json`, the rows of `supervisor.status`.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let rows = context.read(output, async |reader, _, _| {
            let mut filter =
                SessionFilter { request_id: self.request_id.clone(), session_id: None };
            if let Some(key) = &self.key {
                let known = lookup::of_key(&*reader.journal, key).await?;
                let Some((_, Some(id))) = known else { return Ok(Vec::new()) };
                filter.session_id = Some(id);
            }
            let mut rows = Vec::new();
            for row in reader.views.sessions_where(&filter, self.limit).await? {
                rows.push(session_lookup::exact(&*reader.journal, row).await?);
            }
            Ok(rows)
        })?;
        if output.json {
            output.json(&rows)?;
            return Ok(Exit::DONE);
        }
        if rows.is_empty() {
            output.note(if self.request_id.is_some() || self.key.is_some() {
                "no session has that request and key: `ai-factory sessions` lists all"
            } else {
                "no sessions yet: `ai-factory run GOAL` makes one"
            });
            return Ok(Exit::DONE);
        }
        output.table(&table(&rows))?;
        Ok(Exit::DONE)
    }
}

/// A row for each session; with what its model spent if one has a model.
fn table(rows: &[SessionRow]) -> TextTable {
    if rows.iter().all(|row| row.budget.is_none()) {
        let mut table = TextTable::new(&["SESSION", TIME, "STATUS", "GOAL"]);
        for row in rows {
            let id = row.session_id.to_string();
            table.row([&id, &clock(row.timestamp), row.status.as_str(), &row.goal]);
        }
        return table;
    }
    let mut table = TextTable::new(&["SESSION", TIME, "STATUS", "TOKENS", "GOAL"]);
    for row in rows {
        let id = row.session_id.to_string();
        let spent = row.budget.map(|budget| {
            format!("{} of {}", count(budget.tokens_spent), count(budget.tokens_max))
        });
        let spent = spent.as_deref().unwrap_or("-");
        table.row([&id, &clock(row.timestamp), row.status.as_str(), spent, &row.goal]);
    }
    table
}
