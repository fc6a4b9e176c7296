//! Events from a factory, and the errors when they cannot be read.

use std::{sync::Arc, time::Duration};

use ai_factory_nats::{ConnectionState, EventHistory, NatsBus};
use ai_factory_ports::bus::{Bus as _, SubscribeError, Subscription};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{SessionId, StreamId},
    subject::SubjectFilter,
};
use bytes::Bytes;
use tokio::sync::watch;

/// Events queued for a watcher before some are lost, if no stream stores them.
const EVENTS_WAITING_MAX: usize = 65_536;

/// Why there is no next event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The connection was lost, and no stream stores the events until it is back. [`Events::next`]
    /// continues after the gap.
    #[error(
        "the connection to the NATS server was lost: events after position {after} may be missing; read them over HTTP at \
         `/events?after={after}`"
    )]
    Interrupted {
        /// The last position returned; 0 if none.
        after: u64,
    },
    /// The server has been away for longer than
    /// [`server_away_max`](super::ClientSettings::server_away_max). [`Events::next`] repeats this
    /// error until it is back.
    #[error("the NATS server has been away for more than {} s", limit.as_secs_f64())]
    ServerAway {
        /// The limit.
        limit: Duration,
    },
    /// The connection was closed.
    #[error("the connection is closed")]
    Closed,
}

/// A sequence of events.
///
/// *Promises.* If the server has the stream of events, each event comes once, and those of one
/// factory in order, including those recorded while the server is away. If it has none, or reading
/// it is not permitted, [`WatchError::Interrupted`] reports when events may be missing.
pub struct Events {
    bus: Arc<NatsBus>,
    source: EventSource,
    /// The last position returned.
    position: u64,
    session_id: Option<SessionId>,
    server_away_max: Duration,
}

enum EventSource {
    /// From the stream.
    Kept(Box<EventHistory>),
    /// From a subscription, without a stream.
    Passing { events: Subscription, state: watch::Receiver<ConnectionState>, losses: u64 },
}

impl Events {
    /// Events from this call on.
    pub(super) async fn from_now(
        bus: &Arc<NatsBus>,
        (stream, filter): (&str, SubjectFilter),
        session_id: Option<SessionId>,
        server_away_max: Duration,
    ) -> Result<Self, SubscribeError> {
        let state = bus.connection_state();
        let losses = state.borrow().losses;
        // First the subscription: it receives events that are recorded while the stream is looked
        // up.
        let events = bus.subscribe(filter.clone(), None, EVENTS_WAITING_MAX).await?;
        let kept = if bus.server().has_jetstream {
            EventHistory::from_now(bus, stream, &filter).await.ok()
        } else {
            None
        };
        let source = match kept {
            Some(kept) => EventSource::Kept(Box::new(kept)),
            None => EventSource::Passing { events, state, losses },
        };
        Ok(Self { bus: Arc::clone(bus), source, position: 0, session_id, server_away_max })
    }

    /// Waits for the next event. An event that cannot be decoded is of a newer factory, and
    /// skipped. Cancel safe.
    ///
    /// # Errors
    /// [`WatchError`], of which only [`WatchError::Closed`] is final.
    pub async fn next(&mut self) -> Result<Recorded, WatchError> {
        loop {
            let limit = self.server_away_max;
            let bytes = tokio::select! {
                biased;
                came = self.source.next(self.position) => came?,
                () = self.bus.disconnected_for(limit) => return Err(WatchError::ServerAway { limit }),
            };
            let Ok(recorded) = Recorded::decode(&bytes) else { continue };
            self.position = recorded.position;
            if self.session_id.is_none_or(|id| is_of(&recorded, id)) {
                return Ok(recorded);
            }
        }
    }

    /// How many events were lost because they were not read in time.
    pub fn lost(&self) -> u64 {
        match &self.source {
            EventSource::Kept(_) => 0,
            EventSource::Passing { events, .. } => events.lost(),
        }
    }
}

impl EventSource {
    async fn next(&mut self, after: u64) -> Result<Bytes, WatchError> {
        match self {
            // It has no other error.
            Self::Kept(events) => events.next().await.map_err(|_| WatchError::Closed),
            Self::Passing { events, state, losses } => {
                let known = *losses;
                tokio::select! {
                    biased;
                    // Reported before messages of the next connection: reading on after `after`
                    // then misses nothing.
                    Ok(now) = state.wait_for(|now| now.losses > known) => {
                        *losses = now.losses;
                        Err(WatchError::Interrupted { after })
                    }
                    message = events.next() => {
                        message.map(|message| message.payload).ok_or(WatchError::Closed)
                    }
                }
            }
        }
    }
}

fn is_of(recorded: &Recorded, session_id: SessionId) -> bool {
    recorded.stream == StreamId::from(session_id)
        || recorded.trail.correlation == Some(session_id.0)
}
