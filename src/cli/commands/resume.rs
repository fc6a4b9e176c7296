//! `resume`: finishes the sessions that a crash or a shutdown interrupted.

use ai_factory_schemas::{
    answer::SessionRow,
    id::{SessionId, StreamId},
};

use crate::{
    cli::{
        context::CommandContext,
        ending::unless_interrupted,
        exit::{CommandError, Exit},
        files::{changes, recorded::RecordedFiles},
        follow::{self, RecordedEvents},
        output::Output,
    },
    wiring::{Factory, UnfinishedSessions},
};

/// Prints how each session ended; with `--json`, the rows of `supervisor.status`. Exit code 1
/// unless all are success.
pub(crate) fn run(context: &CommandContext, output: &mut Output) -> Result<Exit, CommandError> {
    // Read before the factory starts, because it resumes them at once.
    let unfinished =
        context.peek(output, async |reader, _, _| Ok(reader.views.open_sessions().await?))?;
    let (rows, changed) = if unfinished.is_empty() {
        (Vec::new(), Vec::new())
    } else {
        context.work(output, UnfinishedSessions::Resume, async |factory, output, _| {
            let events = RecordedEvents::of(factory);
            let ended = follow::until_ended(factory, output, events, &unfinished);
            let rows = unless_interrupted(ended).await?;
            let changed = changed(factory, &rows).await?;
            Ok((rows, changed))
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
    output.flush()?;
    for id in changed {
        output.note(&changes::hint(id));
    }
    Ok(rows.iter().map(follow::exit_of).fold(Exit::DONE, Exit::and))
}

/// The ended sessions whose files differ from what came in.
async fn changed(factory: &Factory, rows: &[SessionRow]) -> Result<Vec<SessionId>, CommandError> {
    let mut changed = Vec::new();
    for row in rows.iter().filter(|row| row.end.is_some()) {
        let records = factory.journal.load(StreamId::from(row.session_id), 0).await?;
        let files = RecordedFiles::load(&*factory.journal, &records).await?;
        if files.is_some_and(|files| !files.tree.changes().is_empty()) {
            changed.push(row.session_id);
        }
    }
    Ok(changed)
}
