//! `resume`: finishes the sessions that a crash or a shutdown interrupted.

use crate::{
    cli::{
        context::CommandContext,
        ended_session::EndedSession,
        ending::unless_interrupted,
        exit::{CommandError, Exit},
        follow::{self, RecordedEvents},
        output::Output,
    },
    wiring::UnfinishedSessions,
};

/// Prints how each session ended, and what models answered; with `--json`, the rows of
/// `supervisor.status`. Exit code 1 unless all are success.
pub(crate) fn run(context: &CommandContext, output: &mut Output) -> Result<Exit, CommandError> {
    // Read before the factory starts, because it resumes them at once.
    let unfinished =
        context.peek(output, async |reader, _, _| Ok(reader.views.open_sessions().await?))?;
    let (rows, ended) = if unfinished.is_empty() {
        (Vec::new(), Vec::new())
    } else {
        context.work(output, UnfinishedSessions::Resume, async |factory, output, _| {
            let events = RecordedEvents::of(factory);
            let ended = follow::until_ended(factory, output, events, &unfinished);
            let rows = unless_interrupted(ended).await?;
            let ended = EndedSession::load_all(&*factory.journal, &rows).await?;
            Ok((rows, ended))
        })?
    };
    if rows.is_empty() && !output.json {
        output.note("nothing is unfinished");
    }
    follow::print(output, &rows, &ended)
}
