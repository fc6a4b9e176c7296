//! Follows sessions until they have ended.

use std::{collections::HashSet, time::Duration};

use ai_factory_ports::{bus::Headers, journal::Head};
use ai_factory_schemas::{
    answer::{GoalAnswer, SessionRow, SessionStatusAnswer},
    envelope::Recorded,
    event::Event,
    id::SessionId,
    problem::Problem,
    request::SessionSelector,
    session::{SessionEvent, SessionPhase, SessionStatus, WaitReason},
    subject::{Operation, operation},
};
use ai_factory_tail::TailCursor;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde::Serialize;
use tokio::sync::watch;

use super::{
    budget_words::remedy,
    commands::REQUEST_MS_MAX,
    context::CommandContext,
    ended_session::EndedSession,
    ending::unless_interrupted,
    exit::{CommandError, Exit},
    files::changes,
    narrate::end_word,
    output::Output,
    progress::Progress,
    session_lookup,
};
use crate::wiring::{Factory, UnfinishedSessions};

/// Timeout of a wait for news before the next check, in milliseconds.
const LOOK_MS: u64 = 500;

/// The longest that a session with a model is waited for at a time.
const WAIT_MAX: Duration = Duration::from_hours(24 * 365);

/// Number of records read at once.
const PAGE_RECORDS: usize = 256;

/// The events of a factory as they are recorded, in order and without gaps, from the journal. An
/// answer is sent after its events are on disk, so the whole story of an answer is read before the
/// answer is shown.
pub(crate) struct RecordedEvents {
    cursor: TailCursor,
    heads: watch::Receiver<Head>,
}

impl RecordedEvents {
    /// All records of this factory from its start on: sessions continue before the command looks.
    pub(crate) fn of(factory: &Factory) -> Self {
        let heads = factory.journal.watch();
        Self { cursor: factory.tail.cursor(factory.begun_after), heads }
    }

    /// Waits until there may be more.
    pub(crate) async fn changed(&mut self) {
        if self.heads.changed().await.is_err() {
            // Nothing more will be recorded; the cause is reported elsewhere.
            std::future::pending::<()>().await;
        }
    }

    /// Delivers all events recorded so far.
    pub(crate) async fn each(
        &mut self,
        mut told: impl FnMut(&Recorded),
    ) -> Result<(), CommandError> {
        loop {
            let page = self.cursor.read(PAGE_RECORDS).await?;
            if page.is_empty() {
                return Ok(());
            }
            page.iter().filter_map(|record| record.event().ok()).for_each(&mut told);
        }
    }
}

/// Sends the factory a decision about a session, follows the session to its end, and prints its
/// result and its row.
pub(crate) fn request_and_follow(
    context: &CommandContext,
    output: &mut Output,
    operation: Operation,
    body: &(impl Serialize + Sync),
    id: SessionId,
) -> Result<Exit, CommandError> {
    let (rows, ended) =
        context.work(output, UnfinishedSessions::LeaveAlone, async |factory, output, _| {
            unless_interrupted(async {
                let events = RecordedEvents::of(factory);
                let wait = Duration::from_millis(REQUEST_MS_MAX);
                let none = Headers::default();
                let _: SessionStatusAnswer = factory.call(operation, body, none, wait).await?;
                let rows = until_ended(factory, output, events, &[id]).await?;
                let ended = EndedSession::load_all(&*factory.journal, &rows).await?;
                Ok((rows, ended))
            })
            .await
        })?;
    print(output, &rows, &ended)
}

/// Prints the results of sessions, and how each session ended; with `--json`, their rows.
pub(crate) fn print(
    output: &mut Output,
    rows: &[SessionRow],
    ended: &[EndedSession],
) -> Result<Exit, CommandError> {
    if output.json {
        output.json(&rows)?;
    } else {
        for row in rows {
            if let Some(ended) = ended.iter().find(|ended| ended.id == row.session_id) {
                ended.print(output)?;
            }
            output.line(&ending(row))?;
        }
    }
    output.flush()?;
    for ended in ended.iter().filter(|ended| ended.has_changes) {
        output.note(&changes::hint(ended.id));
    }
    Ok(rows.iter().map(exit_of).fold(Exit::DONE, Exit::and))
}

/// Shows progress until each session has ended or waits for a decision; returns their rows.
/// Everything recorded up to then is shown. A session that the factory refuses to go on with is
/// told of; if all are refused, that is the error.
pub(crate) async fn until_ended(
    factory: &Factory,
    output: &Output,
    mut events: RecordedEvents,
    sessions: &[SessionId],
) -> Result<Vec<SessionRow>, CommandError> {
    let mut progress = Progress::new(output);
    let wanted: HashSet<_> = sessions.iter().copied().collect();
    // What a session with a model waits for is not told by its row alone.
    let mut waits = FuturesUnordered::new();
    let (mut pausing, mut refused) = (HashSet::new(), Vec::new());
    for id in sessions {
        if factory.views.session(*id).await?.is_some_and(|row| row.budget.is_some()) {
            waits.push(until_it_waits(factory, *id));
        }
    }
    loop {
        // Before the lists are read: later records are seen in the next round.
        events.heads.mark_unchanged();
        let open = factory.views.open_sessions().await?;
        let mut under_way = 0;
        for id in open.into_iter().filter(|id| wanted.contains(id)) {
            let row = factory.views.session(id).await?;
            let is_waiting = row.is_some_and(|row| row.status.is_waiting() && row.budget.is_none());
            under_way += usize::from(!is_waiting && !pausing.contains(&id));
        }
        events.each(|recorded| show(&mut progress, output, &wanted, recorded)).await?;
        if under_way == 0 {
            break;
        }
        progress.under_way(under_way);
        tokio::select! {
            () = events.changed() => {}
            Some((id, problem)) = waits.next() => {
                pausing.insert(id);
                refused.extend(problem);
            }
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
        }
    }
    if refused.len() == sessions.len()
        && let Some(problem) = refused.pop()
    {
        return Err(problem.into());
    }
    for problem in refused {
        progress.aside(|| output.error(&problem.sentence()));
    }
    let mut rows = Vec::with_capacity(sessions.len());
    for id in sessions {
        if let Some(row) = factory.views.session(*id).await? {
            rows.push(session_lookup::exact(&*factory.journal, row).await?);
        }
    }
    Ok(rows)
}

/// Resolves when a session is over or waits for somebody, or the factory refuses to go on with it.
async fn until_it_waits(factory: &Factory, id: SessionId) -> (SessionId, Option<Problem>) {
    let (which, none) = (SessionSelector::id(id), Headers::default());
    let wait = operation::SUPERVISOR_WAIT;
    let told: Result<GoalAnswer, _> = factory.call(wait, &which, none, WAIT_MAX).await;
    let problem = told.err().filter(|problem| problem.status == 409);
    if let Some(problem) = &problem {
        tracing::debug!(%id, %problem, "a session could not be waited for");
    }
    (id, problem)
}

fn show(
    progress: &mut Progress,
    output: &Output,
    wanted: &HashSet<SessionId>,
    recorded: &Recorded,
) {
    let Some(id) = recorded.trail.correlation.map(SessionId).filter(|id| wanted.contains(id))
    else {
        return;
    };
    // For a single session the lines need no name; it is given once.
    let is_first = matches!(recorded.event, Event::Session(SessionEvent::Resumed(_)));
    let name = match wanted.len() {
        1 if is_first => format!("session {id} "),
        1 => String::new(),
        _ => format!("{id} "),
    };
    progress.event(output, &name, &recorded.event);
}

/// How a session ended, as one line for people.
pub(crate) fn ending(row: &SessionRow) -> String {
    match row.end {
        Some(end) => format!("session {} {}: {}", row.session_id, end_word(end), row.status),
        None if row.status == SessionPhase::Waiting(WaitReason::Decision) => format!(
            "session {id} waits for a decision: `ai-factory resolve {id} repeat` runs the unknown \
             step again, `ai-factory resolve {id} skip` counts it as failed",
            id = row.session_id
        ),
        None if row.status.is_waiting() => {
            let what = remedy(row.session_id, row.status).unwrap_or_default();
            format!("session {} is {}: {what}", row.session_id, row.status)
        }
        None => format!("session {} is still {}", row.session_id, row.status),
    }
}

/// The exit code for a session's row.
fn exit_of(row: &SessionRow) -> Exit {
    match row.status {
        SessionPhase::Concluded(SessionStatus::Success) => Exit::DONE,
        SessionPhase::Waiting(WaitReason::Question | WaitReason::Budget) => Exit::WAITING,
        _ => Exit::FAILED,
    }
}
