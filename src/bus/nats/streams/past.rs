//! What the stream of events keeps, and then what comes.

use ai_factory_schemas::subject::SubjectFilter;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::context;
use crate::bus::nats::NatsBus;

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
pub struct PastEvents {
    stream: String,
    messages: pull::Ordered,
}

impl PastEvents {
    /// From the beginning of the stream: it may hold events of several factories, each with positions of its own.
    pub async fn open(
        bus: &NatsBus,
        stream: &str,
        filter: &SubjectFilter,
    ) -> Result<Self, PastError> {
        let broken = |error: &dyn std::fmt::Display| PastError {
            stream: stream.to_owned(),
            reason: error.to_string(),
        };
        let config = pull::OrderedConfig {
            filter_subject: filter.as_str().to_owned(),
            deliver_policy: DeliverPolicy::All,
            ..pull::OrderedConfig::default()
        };
        let found = context(&bus.client).get_stream(stream).await;
        let found = found.map_err(|error| broken(&error))?;
        let consumer = found.create_consumer(config).await.map_err(|error| broken(&error))?;
        let messages = consumer.messages().await.map_err(|error| broken(&error))?;
        Ok(Self { stream: stream.to_owned(), messages })
    }

    /// The next one, waited for if need be. A lost connection is taken up again by itself.
    pub async fn next(&mut self) -> Result<Bytes, PastError> {
        let broken = |reason: String| PastError { stream: self.stream.clone(), reason };
        match self.messages.next().await {
            Some(Ok(message)) => Ok(message.message.payload),
            Some(Err(error)) => Err(broken(error.to_string())),
            None => Err(broken("the connection is closed".to_owned())),
        }
    }
}
