//! `head`: the journal's head, to be stored elsewhere and checked with `verify --head`.

use serde_json::json;

use crate::cli::{
    context::CommandContext,
    exit::{CommandError, Exit},
    output::Output,
};

/// Prints the head.
pub(crate) fn run(context: &CommandContext, output: &mut Output) -> Result<Exit, CommandError> {
    let head = context.read(output, async |reader, _, _| Ok(reader.journal.head()))?;
    if output.json {
        output.json(&json!({ "position": head.position, "hash": head.hash.to_string() }))?;
    } else {
        output.line(&format!("{}:{}", head.position, head.hash))?;
    }
    Ok(Exit::DONE)
}
