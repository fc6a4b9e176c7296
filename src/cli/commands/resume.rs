//! `resume`: finishes the sessions that a crash or a shutdown interrupted.

use crate::{
    cli::{
        context::CommandContext,
        ending::unless_interrupted,
        exit::{CommandError, Exit},
        follow::{self, RecordedEvents},
        output::Output,
    },
    wiring::UnfinishedSessions,
};

/// Prints how each session ended; with `--json`, the rows of `supervisor.status`. Exit code 1
/// unless all are success.
pub(crate) fn run(context: &CommandContext, output: &mut Output) -> Result<Exit, CommandError> {
    // Read before the factory starts, because it resumes them at once.
    let unfinished =
        context.peek(output, async |reader, _, _| Ok(reader.views.open_sessions().await?))?;
    let rows = if unfinished.is_empty() {
        Vec::new()
    } else {
        context.work(output, UnfinishedSessions::Resume, async |factory, output, _| {
            let events = RecordedEvents::of(factory);
            unless_interrupted(follow::until_ended(factory, output, events, &unfinished)).await
        })?
    };
    if output.json {
        output.json(&rows)?;
    } else if rows.is_empty() {
        output.note("nothing is unfinished");
    } else {
        for row in &rows {
            output.line(&follow::ending(row))?;
        }
    }
    Ok(rows.iter().map(follow::exit_of).fold(Exit::DONE, Exit::and))
}
