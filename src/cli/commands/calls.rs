//! `calls`: the model calls of a session.

use ai_factory_actors::session::calls;
use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    answer::{CallRow, SessionCalls},
    chat::ChatMessage,
};
use clap::Args;
use serde::Serialize;

use super::{TIME, clock};
use crate::cli::{
    budget_words::{count, money},
    colour::Colour,
    context::CommandContext,
    exit::{CommandError, Exit},
    files::recorded,
    line_words::duration,
    output::Output,
    remote::FactoryTarget,
    session_lookup,
    table::TextTable,
    text::one_line,
};

/// In the place of what is not known.
const NOTHING: &str = "-";

/// List the model calls of a session.
#[derive(Args, Debug)]
pub(crate) struct CallsArgs {
    /// The session: its id, its request's id (the newest session of several), its key, or, without
    /// --server and --nats, the beginning of either id
    #[arg(value_name = "ID")]
    session: String,
    /// Print what the model answered, too
    #[arg(long, conflicts_with_all = ["server", "nats", "context"])]
    texts: bool,
    #[command(flatten)]
    place: FactoryTarget,
}

/// The text of an answer.
#[derive(Debug, Serialize)]
struct AnswerText {
    call: CallRow,
    message: Option<ChatMessage>,
}

impl CallsArgs {
    /// Prints a row for each attempt; with `--json`, the answer of `supervisor.calls`.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        if self.place.is_named() {
            let remote = self.place.open(context)?;
            let calls = remote.calls(&session_lookup::reference(&self.session)?)?;
            return listed(output, &calls);
        }
        let with_texts = self.texts;
        let (calls, texts) = context.read(output, async |reader, _, _| {
            let id = session_lookup::find_session(reader, &self.session).await?.session_id;
            let calls = calls::of_session(&*reader.journal, id).await?;
            let mut texts = Vec::new();
            for call in calls.calls.iter().filter(|_| with_texts) {
                let message = message(&*reader.journal, call).await?;
                texts.push(AnswerText { call: call.clone(), message });
            }
            Ok((calls, texts))
        })?;
        match (with_texts, output.json) {
            (true, true) => output.json(&texts)?,
            (true, false) => told(output, &texts)?,
            (false, _) => return listed(output, &calls),
        }
        Ok(Exit::DONE)
    }
}

async fn message(
    journal: &dyn Journal,
    call: &CallRow,
) -> Result<Option<ChatMessage>, CommandError> {
    let Some(answer) = call.answer else { return Ok(None) };
    let bytes = recorded::blob(journal, answer).await?;
    ChatMessage::from_bytes(&bytes).map(Some).map_err(CommandError::failed)
}

fn listed(output: &mut Output, calls: &SessionCalls) -> Result<Exit, CommandError> {
    if output.json {
        output.json(calls)?;
        return Ok(Exit::DONE);
    }
    if calls.calls.is_empty() {
        output.note("no model was asked");
        return Ok(Exit::DONE);
    }
    let mut table =
        TextTable::new(&["TURN", TIME, "STATUS", "INPUT", "OUTPUT", "CHARGED", "TOOK", "TOOLS"]);
    for call in &calls.calls {
        table.row(row(call).each_ref().map(String::as_str));
    }
    output.table(&table)?;
    Ok(Exit::DONE)
}

fn row(call: &CallRow) -> [String; 8] {
    let tokens = |of: Option<u64>| of.map_or_else(|| NOTHING.to_owned(), count);
    let turn = match call.attempt {
        1 => call.turn.to_string(),
        attempt => format!("{}, attempt {attempt}", call.turn),
    };
    let charged = call.charged.map(|charged| match charged.cost_micros {
        Some(cost) => format!("{} ({})", count(charged.tokens), money(cost)),
        None => count(charged.tokens),
    });
    let tools = match &*call.tools {
        [] => NOTHING.to_owned(),
        tools => one_line(&tools.join(", ")),
    };
    [
        turn,
        clock(call.timestamp),
        call.status.clone(),
        tokens(call.usage.map(|usage| usage.input_total())),
        tokens(call.usage.map(|usage| usage.output)),
        charged.unwrap_or_else(|| format!("{} set aside", count(call.reserved.tokens()))),
        call.duration_ms.map_or_else(|| NOTHING.to_owned(), duration),
        tools,
    ]
}

/// Each answer below a heading.
fn told(output: &mut Output, texts: &[AnswerText]) -> Result<(), CommandError> {
    for AnswerText { call, message } in texts {
        let (turn, attempt) = (call.turn, call.attempt);
        let heading = format!("Turn {turn}, attempt {attempt}: {}", call.status);
        output.line(&output.painted(Colour::Bold, &heading))?;
        if let Some(reason) = &call.reason {
            output.line(&format!("  {}", one_line(reason)))?;
        }
        if let Some(ChatMessage::Assistant { text, tool_calls }) = message {
            if !text.is_empty() {
                output.text(text)?;
            }
            for called in tool_calls {
                output.text(&format!("  {} {}", called.name, called.arguments))?;
            }
        }
    }
    Ok(())
}
