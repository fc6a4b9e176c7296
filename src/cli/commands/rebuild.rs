//! `rebuild`: rebuilds everything derived from the journal.

use std::time::Duration;

use ai_factory_schemas::{
    answer::{RebuildAnswer, RebuildStatus},
    request,
    subject::operation,
};
use clap::Args;
use serde_json::json;

use super::REQUEST_MS_MAX;
use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        output::Output,
        remote::FactoryTarget,
    },
    clock::new_key,
    wiring,
};

/// Rebuild everything that is derived from the journal.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory rebuild
  ai-factory rebuild --server 127.0.0.1:8000

With --server or --nats a running factory rebuilds its lists and keyword index in the background, and
serves the old ones until then; the command returns at once, and /healthcheck reports the progress.
Otherwise the data directory is opened and everything is rebuilt.")]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    place: FactoryTarget,
}

impl RebuildArgs {
    /// Prints the number of events; with `--json` and a running factory, the answer of
    /// `memory.rebuild`.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        if self.place.is_named() {
            return self.ask(context, output);
        }
        let report = wiring::rebuild(context.settings())?;
        if output.json {
            output.json(&json!({ "events": report.events }))?;
        } else {
            output.line(&format!("projections and index rebuilt from {} events", report.events))?;
        }
        Ok(Exit::DONE)
    }

    fn ask(&self, context: &CommandContext, output: &mut Output) -> Result<Exit, CommandError> {
        let (key, wait) = (new_key(), Duration::from_millis(REQUEST_MS_MAX));
        let asked = self.place.open(context)?;
        let begun: RebuildAnswer =
            asked.ask(operation::MEMORY_REBUILD, &request::Rebuild {}, key.as_str(), wait)?;
        if output.json {
            output.json(&begun)?;
        } else {
            let word = match begun.status {
                RebuildStatus::Begun => "begun",
                RebuildStatus::UnderWay => "under way already",
            };
            output.line(&format!(
                "{word}, from {} events; /healthcheck says how far it is",
                begun.events
            ))?;
        }
        Ok(Exit::DONE)
    }
}
