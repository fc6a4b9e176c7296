//! Queued goals: published by a command, and listed while they wait in their stream.

use ai_factory_ports::bus::{Headers, header};
use ai_factory_schemas::{
    subject::{Subject, Subjects},
    time::Timestamp,
};
use async_nats::jetstream::{
    self,
    stream::{Info, Stream},
};
use bytes::Bytes;

use super::{context::context, settings::StreamsSettings, stored::stored_from};
use crate::{bus::NatsBus, message};

/// Why a goal was not published, or queued goals not read.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// No stream takes goals.
    #[error(
        "no stream takes goals on {subject} ({reason}): start a factory there with `ai-factory up --nats URL` first; where the \
         server has no JetStream, use `ai-factory submit`"
    )]
    NoStream {
        /// The subject of goals.
        subject: Subject,
        /// The server's reason.
        reason: String,
    },
    /// A request failed.
    #[error("{0}")]
    Trouble(String),
}

fn trouble(error: impl std::fmt::Display) -> QueueError {
    QueueError::Trouble(error.to_string())
}

/// A queued goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingGoal {
    /// Its sequence number in the stream.
    pub number: u64,
    /// When the stream stored it.
    pub time: Timestamp,
    /// Its `Nats-Msg-Id`.
    pub key: Option<String>,
    /// The goal's payload.
    pub payload: Bytes,
}

/// The stream's acknowledgement of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnqueueReceipt {
    /// Its sequence number in the stream.
    pub number: u64,
    /// Whether the stream already had it, under the same key.
    pub is_known: bool,
}

/// The stream of goals, for clients.
pub struct GoalsQueue {
    context: jetstream::Context,
    stream: Stream<Info>,
    subject: Subject,
}

impl GoalsQueue {
    /// Finds the stream, which a factory creates.
    pub async fn open(
        bus: &NatsBus,
        settings: &StreamsSettings,
        subjects: &Subjects,
    ) -> Result<Self, QueueError> {
        let (context, subject) = (context(&bus.client), subjects.goals());
        let found = context.get_stream(&settings.goals).await;
        let no_stream = |reason: String| QueueError::NoStream { subject: subject.clone(), reason };
        let stream = found.map_err(|error| no_stream(error.to_string()))?;
        Ok(Self { context, stream, subject })
    }

    /// Publishes a goal. On `Ok` it is on the server's disk.
    pub async fn enqueue(
        &self,
        headers: &Headers,
        goal: Bytes,
    ) -> Result<EnqueueReceipt, QueueError> {
        let headers = message::to_nats(headers);
        let subject = self.subject.as_str().to_owned();
        let sent = self.context.publish_with_headers(subject, headers, goal);
        let ack = sent.await.map_err(trouble)?.await.map_err(trouble)?;
        Ok(EnqueueReceipt { number: ack.sequence, is_known: ack.duplicate })
    }

    /// The queued goals, oldest first.
    pub async fn oldest(&self, limit: usize) -> Result<Vec<WaitingGoal>, QueueError> {
        let mut from = self.stream.get_info().await.map_err(trouble)?.state.first_sequence;
        let name = &self.stream.cached_info().config.name;
        let mut goals = Vec::new();
        while goals.len() < limit {
            // Sequences in between were taken meanwhile.
            let next = stored_from(&self.context, name, from, self.subject.as_str()).await;
            let Some(found) = next.map_err(trouble)? else { break };
            from = found.sequence + 1;
            goals.push(WaitingGoal {
                number: found.sequence,
                time: found.time,
                key: found.headers.get(header::MESSAGE_ID).map(str::to_owned),
                payload: found.payload,
            });
        }
        Ok(goals)
    }
}
