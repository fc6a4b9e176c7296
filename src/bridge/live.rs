//! What a session's model says while it says it, as server-sent events.
//!
//! *Promises.* Each part goes on as it comes, and is never waited for by who said it: a client that
//! is slow loses parts. Nothing here is a record: what was said is in the session's events.
//!
//! *Limits.* The streams count among the `streams_max` of all event streams.

use std::{convert::Infallible, future::pending, sync::Arc};

use ai_factory_ports::{bus::Subscription, retry_after};
use ai_factory_schemas::{
    id::SessionId,
    problem::Problem,
    route::{Page, ROUTES, Target},
};
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{peer::Peer, query, state::HttpState};

/// Asks a proxy to pass on each event at once (nginx, `X-Accel-Buffering`).
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Parts that wait for a slow client; further ones are lost.
const PARTS_WAITING_MAX: usize = 256;
/// The type of an event with a part.
const PART: &str = "part";

/// The stream of the session in the path.
pub async fn answer(state: &HttpState, request: Request) -> Result<Response, Problem> {
    let session = session(request.uri().path())?;
    let Ok(permit) = Arc::clone(&state.streams).try_acquire_owned() else {
        let streams_max = state.bridge.settings.streams_max;
        let sentence = format!("{streams_max} event streams are open: try again");
        return Err(Problem::busy(sentence, retry_after::STREAM));
    };
    let subject = state.bridge.subjects.stream(session);
    let parts = state.bridge.bus.subscribe((&subject).into(), None, PARTS_WAITING_MAX).await;
    let live = LiveStream {
        parts: parts.map_err(|error| Problem::unavailable(error.to_string()))?,
        ended: state.ended.clone(),
        peer: request.extensions().get::<Peer>().cloned(),
        is_begun: false,
        _permit: permit,
    };
    let keep_alive = KeepAlive::new().interval(state.bridge.settings.heartbeat).text("");
    let events = stream::unfold(live, LiveStream::next);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The session that the path names by its own id.
fn session(path: &str) -> Result<SessionId, Problem> {
    let route = ROUTES.iter().find(|route| route.target == Target::Page(Page::Stream));
    let fields = route.map(|route| query::fields(route, path, "")).transpose()?;
    let id = fields.as_ref().and_then(|fields| fields.get("id")?.as_str());
    id.and_then(|id| id.parse().ok()).ok_or_else(|| {
        Problem::invalid(&["path", "id"], "uuid_parsing", "must be the id of a session (a UUID)")
    })
}

/// An open stream.
struct LiveStream {
    parts: Subscription,
    ended: CancellationToken,
    /// The client's socket, until the client closes its sending side.
    peer: Option<Peer>,
    is_begun: bool,
    _permit: OwnedSemaphorePermit,
}

impl LiveStream {
    /// The next event of the stream; `None` when it is over.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if !self.is_begun {
            // The client learns that it is subscribed.
            self.is_begun = true;
            return Some((Ok(Event::default().comment("")), self));
        }
        let Self { parts, ended, peer, .. } = &mut self;
        let sends_no_more = async {
            match peer {
                Some(peer) => peer.sends_no_more().await,
                None => pending().await,
            }
        };
        let event = tokio::select! {
            () = ended.cancelled() => return None,
            () = sends_no_more => {
                // If the client is gone, the comment detects it and frees the permit.
                self.peer = None;
                Event::default().comment("")
            }
            part = parts.next() => {
                let payload = part?.payload;
                Event::default().event(PART).data(String::from_utf8_lossy(&payload))
            }
        };
        Some((Ok(event), self))
    }
}
