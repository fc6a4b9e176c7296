//! `rebuild`: everything that is derived from the journal, made anew.

use serde_json::json;

use crate::{
    cli::{
        context::Context,
        exit::{Exit, Failure},
        output::Output,
    },
    wiring,
};

/// Prints how many events it was made from.
pub(crate) fn run(context: &Context, output: &mut Output) -> Result<Exit, Failure> {
    let report = wiring::rebuild(context.settings())?;
    if output.json {
        output.json(&json!({ "events": report.events }))?;
    } else {
        output.line(&format!("projections and index made anew from {} events", report.events))?;
    }
    Ok(Exit::DONE)
}
