//! Past events from the stream of events, followed by new ones.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ai_factory_ports::bus::{Headers, header};
use ai_factory_schemas::subject::SubjectFilter;
use async_nats::jetstream::{
    consumer::{DeliverPolicy, pull},
    stream::{Info, Stream},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{
    context::context,
    stored::{stored, stored_from},
};
use crate::{bus::NatsBus, message};

/// The pause before an unreadable stream is looked up again.
const PAUSE: Duration = Duration::from_millis(500);

/// Why past events cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the stream `{stream}` of past events cannot be read ({reason}): it needs JetStream \
     on the NATS server; over HTTP (`--server`) past events come from the journal itself"
)]
pub struct EventHistoryError {
    stream: String,
    reason: String,
}

/// An endless sequence of events in stream order.
///
/// *Promises.* Each event comes once, and those of one journal in the order of their positions,
/// whatever happens to the connection and the stream: events that the stream receives again, as
/// after a server lost its store, are recognised by their position. A foreign message whose headers
/// the client library cannot parse costs the connection once, and is skipped.
pub struct EventHistory {
    bus: Arc<NatsBus>,
    connections: watch::Receiver<u64>,
    stream: String,
    filter: String,
    messages: pull::Ordered,
    /// Whether the messages must be requested again before they are used.
    is_stale: bool,
    /// The last returned position of each journal.
    seen: HashMap<String, u64>,
    last: Option<LastMessage>,
}

/// The starting point in a stream.
enum HistoryStart {
    Beginning,
    End,
}

/// The last message received.
#[derive(PartialEq, Eq)]
struct LastMessage {
    sequence: u64,
    journal: String,
    position: u64,
}

impl EventHistory {
    /// Starts at the beginning of the stream, which may hold events of several factories, each with
    /// its own positions.
    pub async fn open(
        bus: &Arc<NatsBus>,
        stream: &str,
        filter: &SubjectFilter,
    ) -> Result<Self, EventHistoryError> {
        Self::begin(bus, stream, filter, HistoryStart::Beginning)
            .await
            .map_err(|reason| EventHistoryError { stream: stream.to_owned(), reason })
    }

    /// Starts at the end of the stream: only new events.
    pub async fn from_now(
        bus: &Arc<NatsBus>,
        stream: &str,
        filter: &SubjectFilter,
    ) -> Result<Self, EventHistoryError> {
        Self::begin(bus, stream, filter, HistoryStart::End)
            .await
            .map_err(|reason| EventHistoryError { stream: stream.to_owned(), reason })
    }

    async fn begin(
        bus: &Arc<NatsBus>,
        stream: &str,
        filter: &SubjectFilter,
        start: HistoryStart,
    ) -> Result<Self, String> {
        let mut connections = bus.connections();
        connections.mark_unchanged();
        let found = find_stream(bus, stream).await?;
        let sequence = match start {
            HistoryStart::Beginning => 0,
            HistoryStart::End => found.cached_info().state.last_sequence,
        };
        let last = if sequence == 0 { None } else { message_at(bus, stream, sequence).await? };
        Ok(Self {
            bus: Arc::clone(bus),
            connections,
            stream: stream.to_owned(),
            filter: filter.as_str().to_owned(),
            messages: messages(&found, filter.as_str(), deliver_after(sequence)).await?,
            is_stale: false,
            seen: last.iter().map(|last| (last.journal.clone(), last.position)).collect(),
            last,
        })
    }

    /// The next event. Waits for it, and for a lost connection or a missing stream without limit.
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Bytes, EventHistoryError> {
        loop {
            if self.is_stale {
                self.resume().await?;
            }
            let came = tokio::select! {
                biased;
                // It may be another server, or one with another store.
                changed = self.connections.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return Err(self.closed_error()),
                },
                came = self.messages.next() => came.and_then(Result::ok),
            };
            let Some(message) = came else {
                self.is_stale = true;
                continue;
            };
            let Ok(sequence) = message.info().map(|info| info.stream_sequence) else { continue };
            let (journal, position) = journal_position(&message::headers(message.headers.as_ref()));
            let seen = self.seen.entry(journal.clone()).or_default();
            let is_new = position == 0 || position > *seen;
            *seen = position.max(*seen);
            self.last = Some(LastMessage { sequence, journal, position });
            if is_new {
                return Ok(message.message.payload);
            }
        }
    }

    async fn resume(&mut self) -> Result<(), EventHistoryError> {
        loop {
            self.connections.mark_unchanged();
            match self.reopen().await {
                Ok(messages) => {
                    (self.messages, self.is_stale) = (messages, false);
                    return Ok(());
                }
                Err(reason) => tracing::debug!(reason, "requesting past events again"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                changed = self.connections.changed() => {
                    if changed.is_err() {
                        return Err(self.closed_error());
                    }
                }
            }
        }
    }

    /// The stream's messages after the last one received, if that is still in its place; otherwise
    /// all of them.
    async fn reopen(&self) -> Result<pull::Ordered, String> {
        let found = find_stream(&self.bus, &self.stream).await?;
        let sequence = match &self.last {
            Some(last) => match message_at(&self.bus, &self.stream, last.sequence).await? {
                Some(kept) if kept == *last => last.sequence,
                _ => 0,
            },
            None => 0,
        };
        let sequence = self.behind_the_unreadable(sequence).await?;
        messages(&found, &self.filter, deliver_after(sequence)).await
    }

    /// The sequence of the last of the following messages that would cost the connection when
    /// delivered.
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

    fn closed_error(&self) -> EventHistoryError {
        EventHistoryError {
            stream: self.stream.clone(),
            reason: "the connection is closed".to_owned(),
        }
    }
}

/// The journal and the position in a message's headers; 0 without one.
fn journal_position(headers: &Headers) -> (String, u64) {
    let text = |name| headers.get(name).unwrap_or_default();
    (text(header::JOURNAL).to_owned(), text(header::POSITION).parse().unwrap_or_default())
}

async fn find_stream(bus: &NatsBus, stream: &str) -> Result<Stream<Info>, String> {
    context(&bus.client).get_stream(stream).await.map_err(|error| error.to_string())
}

/// Messages after this sequence; 0 for all.
fn deliver_after(sequence: u64) -> DeliverPolicy {
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

/// The message at a sequence of a stream, if there is one.
async fn message_at(
    bus: &NatsBus,
    stream: &str,
    sequence: u64,
) -> Result<Option<LastMessage>, String> {
    let found = stored(&context(&bus.client), stream, sequence).await;
    Ok(found.map_err(|error| error.to_string())?.map(|kept| {
        let (journal, position) = journal_position(&kept.headers);
        LastMessage { sequence, journal, position }
    }))
}
