//! Events as they come, and what is said when they cannot come.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::ports::bus::{Bus as _, SubscribeError, Subscription};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{SessionId, StreamId},
    subject::SubjectFilter,
};
use bytes::Bytes;
use tokio::sync::watch;

use crate::bus::nats::{Line, NatsBus, PastEvents};

/// How many events wait for who watches before some are lost, where no stream keeps them.
const EVENTS_WAITING_MAX: usize = 65_536;

/// Why there is no next event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The connection was lost, and no stream keeps what is recorded until it is back. [`Events::next`] goes on behind that.
    #[error(
        "the connection to the NATS server was lost: events behind position {after} may be missing; HTTP has them, at \
         `/events?after={after}`"
    )]
    Interrupted {
        /// The last position that was told of; 0 where none was.
        after: u64,
    },
    /// The server is away for longer than [`server_away_max`](super::ClientSettings::server_away_max). [`Events::next`] says so
    /// again until it is back.
    #[error("the NATS server has been away for more than {} s", limit.as_secs_f64())]
    ServerAway {
        /// That limit.
        limit: Duration,
    },
    /// The connection was closed.
    #[error("the connection is closed")]
    Closed,
}

/// Events as they come.
///
/// *Promises.* Where the server has the stream of events, each comes once, and those of one factory in their order, also those that are
/// recorded while the server is away. Where it has none, or lets nobody read it, [`WatchError::Interrupted`] says when some may be
/// missing.
pub struct Events {
    bus: Arc<NatsBus>,
    source: Source,
    /// The last position that was told of.
    position: u64,
    session_id: Option<SessionId>,
    server_away_max: Duration,
}

enum Source {
    /// The stream keeps them.
    Kept(Box<PastEvents>),
    /// They come to whoever listens.
    Passing { events: Subscription, line: watch::Receiver<Line>, losses: u64 },
}

impl Events {
    /// From now on.
    pub(super) async fn from_now(
        bus: &Arc<NatsBus>,
        (stream, filter): (&str, SubjectFilter),
        session_id: Option<SessionId>,
        server_away_max: Duration,
    ) -> Result<Self, SubscribeError> {
        let line = bus.line();
        let losses = line.borrow().losses;
        // First this one: it hears what is recorded while the stream is looked for.
        let events = bus.subscribe(filter.clone(), None, EVENTS_WAITING_MAX).await?;
        let kept = if bus.server().has_jetstream {
            PastEvents::from_now(bus, stream, &filter).await.ok()
        } else {
            None
        };
        let source = match kept {
            Some(kept) => Source::Kept(Box::new(kept)),
            None => Source::Passing { events, line, losses },
        };
        Ok(Self { bus: Arc::clone(bus), source, position: 0, session_id, server_away_max })
    }

    /// The next one, waited for if need be. What cannot be read is of a newer factory, and passed over. May be dropped and
    /// called again.
    ///
    /// # Errors
    /// [`WatchError`], of which [`WatchError::Closed`] alone is the end.
    pub async fn next(&mut self) -> Result<Recorded, WatchError> {
        loop {
            let limit = self.server_away_max;
            let bytes = tokio::select! {
                biased;
                came = self.source.next(self.position) => came?,
                () = self.bus.away_for(limit) => return Err(WatchError::ServerAway { limit }),
            };
            let Ok(recorded) = Recorded::decode(&bytes) else { continue };
            self.position = recorded.position;
            if self.session_id.is_none_or(|id| is_of(&recorded, id)) {
                return Ok(recorded);
            }
        }
    }

    /// How many were lost because nobody took them.
    pub fn lost(&self) -> u64 {
        match &self.source {
            Source::Kept(_) => 0,
            Source::Passing { events, .. } => events.lost(),
        }
    }
}

impl Source {
    async fn next(&mut self, after: u64) -> Result<Bytes, WatchError> {
        match self {
            // It ends by nothing else.
            Self::Kept(events) => events.next().await.map_err(|_| WatchError::Closed),
            Self::Passing { events, line, losses } => {
                let known = *losses;
                tokio::select! {
                    biased;
                    // Told before what comes over the next connection: who reads the rest behind `after` misses nothing.
                    Ok(now) = line.wait_for(|now| now.losses > known) => {
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
