//! Sessions that wait for somebody: what for, and what their callers are told.

use ai_factory_schemas::{
    answer::{GoalAnswer, OpenQuestion, SessionPending},
    id::SessionId,
    session::{SessionPhase, WaitReason},
    turn::QuestionAsked,
};

use super::state::Session;
use crate::waiting::AwaitedBy;

/// What a session outside of memory waits for; `None` if it goes on, or waits in memory.
pub fn awaited(session: &Session) -> Option<AwaitedBy> {
    match session.phase() {
        SessionPhase::Waiting(WaitReason::Question) => {
            session.open_question().map(|open| AwaitedBy::Question { expires: open.expires })
        }
        SessionPhase::Waiting(WaitReason::Budget) => Some(AwaitedBy::Budget),
        _ => None,
    }
}

/// The open question, for its reader.
pub fn question(session: &Session) -> Option<OpenQuestion> {
    session.open_question().map(|QuestionAsked { question_id, question, expires, .. }| {
        OpenQuestion {
            question_id: *question_id,
            question: question.clone(),
            expires: *expires,
        }
    })
}

/// The answer to a caller of a session that is not over.
pub fn pending(id: SessionId, session: &Session) -> GoalAnswer {
    let request_id = session.opened().map(|opened| opened.request_id.clone());
    let waits_for = session.waits_for();
    GoalAnswer::Pending(Box::new(SessionPending {
        request_id: request_id.unwrap_or_else(|| id.0.into()),
        session_id: id,
        status: session.phase(),
        waits_for: waits_for
            .unwrap_or_else(|| "the work goes on: ask for the session again".to_owned()),
        question: question(session),
        model: session.model_use(),
    }))
}
