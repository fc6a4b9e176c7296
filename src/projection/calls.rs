//! What model calls took by day, and the calls that have not ended.

use ai_factory_ports::views::CallDay;
use ai_factory_schemas::{
    call::{CallEvent, CallRequested},
    envelope::Recorded,
    event::Event,
    id::{CallId, SessionId},
    model::{Charge, Reservation},
};
use serde::{Deserialize, Serialize};

use super::rows::{RowError, RowTable, Rows, decode};

/// An attempt that has not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OpenAttempt {
    /// The call.
    pub(crate) call_id: CallId,
    /// The session that waits for it, if any.
    pub(crate) session_id: Option<SessionId>,
    /// The day that it counts against.
    day: String,
    /// What is set aside for it.
    reserved: Reservation,
}

/// Applies `event` to the calls.
pub(crate) fn apply(event: &Recorded, rows: &mut impl Rows) -> Result<(), RowError> {
    let Event::Call(happened) = &event.event else { return Ok(()) };
    let call_id = CallId(event.stream.id);
    match happened {
        CallEvent::Requested(requested) => request(call_id, requested, rows),
        CallEvent::Answered(answered) => end(call_id, &answered.charged, rows),
        CallEvent::Failed(failed) => end(call_id, &failed.charged, rows),
        CallEvent::Abandoned(abandoned) => end(call_id, &abandoned.charged, rows),
    }
}

fn request(
    call_id: CallId,
    requested: &CallRequested,
    rows: &mut impl Rows,
) -> Result<(), RowError> {
    let CallRequested { session_id, day, reserved, .. } = requested;
    change_day(day, rows, |it| it.reserve(reserved))?;
    let open =
        OpenAttempt { call_id, session_id: *session_id, day: day.clone(), reserved: *reserved };
    rows.put(RowTable::OpenCalls, call_id.0.as_bytes().to_vec(), &open)
}

fn end(call_id: CallId, charged: &Charge, rows: &mut impl Rows) -> Result<(), RowError> {
    let key = call_id.0.as_bytes().to_vec();
    let Some(open) = rows.get(RowTable::OpenCalls, &key)? else { return Ok(()) };
    let open: OpenAttempt = decode(RowTable::OpenCalls, &open)?;
    change_day(&open.day, rows, |it| it.settle(&open.reserved, charged))?;
    rows.set(RowTable::OpenCalls, key, None);
    Ok(())
}

fn change_day(
    day: &str,
    rows: &mut impl Rows,
    change: impl FnOnce(&mut CallDay),
) -> Result<(), RowError> {
    let key = day.as_bytes().to_vec();
    let mut row = match rows.get(RowTable::CallDays, &key)? {
        Some(row) => decode(RowTable::CallDays, &row)?,
        None => CallDay::new(day),
    };
    change(&mut row);
    rows.put(RowTable::CallDays, key, &row)
}
