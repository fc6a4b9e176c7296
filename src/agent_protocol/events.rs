//! The endpoint `events`: the events after a position, page by page.
//!
//! The protocol has no such operation (§6.6 leaves lost chunks to the callers). A caller that lost
//! its stream, or came late, reads the missing events here. The request is `{"after": POSITION,
//! "session_id": ID, "limit": COUNT}`, all fields optional; the reply is a stream of chunks of the
//! type `event`, a status `end` with the position for the next request, and the empty final
//! message.

use ai_factory_actors::request::bounded;
use ai_factory_ports::{body::read_body, bus::Message, journal::RawRecord, retry_after};
use ai_factory_schemas::{
    id::{SessionId, StreamId},
    problem::Problem,
    subject::Subject,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{chunk, refusal, state::AgentState};

/// Default number of events per request.
const LIMIT_DEFAULT: u32 = 256;
/// Maximum number of events per request: core NATS has no other back-pressure for a stream.
const LIMIT_MAX: u32 = 1_024;
/// Concurrent requests.
pub const AT_ONCE: usize = 8;
/// Number of records read at once: a record may have a megabyte.
const CHUNK_EVENTS_MAX: usize = 16;

#[derive(Deserialize)]
struct EventsRequest {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    session_id: Option<SessionId>,
    #[serde(default)]
    limit: Option<u32>,
}

/// Data of the status `end`: the position to continue from, the journal's end, and the instance
/// whose journal it is.
#[derive(Serialize)]
struct EndStatus<'a> {
    after: u64,
    head: u64,
    instance_id: &'a str,
}

/// A record above the server's payload limit.
#[derive(Serialize)]
struct TooLarge {
    position: u64,
    bytes: usize,
}

/// Answers one request. Returns the problem if it was refused.
pub async fn answer(state: &AgentState, request: Message) -> Option<Problem> {
    let reply = request.reply?;
    let refused = stream(state, &reply, &request.payload).await.err();
    if let Some(problem) = &refused {
        let _ = state.outside.publish(refusal::message(reply.clone(), problem)).await;
    }
    let _ = state.outside.publish(Message::new(reply, Bytes::new())).await;
    refused
}

async fn stream(state: &AgentState, reply: &Subject, payload: &[u8]) -> Result<(), Problem> {
    let Ok(_permit) = state.event_permits.try_acquire() else {
        let sentence = format!("{AT_ONCE} callers are reading events: try again");
        return Err(Problem::busy(sentence, retry_after::PAGE));
    };
    let EventsRequest { after, session_id, limit } = read_body(payload)?;
    state.is_meant(payload)?;
    let limit = bounded(limit, "limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let head = state.journal.head().position;
    if after > head {
        let sentence = format!("`after` must be at most {head}, the journal's end, not {after}");
        return Err(Problem::bad_request(sentence));
    }
    let last = match session_id {
        Some(id) => of_session(state, reply, id, after, limit).await?,
        None => of_all(state, reply, after, limit).await?,
    };
    let instance_id = state.instance_id.as_str();
    send(state, reply, chunk::status("end", EndStatus { after: last, head, instance_id })).await
}

async fn of_all(
    state: &AgentState,
    reply: &Subject,
    after: u64,
    limit: usize,
) -> Result<u64, Problem> {
    let (mut last, mut left) = (after, limit);
    while left > 0 {
        let records = read(state, last, left.min(CHUNK_EVENTS_MAX)).await?;
        let Some(end) = records.last() else { break };
        (last, left) = (end.position, left - records.len());
        for record in &records {
            send_record(state, reply, record).await?;
        }
    }
    Ok(last)
}

async fn of_session(
    state: &AgentState,
    reply: &Subject,
    id: SessionId,
    after: u64,
    limit: usize,
) -> Result<u64, Problem> {
    let recorded = state.journal.load(StreamId::from(id), 0).await;
    let recorded = recorded.map_err(|error| Problem::unavailable(error.to_string()))?;
    if recorded.is_empty() {
        return Err(Problem::not_found(format!("there is no session {id}")));
    }
    let mut last = after;
    for event in recorded.iter().filter(|event| event.position > after).take(limit) {
        last = event.position;
        for record in read(state, last - 1, 1).await? {
            send_record(state, reply, &record).await?;
        }
    }
    Ok(last)
}

async fn read(state: &AgentState, after: u64, limit: usize) -> Result<Vec<RawRecord>, Problem> {
    let records = state.journal.read(after, limit).await;
    records.map_err(|error| Problem::unavailable(error.to_string()))
}

async fn send_record(
    state: &AgentState,
    reply: &Subject,
    record: &RawRecord,
) -> Result<(), Problem> {
    let too_large = || {
        let (position, bytes) = (record.position, record.bytes.len());
        chunk::status("event_too_large", TooLarge { position, bytes })
    };
    let event = chunk::event(&record.bytes)
        .filter(|event| event.len() <= (state.message_bytes_max)())
        .unwrap_or_else(too_large);
    send(state, reply, event).await
}

async fn send(state: &AgentState, reply: &Subject, chunk: Bytes) -> Result<(), Problem> {
    let sent = state.outside.publish(Message::new(reply.clone(), chunk)).await;
    sent.map_err(|error| Problem::unavailable(error.to_string()))
}
