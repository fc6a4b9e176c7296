//! The list of plans (logs): proposals that a client or a session requested.

use ai_factory_schemas::{
    answer::LogRow, envelope::Recorded, event::Event, plan::PlanEvent, session::SessionEvent,
};

use super::{
    rows::{RowError, RowTable, Rows, position_key},
    sessions,
};

/// Applies `event` to the logs. Applied after the sessions, whose rows contain a session's goal.
pub(crate) fn apply(event: &Recorded, rows: &mut impl Rows) -> Result<(), RowError> {
    let row = match &event.event {
        Event::Plan(PlanEvent::Proposed(proposed)) => LogRow {
            id: event.position,
            request_id: proposed.request_id.clone(),
            task_type: proposed.plan.task_type,
            prompt: proposed.prompt.clone(),
            timestamp: event.time,
        },
        Event::Session(SessionEvent::Planned(planned)) => {
            let Some(session) = sessions::facts(event.stream.id, rows)? else { return Ok(()) };
            LogRow {
                id: event.position,
                request_id: session.request_id,
                task_type: planned.plan.task_type,
                prompt: session.goal,
                timestamp: event.time,
            }
        }
        _ => return Ok(()),
    };
    rows.put(RowTable::Logs, position_key(event.position), &row)
}
