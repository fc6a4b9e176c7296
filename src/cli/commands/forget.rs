//! `forget`: excludes a memory from searches.

use std::time::Duration;

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{answer::Forgotten, id::MemoryId, request, subject::operation};
use clap::Args;

use super::REQUEST_MS_MAX;
use crate::{
    cli::{
        context::CommandContext,
        ending::unless_interrupted,
        exit::{CommandError, Exit},
        output::Output,
        remote::FactoryTarget,
    },
    clock::new_key,
    wiring::{self, UnfinishedSessions},
};

/// Forget a memory: searches no longer find it.
///
/// The journal is append-only: it keeps the memory's events and records that it is forgotten.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory search 'the kettle' --json
  ai-factory forget 019a0000-0000-7000-8000-000000000002
  ai-factory forget 019a0000-0000-7000-8000-000000000002 --server 127.0.0.1:8000

With --server or --nats a running factory forgets it; otherwise the data directory is opened.")]
pub(crate) struct ForgetArgs {
    /// The memory's id, as printed by a search
    #[arg(value_name = "ID")]
    id: MemoryId,
    #[command(flatten)]
    place: FactoryTarget,
}

impl ForgetArgs {
    /// Prints the id once the record is on disk; with `--json`, the answer of `memory.forget`.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let body = request::Forget { id: self.id };
        let wait = Duration::from_millis(REQUEST_MS_MAX);
        let forgotten: Forgotten = if self.place.is_named() {
            let key = new_key();
            self.place.open(context)?.ask(operation::MEMORY_FORGET, &body, key.as_str(), wait)?
        } else {
            // A memory exists only in an existing journal.
            wiring::require_journal(context.settings())?;
            context.work(output, UnfinishedSessions::LeaveAlone, async |factory, _, _| {
                let call = factory.call(operation::MEMORY_FORGET, &body, Headers::default(), wait);
                unless_interrupted(async { Ok(call.await?) }).await
            })?
        };
        if output.json {
            output.json(&forgotten)?;
        } else {
            output.line(&forgotten.id.to_string())?;
        }
        Ok(Exit::DONE)
    }
}
