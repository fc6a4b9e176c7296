//! The journal as server-sent events.
//!
//! *Promises.* Events come from the journal, in its order, each exactly once; a client that
//! reconnects with the last id it saw continues after it. An idle stream sends a comment at
//! intervals.
//!
//! *Limits.* At most `streams_max` concurrent streams. `CHUNK_EVENTS_MAX` records are read at once,
//! and the next ones only after the client has taken them: a slow client delays only itself.

use std::{convert::Infallible, fmt::Write as _, future::pending, sync::Arc, time::Duration};

use ai_factory_schemas::{
    problem::Problem,
    subject::{SubjectFilter, Subjects},
};
use ai_factory_tail::{TailCursor, TailRecord};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{answer, peer::Peer, query::in_query, router::HttpState};

/// Asks a proxy to pass on each event at once (nginx, `X-Accel-Buffering`).
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Number of records read at once: small, since a record may have a megabyte.
const CHUNK_EVENTS_MAX: usize = 16;
/// `Retry-After` when `streams_max` is reached.
const STREAMS_RETRY_AFTER: Duration = Duration::from_secs(5);
/// The beginning of a stream: the client's reconnection delay in milliseconds.
const BEGINNING: &str = "retry: 1000\n\n";
/// Keep-alive of an idle stream.
const COMMENT: &str = ": \n\n";

/// The stream that a request asks for.
pub fn answer(state: &HttpState, request: &Request) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let filter = filter(&state.bridge.subjects, query)?;
    let position = position(state, request, query)?;
    let Ok(permit) = Arc::clone(&state.streams).try_acquire_owned() else {
        let streams_max = state.bridge.settings.streams_max;
        let sentence = format!("{streams_max} event streams are open: try again");
        return Err(Problem::busy(sentence, STREAMS_RETRY_AFTER));
    };
    let following = EventStream {
        cursor: state.bridge.tail.cursor(position),
        ended: state.ended.clone(),
        subjects: state.bridge.subjects.clone(),
        filter,
        has_begun: false,
        heartbeat: state.bridge.settings.heartbeat,
        peer: request.extensions().get::<Peer>().cloned(),
        _permit: permit,
    };
    let body = Body::from_stream(stream::unfold(following, EventStream::next));
    let mut response = answer::typed(StatusCode::OK, "text/event-stream", Bytes::new());
    *response.body_mut() = body;
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

fn filter(subjects: &Subjects, query: &str) -> Result<Option<SubjectFilter>, Problem> {
    let text = in_query("filter", query)?;
    text.map(|text| subjects.event_filter(&text))
        .transpose()
        .map_err(|wrong| Problem::invalid(&["query", "filter"], "value_error", wrong.to_string()))
}

/// The position after which the stream begins: the last one the client saw, else the requested one,
/// else the journal's end.
fn position(state: &HttpState, request: &Request, query: &str) -> Result<u64, Problem> {
    let head = state.bridge.tail.head().position;
    let last = request.headers().get(LAST_EVENT_ID).filter(|value| !value.is_empty());
    let (loc, text) = match last {
        Some(value) => (["header", "Last-Event-ID"], value.to_str().unwrap_or("?").to_owned()),
        None => match in_query("after", query)? {
            Some(text) => (["query", "after"], text),
            None => return Ok(head),
        },
    };
    match text.parse() {
        Ok(position) if position <= head => Ok(position),
        Ok(position) => {
            let sentence = format!("must be at most {head}, the journal's end, not {position}");
            Err(Problem::invalid(&loc, "out_of_range", sentence))
        }
        Err(_) => Err(Problem::invalid(&loc, "int_parsing", "must be a position of the journal")),
    }
}

/// An open stream.
struct EventStream {
    cursor: TailCursor,
    ended: watch::Receiver<bool>,
    subjects: Subjects,
    filter: Option<SubjectFilter>,
    has_begun: bool,
    heartbeat: Duration,
    /// The client's socket, until the client closes its sending side.
    peer: Option<Peer>,
    _permit: OwnedSemaphorePermit,
}

impl EventStream {
    /// The next part of the stream; `None` when it is over.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some((Ok(Bytes::from_static(BEGINNING.as_bytes())), self));
        }
        while !*self.ended.borrow() {
            let records = match self.cursor.read(CHUNK_EVENTS_MAX).await {
                Ok(records) => records,
                Err(error) => {
                    let position = self.cursor.position();
                    tracing::error!(%error, position, "an event stream broke off");
                    return None;
                }
            };
            if records.is_empty() {
                if self.is_silent().await? {
                    return Some((Ok(Bytes::from_static(COMMENT.as_bytes())), self));
                }
            } else {
                let text = self.format_events(&records);
                if !text.is_empty() {
                    return Some((Ok(text.into()), self));
                }
                // Filtering a long journal without a match must not starve other tasks.
                tokio::task::yield_now().await;
            }
        }
        None
    }

    /// Waits for new records; `true` if a comment is due instead, `None` if the stream is over.
    /// When the client closes its sending side a comment is due at once: if the client is gone, the
    /// comment detects it and frees the permit.
    async fn is_silent(&mut self) -> Option<bool> {
        let Self { peer, cursor, ended, heartbeat, .. } = self;
        let sends_no_more = async {
            match peer {
                Some(peer) => peer.sends_no_more().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = sends_no_more => {
                self.peer = None;
                Some(true)
            }
            is_open = cursor.changed() => is_open.then_some(false),
            ended = ended.changed() => ended.ok().map(|()| false),
            () = tokio::time::sleep(*heartbeat) => Some(true),
        }
    }

    /// The records that pass the filter, as events.
    fn format_events(&self, records: &[TailRecord]) -> String {
        let mut text = String::new();
        for record in records.iter().filter(|record| self.passes(record)) {
            format_event(&mut text, record);
        }
        text
    }

    fn passes(&self, record: &TailRecord) -> bool {
        let Some(filter) = &self.filter else { return true };
        record.routing().is_ok_and(|routing| {
            filter.matches(self.subjects.event(routing.stream, &routing.verb).as_str())
        })
    }
}

/// Writes one event. The stored bytes are one line, because compact JSON has no line breaks.
fn format_event(text: &mut String, record: &TailRecord) {
    let _ = writeln!(text, "id: {}", record.position());
    if let Ok(routing) = record.routing() {
        let _ = writeln!(text, "event: {}", routing.kind);
    }
    let _ = write!(text, "data: {}\n\n", String::from_utf8_lossy(record.bytes()));
}
