//! Snapshots: the newest entries (requests with their answers) as JSON Lines for other tools.
//!
//! *Promises.* A file appears under its name only when it is complete and on disk, and never
//! replaces another. Oldest entry first: the newest is the last line.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use ai_factory_fold::{FOLD_EVENTS_MAX, atomic_replace, blocking, read_events};
use ai_factory_ports::views::ViewError;
use ai_factory_schemas::{
    answer::{SnapshotAnswer, SnapshotLine},
    envelope::Recorded,
    event::Event,
    goal::GoalEvent,
    memory::MemoryEvent,
    plan::PlanEvent,
    run::RunEvent,
    session::SessionEvent,
};
use serde_json::json;

use super::{
    file_recovery::ask,
    journal_fold::JournalFold,
    rows::{LayeredRows, RowError, RowTable},
    runs::RunFacts,
    sessions::SessionFacts,
    store::RowsView,
};

/// Events read at once.
const BATCH: u64 = FOLD_EVENTS_MAX as u64;

/// Writes the newest `limit` entries to a new file in `directory`, named after `stamp`.
pub(super) async fn write(
    fold: &JournalFold,
    directory: PathBuf,
    stamp: String,
    limit: usize,
) -> Result<SnapshotAnswer, ViewError> {
    fold.catch_up().await?;
    let head = fold.head();
    std::fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
    let mut file = atomic_replace::temporary(&directory).map_err(|error| failed(&error))?;
    let mut after = before_newest(fold, head, limit).await?;
    while after < head {
        let events = read_events(fold.journal.as_ref(), after, BATCH).await?;
        let Some(last) = events.last() else { break };
        after = last.position;
        let events = &events;
        let lines = ask(fold, |view| lines(view, events, head)).await?;
        file.write_all(lines.as_bytes()).map_err(|error| failed(&error))?;
    }
    let path =
        blocking(move || persist(file, &directory, &stamp).map_err(|error| failed(&error))).await?;
    Ok(SnapshotAnswer { status: "ok".to_owned(), snapshot: path.display().to_string() })
}

/// The position behind which there are `limit` entries, or all there are.
async fn before_newest(fold: &JournalFold, head: u64, limit: usize) -> Result<u64, ViewError> {
    let mut missing = limit;
    let mut before = head;
    while before > 0 && missing > 0 {
        let after = before.saturating_sub(BATCH);
        let events = read_events(fold.journal.as_ref(), after, BATCH).await?;
        for event in events.iter().rev().filter(|event| event.position <= before) {
            if is_thing(&event.event) {
                missing -= 1;
            }
            if missing == 0 {
                return Ok(event.position - 1);
            }
        }
        before = after;
    }
    Ok(before)
}

fn is_thing(event: &Event) -> bool {
    matches!(
        event,
        Event::Plan(_)
            | Event::Memory(MemoryEvent::Remembered(_))
            | Event::Run(RunEvent::Finished(_))
            | Event::Session(SessionEvent::Planned(_) | SessionEvent::Concluded(_))
    )
}

fn lines(view: &RowsView<'_>, events: &[Recorded], head: u64) -> Result<String, RowError> {
    let rows = view.rows();
    let mut lines = String::new();
    for event in events.iter().filter(|event| event.position <= head) {
        if let Some(line) = line(&rows, event)? {
            lines.push_str(&serde_json::to_string(&line).map_err(super::rows::storage)?);
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// The line of an event, if the event is an entry.
fn line(rows: &LayeredRows<'_>, event: &Recorded) -> Result<Option<SnapshotLine>, RowError> {
    let json = |value: serde_json::Result<serde_json::Value>| value.map_err(super::rows::storage);
    let (request_id, task_type, prompt, response) = match &event.event {
        Event::Plan(PlanEvent::Proposed(plan)) => (
            plan.request_id.clone(),
            plan.plan.task_type.to_string(),
            plan.prompt.clone(),
            json(serde_json::to_value(&plan.plan))?,
        ),
        Event::Memory(MemoryEvent::Remembered(note)) => (
            note.request_id.clone(),
            "memory".to_owned(),
            note.text.clone(),
            json!({ "id": event.stream.id, "tags": note.tags }),
        ),
        Event::Run(RunEvent::Finished(finished)) => {
            let Some(key) = rows.get(RowTable::RunIds, event.stream.id.as_bytes())? else {
                return Ok(None);
            };
            let Some(run) = rows.value::<RunFacts>(RowTable::Runs, &key)? else { return Ok(None) };
            let mut response = json(serde_json::to_value(&finished.end))?;
            response["run_id"] = json!(run.run_id);
            let code = rows.value(RowTable::RunCodes, &key)?.unwrap_or_default();
            (run.request_id, "run".to_owned(), code, response)
        }
        Event::Session(happened) => {
            let Some(session) = session(rows, event)? else { return Ok(None) };
            let response = match happened {
                SessionEvent::Planned(planned) => json(serde_json::to_value(&planned.plan))?,
                SessionEvent::Concluded(concluded) => {
                    let mut response = json(serde_json::to_value(concluded))?;
                    response["session_id"] = json!(session.session_id);
                    response
                }
                _ => return Ok(None),
            };
            (session.request_id, session.task_type.to_string(), session.goal, response)
        }
        Event::Goal(GoalEvent::Rejected(rejected)) => (
            rejected.request_id.clone(),
            "rejected".to_owned(),
            rejected.payload.clone(),
            json!({ "status": rejected.status, "reason": rejected.reason }),
        ),
        Event::Run(_) | Event::Memory(_) | Event::Call(_) => return Ok(None),
    };
    Ok(Some(SnapshotLine {
        id: event.position,
        request_id,
        timestamp: event.time,
        task_type,
        prompt,
        response,
    }))
}

fn session(rows: &LayeredRows<'_>, event: &Recorded) -> Result<Option<SessionFacts>, RowError> {
    let Some(key) = rows.get(RowTable::SessionIds, event.stream.id.as_bytes())? else {
        return Ok(None);
    };
    rows.value(RowTable::Sessions, &key)
}

/// Syncs a complete file and gives it the first free name for this second.
fn persist(
    mut file: tempfile::NamedTempFile,
    directory: &Path,
    stamp: &str,
) -> io::Result<PathBuf> {
    file.as_file().sync_all()?;
    for number in 1_u32.. {
        let name = match number {
            1 => format!("snapshot-{stamp}.jsonl"),
            _ => format!("snapshot-{stamp}-{number}.jsonl"),
        };
        let path = directory.join(name);
        match file.persist_noclobber(&path) {
            Ok(_) => {
                std::fs::File::open(directory)?.sync_all()?;
                return Ok(path);
            }
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => file = taken.file,
            Err(failed) => return Err(failed.error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

fn failed(error: &io::Error) -> ViewError {
    ViewError::Snapshot(error.to_string())
}
