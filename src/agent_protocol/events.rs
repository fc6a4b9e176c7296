//! The endpoint `events`: the events after a position, page by page.
//!
//! The protocol has no such operation (§6.6 leaves lost chunks to the callers). A caller that lost
//! its stream, or came late, reads the missing events here. The request is `{"after": POSITION,
//! "session_id": ID, "limit": COUNT}`, all fields optional; the reply is a stream of chunks of the
//! type `event`, a status `end` with the position for the next request, and the empty final
//! message.

use std::time::Duration;

use ai_factory_actors::{
    body::read_body,
    ports::{bus::Message, journal::Raw},
    service::bounded,
};
use ai_factory_schemas::{
    id::{SessionId, StreamId},
    problem::Problem,
    subject::Subject,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{chunk, host::Desk, refusal};

/// Default number of events per request.
const LIMIT_DEFAULT: u32 = 256;
/// Maximum number of events per request: core NATS has no other back-pressure for a stream.
const LIMIT_MAX: u32 = 1_024;
/// Concurrent requests.
pub const AT_ONCE: usize = 8;
/// Retry delay beyond that.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Number of records read at once: a record may have a megabyte.
const CHUNK_EVENTS_MAX: usize = 16;

#[derive(Deserialize)]
struct Asked {
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
struct End<'a> {
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
pub async fn answer(desk: &Desk, request: Message) -> Option<Problem> {
    let reply = request.reply?;
    let refused = stream(desk, &reply, &request.payload).await.err();
    if let Some(problem) = &refused {
        let _ = desk.outside.publish(refusal::message(reply.clone(), problem)).await;
    }
    let _ = desk.outside.publish(Message::new(reply, Bytes::new())).await;
    refused
}

async fn stream(desk: &Desk, reply: &Subject, payload: &[u8]) -> Result<(), Problem> {
    let Ok(_place) = desk.events_room.try_acquire() else {
        let sentence = format!("{AT_ONCE} callers are reading events: try again");
        return Err(Problem::busy(sentence, RETRY_AFTER));
    };
    let Asked { after, session_id, limit } = read_body(payload)?;
    desk.is_meant(payload)?;
    let limit = bounded(limit, "limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let head = desk.journal.head().position;
    if after > head {
        let sentence = format!("`after` must be at most {head}, the journal's end, not {after}");
        return Err(Problem::bad_request(sentence));
    }
    let last = match session_id {
        Some(id) => of_session(desk, reply, id, after, limit).await?,
        None => of_all(desk, reply, after, limit).await?,
    };
    let instance_id = desk.instance_id.as_str();
    say(desk, reply, chunk::status("end", End { after: last, head, instance_id })).await
}

async fn of_all(desk: &Desk, reply: &Subject, after: u64, limit: usize) -> Result<u64, Problem> {
    let (mut last, mut left) = (after, limit);
    while left > 0 {
        let records = read(desk, last, left.min(CHUNK_EVENTS_MAX)).await?;
        let Some(end) = records.last() else { break };
        (last, left) = (end.position, left - records.len());
        for record in &records {
            tell(desk, reply, record).await?;
        }
    }
    Ok(last)
}

async fn of_session(
    desk: &Desk,
    reply: &Subject,
    id: SessionId,
    after: u64,
    limit: usize,
) -> Result<u64, Problem> {
    let recorded = desk.journal.load(StreamId::from(id), 0).await;
    let recorded = recorded.map_err(|error| Problem::unavailable(error.to_string()))?;
    if recorded.is_empty() {
        return Err(Problem::not_found(format!("there is no session {id}")));
    }
    let mut last = after;
    for event in recorded.iter().filter(|event| event.position > after).take(limit) {
        last = event.position;
        for record in read(desk, last - 1, 1).await? {
            tell(desk, reply, &record).await?;
        }
    }
    Ok(last)
}

async fn read(desk: &Desk, after: u64, limit: usize) -> Result<Vec<Raw>, Problem> {
    let records = desk.journal.read(after, limit).await;
    records.map_err(|error| Problem::unavailable(error.to_string()))
}

async fn tell(desk: &Desk, reply: &Subject, record: &Raw) -> Result<(), Problem> {
    let too_large = || {
        let (position, bytes) = (record.position, record.bytes.len());
        chunk::status("event_too_large", TooLarge { position, bytes })
    };
    let event = chunk::event(&record.bytes)
        .filter(|event| event.len() <= (desk.message_bytes_max)())
        .unwrap_or_else(too_large);
    say(desk, reply, event).await
}

async fn say(desk: &Desk, reply: &Subject, chunk: Bytes) -> Result<(), Problem> {
    let sent = desk.outside.publish(Message::new(reply.clone(), chunk)).await;
    sent.map_err(|error| Problem::unavailable(error.to_string()))
}
