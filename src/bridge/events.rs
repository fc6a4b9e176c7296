//! The journal as server-sent events.
//!
//! *Promises.* Events come from the journal, in its order, each exactly once; a client that
//! reconnects with the last id it saw continues after it. An idle stream sends a comment at
//! intervals.
//!
//! *Limits.* At most `streams_max` concurrent streams. `CHUNK_EVENTS_MAX` records are read at once,
//! and the next ones only after the client has taken them: a slow client delays only itself.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use ai_factory_ports::retry_after;
use ai_factory_schemas::{
    problem::Problem,
    subject::{SubjectFilter, Subjects},
};
use ai_factory_tail::{TailCursor, TailRecord};
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{peer::Peer, query::in_query, state::HttpState};

/// Asks a proxy to pass on each event at once (nginx, `X-Accel-Buffering`).
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Number of records read at once: small, since a record may have a megabyte.
const CHUNK_EVENTS_MAX: usize = 16;
/// The client's reconnection delay, sent at the beginning of a stream.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// The stream that a request asks for.
pub fn answer(state: &HttpState, request: &Request) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let filter = filter(&state.bridge.subjects, query)?;
    let position = position(state, request, query)?;
    let Ok(permit) = Arc::clone(&state.streams).try_acquire_owned() else {
        let streams_max = state.bridge.settings.streams_max;
        let sentence = format!("{streams_max} event streams are open: try again");
        return Err(Problem::busy(sentence, retry_after::STREAM));
    };
    let following = EventStream {
        cursor: state.bridge.tail.cursor(position),
        ended: state.ended.clone(),
        subjects: state.bridge.subjects.clone(),
        filter,
        peer: request.extensions().get::<Peer>().cloned(),
        _permit: permit,
    };
    let beginning = stream::iter([Event::default().retry(RECONNECT_AFTER)]);
    let following = stream::unfold(following, EventStream::next).flat_map(stream::iter);
    let events = beginning.chain(following);
    // An idle stream sends an empty comment.
    let keep_alive = KeepAlive::new().interval(state.bridge.settings.heartbeat).text("");
    let mut response =
        Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive).into_response();
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
    ended: CancellationToken,
    subjects: Subjects,
    filter: Option<SubjectFilter>,
    /// The client's socket, until the client closes its sending side.
    peer: Option<Peer>,
    _permit: OwnedSemaphorePermit,
}

impl EventStream {
    /// The next events of the stream; `None` when it is over.
    async fn next(mut self) -> Option<(Vec<Event>, Self)> {
        while !self.ended.is_cancelled() {
            let records = match self.cursor.read(CHUNK_EVENTS_MAX).await {
                Ok(records) => records,
                Err(error) => {
                    let position = self.cursor.position();
                    tracing::error!(%error, position, "an event stream broke off");
                    return None;
                }
            };
            if records.is_empty() {
                if self.sends_no_more().await? {
                    return Some((vec![Event::default().comment("")], self));
                }
            } else {
                let events = self.events(&records);
                if !events.is_empty() {
                    return Some((events, self));
                }
                // Filtering a long journal without a match must not starve other tasks.
                tokio::task::yield_now().await;
            }
        }
        None
    }

    /// Waits for new records; `true` if the client closes its sending side meanwhile, `None` if the
    /// stream is over. A comment is due then: if the client is gone, the comment detects it and
    /// frees the permit.
    async fn sends_no_more(&mut self) -> Option<bool> {
        let Self { peer, cursor, ended, .. } = self;
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
            () = ended.cancelled() => Some(false),
        }
    }

    /// The records that pass the filter, as events.
    fn events(&self, records: &[TailRecord]) -> Vec<Event> {
        records.iter().filter(|record| self.passes(record)).map(event).collect()
    }

    fn passes(&self, record: &TailRecord) -> bool {
        let Some(filter) = &self.filter else { return true };
        record.routing().is_ok_and(|routing| {
            filter.matches(self.subjects.event(routing.stream, &routing.verb).as_str())
        })
    }
}

/// One event. The stored bytes are one line, because compact JSON has no line breaks.
fn event(record: &TailRecord) -> Event {
    let mut event = Event::default().id(record.position().to_string());
    if let Ok(routing) = record.routing() {
        event = event.event(&routing.kind);
    }
    event.data(String::from_utf8_lossy(record.bytes()))
}
