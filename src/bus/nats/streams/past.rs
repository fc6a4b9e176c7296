//! What the stream of events keeps, and then what comes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ai_factory_actors::ports::bus::{Headers, header};
use ai_factory_schemas::subject::SubjectFilter;
use async_nats::jetstream::{
    consumer::{DeliverPolicy, pull},
    stream::{Info, Stream},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{context, stored, stored_from};
use crate::bus::nats::{NatsBus, message};

/// The pause before a stream that cannot be read is looked for again.
const PAUSE: Duration = Duration::from_millis(500);

/// Why the past cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the stream `{stream}` of past events cannot be read ({reason}): it is there where the NATS server has JetStream; over HTTP \
     (`--server`) the past comes from the journal itself"
)]
pub struct PastError {
    stream: String,
    reason: String,
}

/// Events in the order of their stream, without end.
///
/// *Promises.* Each event comes once, and those of one journal in the order of their positions, whatever happens to the connection and to
/// the stream: what the stream gets again, as a server that lost its store does, is told by its position. A message of somebody else
/// whose headers the client library does not bear costs the connection once, and is passed over.
pub struct PastEvents {
    bus: Arc<NatsBus>,
    connections: watch::Receiver<u64>,
    stream: String,
    filter: String,
    messages: pull::Ordered,
    /// Whether they must be asked for again before anything of them is believed.
    is_stale: bool,
    /// The last position of each journal that was handed out.
    seen: HashMap<String, u64>,
    last: Option<Last>,
}

/// Where in a stream to begin.
enum Start {
    Beginning,
    End,
}

/// The last message that came.
#[derive(PartialEq, Eq)]
struct Last {
    sequence: u64,
    journal: String,
    position: u64,
}

impl PastEvents {
    /// From the beginning of the stream: it may hold events of several factories, each with positions of its own.
    pub async fn open(
        bus: &Arc<NatsBus>,
        stream: &str,
        filter: &SubjectFilter,
    ) -> Result<Self, PastError> {
        Self::begin(bus, stream, filter, Start::Beginning)
            .await
            .map_err(|reason| PastError { stream: stream.to_owned(), reason })
    }

    /// What comes into the stream from now on.
    pub async fn from_now(
        bus: &Arc<NatsBus>,
        stream: &str,
        filter: &SubjectFilter,
    ) -> Result<Self, PastError> {
        Self::begin(bus, stream, filter, Start::End)
            .await
            .map_err(|reason| PastError { stream: stream.to_owned(), reason })
    }

    async fn begin(
        bus: &Arc<NatsBus>,
        stream: &str,
        filter: &SubjectFilter,
        start: Start,
    ) -> Result<Self, String> {
        let mut connections = bus.connections();
        connections.mark_unchanged();
        let found = found(bus, stream).await?;
        let sequence = match start {
            Start::Beginning => 0,
            Start::End => found.cached_info().state.last_sequence,
        };
        let last = if sequence == 0 { None } else { kept(bus, stream, sequence).await? };
        Ok(Self {
            bus: Arc::clone(bus),
            connections,
            stream: stream.to_owned(),
            filter: filter.as_str().to_owned(),
            messages: messages(&found, filter.as_str(), behind(sequence)).await?,
            is_stale: false,
            seen: last.iter().map(|last| (last.journal.clone(), last.position)).collect(),
            last,
        })
    }

    /// The next one, waited for if need be. A lost connection, and a stream that is gone, are taken up again for as long as it takes.
    /// May be dropped and called again.
    pub async fn next(&mut self) -> Result<Bytes, PastError> {
        loop {
            if self.is_stale {
                self.take_up_again().await?;
            }
            let came = tokio::select! {
                biased;
                // It may be another server, or one with another store.
                changed = self.connections.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return Err(self.closed()),
                },
                came = self.messages.next() => came.and_then(Result::ok),
            };
            let Some(message) = came else {
                self.is_stale = true;
                continue;
            };
            let Ok(sequence) = message.info().map(|info| info.stream_sequence) else { continue };
            let (journal, position) = place(&message::headers(message.headers.as_ref()));
            let seen = self.seen.entry(journal.clone()).or_default();
            let is_new = position == 0 || position > *seen;
            *seen = position.max(*seen);
            self.last = Some(Last { sequence, journal, position });
            if is_new {
                return Ok(message.message.payload);
            }
        }
    }

    async fn take_up_again(&mut self) -> Result<(), PastError> {
        loop {
            self.connections.mark_unchanged();
            match self.messages_again().await {
                Ok(messages) => {
                    (self.messages, self.is_stale) = (messages, false);
                    return Ok(());
                }
                Err(reason) => tracing::debug!(reason, "past events are asked for again"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                changed = self.connections.changed() => {
                    if changed.is_err() {
                        return Err(self.closed());
                    }
                }
            }
        }
    }

    /// What the stream has behind the last message that came, if that is still at its place; else all of it.
    async fn messages_again(&self) -> Result<pull::Ordered, String> {
        let found = found(&self.bus, &self.stream).await?;
        let sequence = match &self.last {
            Some(last) => match kept(&self.bus, &self.stream, last.sequence).await? {
                Some(kept) if kept == *last => last.sequence,
                _ => 0,
            },
            None => 0,
        };
        let sequence = self.behind_the_unreadable(sequence).await?;
        messages(&found, &self.filter, behind(sequence)).await
    }

    /// The place behind the messages that follow this one and cost the connection when they are delivered.
    async fn behind_the_unreadable(&self, mut sequence: u64) -> Result<u64, String> {
        let context = context(&self.bus.client);
        loop {
            let next = stored_from(&context, &self.stream, sequence + 1, &self.filter).await;
            match next.map_err(|error| error.to_string())? {
                Some(next) if next.unreadable.is_some() => sequence = next.sequence,
                _ => return Ok(sequence),
            }
        }
    }

    fn closed(&self) -> PastError {
        PastError { stream: self.stream.clone(), reason: "the connection is closed".to_owned() }
    }
}

/// The journal and the position that a message names; 0 where it names none.
fn place(headers: &Headers) -> (String, u64) {
    let text = |name| headers.get(name).unwrap_or_default();
    (text(header::JOURNAL).to_owned(), text(header::POSITION).parse().unwrap_or_default())
}

async fn found(bus: &NatsBus, stream: &str) -> Result<Stream<Info>, String> {
    context(&bus.client).get_stream(stream).await.map_err(|error| error.to_string())
}

/// What comes behind that place; 0 is before the first.
fn behind(sequence: u64) -> DeliverPolicy {
    match sequence {
        0 => DeliverPolicy::All,
        sequence => DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
    }
}

async fn messages(
    stream: &Stream<Info>,
    filter: &str,
    deliver_policy: DeliverPolicy,
) -> Result<pull::Ordered, String> {
    let broken = |error: &dyn std::fmt::Display| error.to_string();
    let config = pull::OrderedConfig {
        filter_subject: filter.to_owned(),
        deliver_policy,
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| broken(&error))?;
    consumer.messages().await.map_err(|error| broken(&error))
}

/// The message that a stream has at a place, if it has one there.
async fn kept(bus: &NatsBus, stream: &str, sequence: u64) -> Result<Option<Last>, String> {
    let found = stored(&context(&bus.client), stream, sequence).await;
    Ok(found.map_err(|error| error.to_string())?.map(|kept| {
        let (journal, position) = place(&kept.headers);
        Last { sequence, journal, position }
    }))
}
