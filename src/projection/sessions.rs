//! The list of sessions: their goals, states and ends.

use std::{collections::BTreeSet, ops::ControlFlow};

use ai_factory_ports::views::SessionFilter;
use ai_factory_schemas::{
    answer::{HistoryRow, SessionRow},
    envelope::Recorded,
    event::Event,
    id::{RequestId, SessionId},
    plan::TaskType,
    session::{SessionEnd, SessionEvent, SessionPhase, WaitReason},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    rows::{LayeredRows, RowError, RowTable, Rows, ScanOrder, decode, position_key, position_of},
    session_model::ModelState,
};

/// Facts of a session that are known from its opening on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionFacts {
    /// The request that carried the goal.
    pub(crate) request_id: RequestId,
    /// The goal.
    pub(crate) goal: String,
    /// The goal's task type.
    pub(crate) task_type: TaskType,
    /// Time of the opening.
    pub(crate) timestamp: Timestamp,
    /// The session.
    pub(crate) session_id: SessionId,
}

/// A session's state. Kept apart from its facts, so that a long goal is written once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SessionState {
    #[serde(rename = "status")]
    phase: SessionPhase,
    end: Option<SessionEnd>,
    summary: String,
    /// Steps that wait for a decision.
    unknown: BTreeSet<u32>,
    /// The state of its model, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Box<ModelState>>,
}

impl SessionFacts {
    /// The row in the supervisor's status.
    pub(crate) fn row(self, id: u64, state: SessionState) -> SessionRow {
        SessionRow {
            id,
            request_id: self.request_id,
            goal: self.goal,
            status: state.phase,
            timestamp: self.timestamp,
            session_id: self.session_id,
            end: state.end,
            budget: state.model.map(|model| model.budget()),
        }
    }

    /// The row in the supervisor's history; without a summary while the session is open.
    pub(crate) fn history(self, id: u64, state: SessionState) -> HistoryRow {
        HistoryRow {
            id,
            request_id: self.request_id,
            goal: self.goal,
            status: state.phase,
            summary: state.summary,
            session_id: self.session_id,
        }
    }
}

/// Key of a session in [`RowTable::SessionRequests`]: those of one request sort by opening. A
/// request id contains no zero byte.
fn request_key(id: &RequestId, position: u64) -> Vec<u8> {
    [id.as_str().as_bytes(), &[0], &position.to_be_bytes()].concat()
}

/// The position in a key made by [`request_key`].
fn position_of_request(key: &[u8]) -> Result<u64, RowError> {
    let position = key.rchunks(size_of::<u64>()).next().unwrap_or_default();
    position_of(RowTable::SessionRequests, position)
}

/// Facts of the session with this id.
pub(crate) fn facts(id: Uuid, rows: &impl Rows) -> Result<Option<SessionFacts>, RowError> {
    let Some(key) = rows.get(RowTable::SessionIds, id.as_bytes())? else { return Ok(None) };
    rows.get(RowTable::Sessions, &key)?.map(|bytes| decode(RowTable::Sessions, &bytes)).transpose()
}

/// Applies `event` to the sessions.
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
            rows.put(RowTable::Sessions, key.clone(), &facts)?;
            rows.set(RowTable::SessionIds, id.as_bytes().to_vec(), Some(key.clone()));
            let of_request = request_key(&opened.request_id, event.position);
            rows.set(RowTable::SessionRequests, of_request, Some(Vec::new()));
            if let Some(terms) = &opened.model {
                let model = Box::new(ModelState::opened(terms));
                let phase = model.phase();
                let state = SessionState { phase, model: Some(model), ..SessionState::default() };
                rows.put(RowTable::SessionStates, key.clone(), &state)?;
            }
            rows.put(RowTable::OpenSessions, key, &SessionId(id))
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
            let Some(key) = rows.get(RowTable::SessionIds, id.as_bytes())? else { return Ok(()) };
            let state = SessionState {
                phase: SessionPhase::Concluded(concluded.status),
                end: Some(concluded.end),
                summary: concluded.summary.clone(),
                unknown: BTreeSet::new(),
                model: state(rows, &key)?.model,
            };
            rows.put(RowTable::SessionStates, key.clone(), &state)?;
            rows.set(RowTable::OpenSessions, key, None);
            Ok(())
        }
        SessionEvent::CheckFinished(_)
        | SessionEvent::TurnDispatched(_)
        | SessionEvent::TurnFinished(_)
        | SessionEvent::TurnFailed(_)
        | SessionEvent::ToolFinished(_)
        | SessionEvent::QuestionAsked(_)
        | SessionEvent::QuestionAnswered(_)
        | SessionEvent::BudgetChanged(_)
        | SessionEvent::Compacted(_)
        | SessionEvent::Resumed(_) => change(id, rows, |state| {
            state.model.as_mut().is_some_and(|model| model.apply(happened))
        }),
        SessionEvent::Planned(_)
        | SessionEvent::Recalled(_)
        | SessionEvent::StepDispatched(_)
        | SessionEvent::CheckDispatched(_)
        | SessionEvent::ToolDispatched(_) => Ok(()),
    }
}

/// The state of the session whose facts have this key.
fn state(rows: &impl Rows, key: &[u8]) -> Result<SessionState, RowError> {
    let bytes = rows.get(RowTable::SessionStates, key)?;
    let state = bytes.map(|bytes| decode(RowTable::SessionStates, &bytes)).transpose()?;
    Ok(state.unwrap_or_default())
}

/// Changes the state of an open session, and its phase with it; writes only if `change` returns
/// true.
fn change(
    id: Uuid,
    rows: &mut impl Rows,
    change: impl FnOnce(&mut SessionState) -> bool,
) -> Result<(), RowError> {
    let Some(key) = rows.get(RowTable::SessionIds, id.as_bytes())? else { return Ok(()) };
    let mut state = state(rows, &key)?;
    if state.end.is_some() || !change(&mut state) {
        return Ok(());
    }
    state.phase = match &state.model {
        Some(model) => model.phase(),
        None if state.unknown.is_empty() => SessionPhase::Running,
        None => SessionPhase::Waiting(WaitReason::Decision),
    };
    rows.put(RowTable::SessionStates, key, &state)
}

/// The session opened at this position.
pub(super) fn session_at<T>(
    rows: &LayeredRows<'_>,
    position: u64,
    row: fn(SessionFacts, u64, SessionState) -> T,
) -> Result<Option<T>, RowError> {
    let key = position_key(position);
    let Some(facts) = rows.value(RowTable::Sessions, &key)? else { return Ok(None) };
    let state = rows.value(RowTable::SessionStates, &key)?.unwrap_or_default();
    Ok(Some(row(facts, position, state)))
}

/// Opening positions of the newest sessions that pass the filter, newest first; `None` for a filter
/// that passes all.
pub(super) fn chosen(
    rows: &LayeredRows<'_>,
    filter: &SessionFilter,
    limit: usize,
) -> Result<Option<Vec<u64>>, RowError> {
    let one = |id: SessionId| rows.get(RowTable::SessionIds, id.0.as_bytes());
    Ok(match filter {
        SessionFilter { request_id: None, session_id: None } => None,
        SessionFilter { request_id: None, session_id: Some(id) } => {
            let key = one(*id)?.map(|key| position_of(RowTable::SessionIds, &key)).transpose()?;
            Some(key.into_iter().take(limit).collect())
        }
        SessionFilter { request_id: Some(request), session_id: Some(id) } => {
            let Some(key) = one(*id)? else { return Ok(Some(Vec::new())) };
            let position = position_of(RowTable::SessionIds, &key)?;
            let is_of = rows.get(RowTable::SessionRequests, &request_key(request, position))?;
            Some(is_of.map(|_| position).into_iter().take(limit).collect())
        }
        SessionFilter { request_id: Some(request), session_id: None } => {
            let range = (&*request_key(request, 0), &*request_key(request, u64::MAX));
            let mut found = Vec::new();
            rows.scan(RowTable::SessionRequests, range, ScanOrder::NewestFirst, |key, _| {
                if found.len() == limit {
                    return Ok(ControlFlow::Break(()));
                }
                found.push(position_of_request(key)?);
                Ok(ControlFlow::Continue(()))
            })?;
            Some(found)
        }
    })
}

/// Opening positions of at most `limit` sessions whose id or request id begins with `text`.
pub(super) fn beginning(
    rows: &LayeredRows<'_>,
    text: &str,
    limit: usize,
) -> Result<BTreeSet<u64>, RowError> {
    let mut found = BTreeSet::new();
    let up_to_limit = |found: &BTreeSet<u64>| {
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let lower = text.to_ascii_lowercase();
    if let Some((from, to)) = uuids_beginning(&lower) {
        rows.scan(RowTable::SessionIds, (&from, &to), ScanOrder::OldestFirst, |key, position| {
            let id = Uuid::from_slice(key).map(|id| id.to_string()).unwrap_or_default();
            if id.starts_with(&lower) {
                found.insert(position_of(RowTable::SessionIds, position)?);
            }
            Ok(up_to_limit(&found))
        })?;
    }
    if up_to_limit(&found).is_continue() {
        // A request id contains no byte as large as 0xFF.
        let range = (text.as_bytes(), &*[text.as_bytes(), &[0xFF]].concat());
        rows.scan(RowTable::SessionRequests, range, ScanOrder::OldestFirst, |key, _| {
            found.insert(position_of_request(key)?);
            Ok(up_to_limit(&found))
        })?;
    }
    Ok(found)
}

/// A key range that contains every UUID beginning with `text` (lower case), and perhaps some more;
/// `None` if no UUID can.
fn uuids_beginning(text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    const DIGITS: usize = 2 * size_of::<Uuid>();
    let digits = text.replace('-', "");
    if digits.len() > DIGITS {
        return None;
    }
    let filled = |with: &str| {
        let all = digits.clone() + &with.repeat(DIGITS - digits.len());
        Some(Uuid::try_parse_ascii(all.as_bytes()).ok()?.as_bytes().to_vec())
    };
    let mut to = filled("f")?;
    // Includes the last UUID itself.
    to.push(0);
    Some((filled("0")?, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_uuid_is_a_range_of_keys() {
        let id = Uuid::from_u128(0x019a_0000_0000_7000_8000_0000_0000_0001);
        let text = id.to_string();
        for end in 1..=text.len() {
            let (from, to) = uuids_beginning(&text[..end]).unwrap();
            let key = id.as_bytes().to_vec();
            assert!(from <= key && key < to, "{end}");
        }
        let (from, to) = uuids_beginning("ffff").unwrap();
        let last = vec![0xFF; 16];
        assert!(from <= last && last < to);
        for none in ["x", "order-66", "019a0000-0000-7000-8000-0000000000011", "ä"] {
            assert_eq!(uuids_beginning(none), None, "{none}");
        }
    }
}
