//! Sessions that wait for somebody: what for, and what their callers are told.

use ai_factory_schemas::{
    answer::{GoalAnswer, SessionPending},
    id::SessionId,
    session::{SessionPhase, WaitReason},
};

use super::state::Session;
use crate::waiting::AwaitedBy;

/// What a session outside of memory waits for; `None` if it goes on, or waits in memory.
pub fn awaited(session: &Session) -> Option<AwaitedBy> {
    match session.phase() {
        SessionPhase::Waiting(WaitReason::Question) => {
            session.open_question().map(|open| AwaitedBy::Question { expires: open.expires })
        }
        SessionPhase::Waiting(WaitReason::Budget) if session.is_waiting_for_day() => {
            Some(AwaitedBy::Day)
        }
        SessionPhase::Waiting(WaitReason::Budget) => Some(AwaitedBy::Budget),
        _ => None,
    }
}

/// The answer to a caller of a session that is not over.
pub fn pending(id: SessionId, session: &Session) -> GoalAnswer {
    let request_id = session.opened().map(|opened| opened.request_id.clone());
    let waits_for = session.waits_for(id);
    GoalAnswer::Pending(Box::new(SessionPending {
        request_id: request_id.unwrap_or_else(|| id.0.into()),
        session_id: id,
        status: session.phase(),
        waits_for: waits_for
            .unwrap_or_else(|| "the work goes on: ask for the session again".to_owned()),
        question: session.open_question(),
        model: session.model_use(),
    }))
}
