//! The sessions: which goals arrived, how they stand, and how they ended.

use std::collections::BTreeSet;

use ai_factory_schemas::{
    answer::{HistoryRow, SessionRow},
    envelope::Recorded,
    event::Event,
    id::{RequestId, SessionId},
    plan::TaskType,
    session::{SessionEnd, SessionEvent},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::{RowError, Rows, Table, decode, position_key};

/// What is known of a session from its opening on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionFacts {
    /// The request that brought the goal.
    pub(crate) request_id: RequestId,
    /// The goal.
    pub(crate) goal: String,
    /// What kind of work it is.
    pub(crate) task_type: TaskType,
    /// When it was opened.
    pub(crate) timestamp: Timestamp,
    /// The session.
    pub(crate) session_id: SessionId,
}

/// How a session stands. Kept apart from its facts, so that a long goal is written once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionState {
    status: String,
    end: Option<SessionEnd>,
    summary: String,
    /// The steps that wait for somebody's decision.
    unknown: BTreeSet<u32>,
}

const RUNNING: &str = "running";
const WAITING: &str = "waiting";

impl Default for SessionState {
    fn default() -> Self {
        Self {
            status: RUNNING.to_owned(),
            end: None,
            summary: String::new(),
            unknown: BTreeSet::new(),
        }
    }
}

impl SessionFacts {
    /// The row that the supervisor's status shows.
    pub(crate) fn row(self, id: u64, state: SessionState) -> SessionRow {
        SessionRow {
            id,
            request_id: self.request_id,
            goal: self.goal,
            status: state.status,
            timestamp: self.timestamp,
            session_id: self.session_id,
            end: state.end,
        }
    }

    /// The row that the supervisor's history shows; without a summary while the session is open.
    pub(crate) fn history(self, id: u64, state: SessionState) -> HistoryRow {
        HistoryRow {
            id,
            request_id: self.request_id,
            goal: self.goal,
            status: state.status,
            summary: state.summary,
            session_id: self.session_id,
        }
    }
}

/// What is known of the session with this id.
pub(crate) fn facts(id: Uuid, rows: &impl Rows) -> Result<Option<SessionFacts>, RowError> {
    let Some(key) = rows.get(Table::SessionIds, id.as_bytes())? else { return Ok(None) };
    rows.get(Table::Sessions, &key)?.map(|bytes| decode(Table::Sessions, &bytes)).transpose()
}

/// Adds what `event` says to the sessions.
pub(crate) fn apply(event: &Recorded, rows: &mut impl Rows) -> Result<(), RowError> {
    let Event::Session(happened) = &event.event else { return Ok(()) };
    let id = event.stream.id;
    match happened {
        SessionEvent::Opened(opened) => {
            let key = position_key(event.position);
            let facts = SessionFacts {
                request_id: opened.request_id.clone(),
                goal: opened.goal.clone(),
                task_type: opened.task_type,
                timestamp: event.time,
                session_id: SessionId(id),
            };
            rows.put(Table::Sessions, key.clone(), &facts)?;
            rows.set(Table::SessionIds, id.as_bytes().to_vec(), Some(key.clone()));
            rows.put(Table::SessionRequests, opened.request_id.as_str().into(), &SessionId(id))?;
            rows.put(Table::OpenSessions, key, &SessionId(id))
        }
        SessionEvent::StepUnknown(unknown) => {
            change(id, rows, |state| state.unknown.insert(unknown.step))
        }
        SessionEvent::StepResolved(step) => {
            change(id, rows, |state| state.unknown.remove(&step.step))
        }
        SessionEvent::StepFinished(step) => {
            change(id, rows, |state| state.unknown.remove(&step.step))
        }
        SessionEvent::StepFailed(step) => {
            change(id, rows, |state| state.unknown.remove(&step.step))
        }
        SessionEvent::StepSkipped(step) => {
            change(id, rows, |state| state.unknown.remove(&step.step))
        }
        SessionEvent::Concluded(concluded) => {
            let Some(key) = rows.get(Table::SessionIds, id.as_bytes())? else { return Ok(()) };
            let state = SessionState {
                status: concluded.status.as_str().to_owned(),
                end: Some(concluded.end),
                summary: concluded.summary.clone(),
                unknown: BTreeSet::new(),
            };
            rows.put(Table::SessionStates, key.clone(), &state)?;
            rows.set(Table::OpenSessions, key, None);
            Ok(())
        }
        SessionEvent::Planned(_)
        | SessionEvent::Recalled(_)
        | SessionEvent::StepDispatched(_)
        | SessionEvent::Resumed(_) => Ok(()),
    }
}

/// Changes which steps wait, and the status with it; writes only where `change` says that something changed.
fn change(
    id: Uuid,
    rows: &mut impl Rows,
    change: impl FnOnce(&mut SessionState) -> bool,
) -> Result<(), RowError> {
    let Some(key) = rows.get(Table::SessionIds, id.as_bytes())? else { return Ok(()) };
    let mut state = match rows.get(Table::SessionStates, &key)? {
        Some(bytes) => decode(Table::SessionStates, &bytes)?,
        None => SessionState::default(),
    };
    if state.end.is_some() || !change(&mut state) {
        return Ok(());
    }
    let status = if state.unknown.is_empty() { RUNNING } else { WAITING };
    status.clone_into(&mut state.status);
    rows.put(Table::SessionStates, key, &state)
}
