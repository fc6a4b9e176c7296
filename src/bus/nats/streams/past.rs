//! What the stream of events keeps, and then what comes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ai_factory_actors::ports::bus::header;
use ai_factory_schemas::subject::SubjectFilter;
use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::{
        consumer::{DeliverPolicy, pull},
        stream::{Info, LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::context;
use crate::bus::nats::NatsBus;

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
/// the stream: what the stream gets again, as a server that lost its store does, is told by its position.
pub struct PastEvents {
    bus: Arc<NatsBus>,
    connections: watch::Receiver<u64>,
    stream: String,
    filter: String,
    messages: pull::Ordered,
    /// The last position of each journal that was handed out.
    seen: HashMap<String, u64>,
    last: Option<Last>,
}

/// The last message that came.
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
        let mut connections = bus.connections();
        connections.mark_unchanged();
        let (stream, filter) = (stream.to_owned(), filter.as_str().to_owned());
        let opened = messages(bus, &stream, &filter, None).await;
        let messages = opened.map_err(|reason| PastError { stream: stream.clone(), reason })?;
        let seen = HashMap::new();
        Ok(Self { bus: Arc::clone(bus), connections, stream, filter, messages, seen, last: None })
    }

    /// The next one, waited for if need be. A lost connection, and a stream that is gone, are taken up again for as long as it takes.
    pub async fn next(&mut self) -> Result<Bytes, PastError> {
        loop {
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
                self.take_up_again().await?;
                continue;
            };
            let Ok(sequence) = message.info().map(|info| info.stream_sequence) else { continue };
            let (journal, position) = place(message.headers.as_ref());
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
            match messages(&self.bus, &self.stream, &self.filter, self.last.as_ref()).await {
                Ok(messages) => {
                    self.messages = messages;
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

    fn closed(&self) -> PastError {
        PastError { stream: self.stream.clone(), reason: "the connection is closed".to_owned() }
    }
}

/// The journal and the position that a message names; 0 where it names none.
fn place(headers: Option<&HeaderMap>) -> (String, u64) {
    let text = |name| {
        let value = headers.and_then(|headers| headers.get(name));
        value.map(HeaderValue::as_str).unwrap_or_default()
    };
    (text(header::JOURNAL).to_owned(), text(header::POSITION).parse().unwrap_or_default())
}

/// The messages of a stream behind the last one that came, if the stream still has that at its place; else from its beginning.
async fn messages(
    bus: &NatsBus,
    stream: &str,
    filter: &str,
    last: Option<&Last>,
) -> Result<pull::Ordered, String> {
    let broken = |error: &dyn std::fmt::Display| error.to_string();
    let found = context(&bus.client).get_stream(stream).await.map_err(|error| broken(&error))?;
    let deliver_policy = match last {
        Some(last) if is_there(&found, last).await? => {
            DeliverPolicy::ByStartSequence { start_sequence: last.sequence + 1 }
        }
        _ => DeliverPolicy::All,
    };
    let config = pull::OrderedConfig {
        filter_subject: filter.to_owned(),
        deliver_policy,
        ..pull::OrderedConfig::default()
    };
    let consumer = found.create_consumer(config).await.map_err(|error| broken(&error))?;
    consumer.messages().await.map_err(|error| broken(&error))
}

async fn is_there(stream: &Stream<Info>, last: &Last) -> Result<bool, String> {
    match stream.get_raw_message(last.sequence).await {
        Ok(kept) => Ok(place(Some(&kept.headers)) == (last.journal.clone(), last.position)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
