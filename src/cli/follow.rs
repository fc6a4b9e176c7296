//! Following sessions until they have ended.

use std::{collections::HashSet, time::Duration};

use ai_factory_actors::ports::bus::{Headers, Subscription};
use ai_factory_schemas::{
    answer::{SessionRow, SessionTold},
    envelope::Recorded,
    id::SessionId,
    subject::Operation,
};
use serde::Serialize;

use super::{
    commands::TELL_MS_MAX,
    context::{Context, unless_interrupted},
    exit::{Exit, Failure},
    narrate::end_word,
    output::Output,
    progress::Progress,
};
use crate::{
    config::Settings,
    wiring::{Factory, Unfinished},
};

/// How long to wait for news before looking again, in milliseconds.
const LOOK_MS: u64 = 500;

/// Listens to every event of the factory.
pub(crate) async fn events(
    factory: &Factory,
    settings: &Settings,
) -> Result<Subscription, Failure> {
    let all = factory.subjects.events();
    factory.bus.subscribe(all, None, settings.event_queue_max).await.map_err(Failure::failed)
}

/// Tells the factory something about a session, follows that session to its end, and prints its row.
pub(crate) fn tell(
    context: &Context,
    output: &mut Output,
    operation: Operation,
    body: &(impl Serialize + Sync),
    id: SessionId,
) -> Result<Vec<SessionRow>, Failure> {
    let rows = context.work(output, Unfinished::LeftAlone, async |factory, output, settings| {
        unless_interrupted(async {
            let wait = Duration::from_millis(TELL_MS_MAX);
            let none = Headers::default();
            let _: SessionTold = factory.call(operation, body, none, wait).await?;
            until_ended(factory, output, settings, &[id]).await
        })
        .await
    })?;
    if output.json {
        output.json(&rows)?;
    } else {
        for row in &rows {
            output.line(&ending(row))?;
        }
    }
    Ok(rows)
}

/// Shows progress until each of the sessions has ended or waits for a decision; answers their rows.
pub(crate) async fn until_ended(
    factory: &Factory,
    output: &Output,
    settings: &Settings,
    sessions: &[SessionId],
) -> Result<Vec<SessionRow>, Failure> {
    let mut events = events(factory, settings).await?;
    let mut heads = factory.journal.watch();
    let mut progress = Progress::new(output);
    let wanted: HashSet<_> = sessions.iter().copied().collect();
    loop {
        heads.mark_unchanged();
        let open = factory.views.open_sessions().await?;
        let mut under_way = 0;
        for id in open.into_iter().filter(|id| wanted.contains(id)) {
            let row = factory.views.session(id).await?;
            under_way += usize::from(row.is_none_or(|row| row.status != WAITING));
        }
        if under_way == 0 {
            break;
        }
        progress.under_way(under_way);
        tokio::select! {
            biased;
            Some(message) = events.next() => {
                show(&mut progress, output, &wanted, &message.payload);
                while let Some(message) = events.try_next() {
                    show(&mut progress, output, &wanted, &message.payload);
                }
            }
            _ = heads.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
        }
    }
    let mut rows = Vec::with_capacity(sessions.len());
    for id in sessions {
        rows.extend(factory.views.session(*id).await?);
    }
    Ok(rows)
}

/// The status of a session that waits for a decision.
const WAITING: &str = "waiting";

fn show(progress: &mut Progress, output: &Output, wanted: &HashSet<SessionId>, payload: &[u8]) {
    if let Ok(recorded) = Recorded::decode(payload)
        && let Some(id) = recorded.trail.correlation.map(SessionId)
        && wanted.contains(&id)
    {
        let name = if wanted.len() > 1 { format!("{id} ") } else { String::new() };
        progress.event(output, &name, &recorded.event);
    }
}

/// How a session ended, as one line for people.
pub(crate) fn ending(row: &SessionRow) -> String {
    match row.end {
        Some(end) => format!("session {} {}: {}", row.session_id, end_word(end), row.status),
        None if row.status == WAITING => format!(
            "session {id} waits for a decision: `ai-factory resolve {id} repeat` runs the unknown \
             step again, `ai-factory resolve {id} skip` counts it as failed",
            id = row.session_id
        ),
        None => format!("session {} is still {}", row.session_id, row.status),
    }
}

/// The exit code that a session's row stands for.
pub(crate) fn exit_of(row: &SessionRow) -> Exit {
    if row.status == "success" { Exit::DONE } else { Exit::FAILED }
}
