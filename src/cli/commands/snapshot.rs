//! `snapshot`: writes the newest events to a file.

use clap::Args;

use crate::cli::{
    context::CommandContext,
    count,
    exit::{CommandError, Exit},
    output::Output,
};

/// Write the newest events to a file.
#[derive(Args, Debug)]
pub(crate) struct SnapshotArgs {
    /// Maximum number of events
    #[arg(long, short = 'n', default_value_t = 100, value_name = "N")]
    #[arg(value_parser = count::rows, allow_negative_numbers = true)]
    limit: usize,
}

impl SnapshotArgs {
    /// Prints the file's path; with `--json`, the answer of `memory.snapshot`.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let answer = context
            .read(output, async |reader, _, _| Ok(reader.views.snapshot(self.limit).await?))?;
        if output.json {
            output.json(&answer)?;
        } else {
            output.line(&answer.snapshot)?;
        }
        Ok(Exit::DONE)
    }
}
