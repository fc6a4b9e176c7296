//! `resume`: finishes the sessions that a crash or a shutdown interrupted.

use crate::cli::{
    context::Context,
    ending::unless_interrupted,
    exit::{Exit, Failure},
    follow::{self, RecordedEvents},
    output::Output,
};
use crate::wiring::Unfinished;

/// Prints how each session ended; with `--json`, the rows of `supervisor.status`. Exit code 1
/// unless all are success.
pub(crate) fn run(context: &Context, output: &mut Output) -> Result<Exit, Failure> {
    // Read before the factory starts, because it resumes them at once.
    let unfinished =
        context.look(output, async |reader, _, _| Ok(reader.views.open_sessions().await?))?;
    let rows = if unfinished.is_empty() {
        Vec::new()
    } else {
        context.work(output, Unfinished::TakenUp, async |factory, output, _| {
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
