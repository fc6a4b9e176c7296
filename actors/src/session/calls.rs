//! The model calls of a session, read from their streams.

use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    answer::{CallRow, SessionCalls},
    call::{CallEvent, CallRequested},
    envelope::Recorded,
    event::Event,
    id::{CallId, SessionId, StreamId},
    model::Charge,
    problem::Problem,
    time::Timestamp,
};

use super::story;

/// The status of an attempt without an end.
const RUNNING: &str = "running";

/// Every attempt of every call of a session, in order.
///
/// # Errors
/// If there is no such session, or the journal cannot be read.
pub async fn of_session(journal: &dyn Journal, id: SessionId) -> Result<SessionCalls, Problem> {
    let folded = story::fold(journal, id).await?;
    let folded = folded.ok_or_else(|| Problem::not_found(format!("there is no session {id}")))?;
    let mut calls = Vec::new();
    for call_id in story::call_ids(&folded.recorded) {
        let recorded = journal.load(StreamId::from(call_id), 0).await.map_err(Problem::from)?;
        calls.extend(rows(call_id, &recorded));
    }
    if folded.session.concluded().is_some() {
        calls.iter_mut().for_each(close);
    }
    Ok(SessionCalls { session_id: id, calls })
}

/// An attempt without an end, of a session that is over: nobody waits for it.
fn close(row: &mut CallRow) {
    if row.status == RUNNING {
        "abandoned".clone_into(&mut row.status);
        row.charged = Some(Charge::whole(&row.reserved));
        row.reason = Some("the session ended before its end was known".to_owned());
    }
}

/// The attempts in a call's stream.
fn rows(call_id: CallId, recorded: &[Recorded]) -> Vec<CallRow> {
    let mut rows: Vec<CallRow> = Vec::new();
    for recorded in recorded {
        let Event::Call(event) = &recorded.event else { continue };
        if let CallEvent::Requested(requested) = event {
            rows.push(begun(call_id, requested, recorded.time));
        } else if let Some(row) = rows.last_mut() {
            end(row, event);
        }
    }
    rows
}

fn begun(call_id: CallId, requested: &CallRequested, timestamp: Timestamp) -> CallRow {
    CallRow {
        call_id,
        turn: requested.turn,
        attempt: requested.attempt,
        timestamp,
        status: RUNNING.to_owned(),
        model: requested.endpoint.model.clone(),
        host: requested.endpoint.host().to_owned(),
        request: requested.request,
        answer: None,
        stop: None,
        tools: Vec::new(),
        reserved: requested.reserved,
        usage: None,
        charged: None,
        reason: None,
        first_token_ms: None,
        duration_ms: None,
    }
}

fn end(row: &mut CallRow, event: &CallEvent) {
    match event {
        CallEvent::Requested(_) => {}
        CallEvent::Answered(answered) => {
            "answered".clone_into(&mut row.status);
            row.answer = Some(answered.message.hash);
            row.stop = Some(answered.stop);
            row.tools = answered.tool_calls.iter().map(|call| call.name.clone()).collect();
            row.usage = answered.usage;
            row.charged = Some(answered.charged);
            row.first_token_ms = answered.first_token_ms;
            row.duration_ms = Some(answered.duration_ms);
        }
        CallEvent::Failed(failed) => {
            row.status = failed.class.to_string();
            row.usage = failed.usage;
            row.charged = Some(failed.charged);
            row.reason = Some(failed.reason.clone());
            row.duration_ms = Some(failed.duration_ms);
        }
        CallEvent::Abandoned(abandoned) => {
            "abandoned".clone_into(&mut row.status);
            row.charged = Some(abandoned.charged);
            row.reason = Some(abandoned.reason.clone());
        }
    }
}
