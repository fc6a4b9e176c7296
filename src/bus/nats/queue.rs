//! The consumer that hands goals out, and what becomes of those that it hands out no more.
//!
//! *Limits.* A goal is handed out `deliveries_max` times, with growing pauses. The server itself stops a little later, so
//! that a factory which dies while it buries a goal leaves it to the next one.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, PullConsumer, pull},
    stream::{Info, LastRawMessageErrorKind, Stream},
};

use super::{
    message,
    streams::{DeadLetters, StreamsSettings, Trouble, Undeliverable, server},
};

/// How long the server waits for an acknowledgement before it hands a goal out again, the first time, the second time, and
/// so on.
const BACK_OFF: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_mins(1),
];
/// How often the server hands a goal out beyond what makes it a dead letter.
const DELIVERIES_SPARE: u32 = 3;
/// How many goals may be handed out and not acknowledged, to all factories together.
const PENDING_MAX: i64 = 4_096;
/// How long one request for goals stands before it is made anew.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// What is so of one queue.
pub(super) struct Queue<'a> {
    /// When its stream was made, in nanoseconds since 1970.
    pub(super) made: i128,
    /// Where goals go that are given up.
    pub(super) letters: &'a DeadLetters,
    /// How often a goal is handed out before that.
    pub(super) deliveries_max: i64,
}

impl Queue<'_> {
    /// A goal's id where it has none of its own, and that of its dead letter.
    pub(super) fn id(&self, sequence: u64) -> String {
        format!("goals-{}-{sequence}", self.made)
    }
}

/// Why a goal is given up that nobody acknowledged.
pub(super) fn handed_out_too_often(deliveries_max: i64) -> String {
    format!(
        "given up after it was handed out {deliveries_max} times: each time the factory ended or did not answer before it was \
         recorded"
    )
}

/// The consumer of the goals' stream.
pub(super) struct Consumer {
    consumer: PullConsumer,
    stream: Stream<Info>,
}

impl Consumer {
    /// Finds or makes it.
    pub(super) async fn ensured(
        stream: &Stream<Info>,
        settings: &StreamsSettings,
    ) -> Result<Self, Trouble> {
        let name = settings.goals.to_lowercase().replace('_', "-");
        let max_deliver = settings.deliveries_max.saturating_add(DELIVERIES_SPARE);
        // nats-server 2.9 wants fewer pauses than deliveries.
        let pauses = BACK_OFF.len().min(max_deliver as usize - 1);
        let wanted = pull::Config {
            durable_name: Some(name.clone()),
            description: Some("takes goals into ai-factory".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: BACK_OFF[0],
            max_deliver: i64::from(max_deliver),
            max_ack_pending: PENDING_MAX,
            backoff: BACK_OFF[..pauses].to_vec(),
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(&name, wanted).await.map_err(server)?;
        let found = &consumer.cached_info().config;
        let difference = if found.ack_policy != AckPolicy::Explicit {
            Some("it wants no explicit acknowledgements")
        } else if found.max_deliver < 1 {
            Some("it hands a goal out without limit (max_deliver)")
        } else {
            None
        };
        match difference {
            None => Ok(Self { consumer, stream: stream.clone() }),
            Some(difference) => Err(Trouble::UnfitConsumer {
                stream: settings.goals.clone(),
                consumer: name,
                difference,
            }),
        }
    }

    /// How often a goal is handed out before it is given up.
    pub(super) fn deliveries_max(&self) -> i64 {
        let max_deliver = self.consumer.cached_info().config.max_deliver;
        (max_deliver - i64::from(DELIVERIES_SPARE)).max(1)
    }

    /// Asks for so many goals. What comes ends when they all came, or after a while.
    pub(super) async fn goals(&self, count: usize) -> Result<pull::Batch, Trouble> {
        let asked = self.consumer.batch().max_messages(count).expires(REQUEST_MAX);
        asked.messages().await.map_err(server)
    }

    /// Makes dead letters of the goals that the server hands out no more. Does nothing while others are handed out.
    pub(super) async fn bury_the_exhausted(&self, queue: &Queue<'_>) -> Result<(), Trouble> {
        let state = self.stream.get_info().await.map_err(server)?.state;
        if state.messages == 0 {
            return Ok(());
        }
        let consumer = self.consumer.get_info().await.map_err(server)?;
        if consumer.num_pending > 0 || consumer.num_ack_pending > 0 {
            return Ok(());
        }
        // What was handed out, awaits no acknowledgement and is still there: in a work queue that is what was handed out
        // too often.
        for sequence in state.first_sequence..=consumer.delivered.stream_sequence {
            let goal = match self.stream.get_raw_message(sequence).await {
                Ok(goal) => goal,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => continue,
                Err(error) => return Err(server(error)),
            };
            let what = Undeliverable {
                id: queue.id(sequence),
                reason: handed_out_too_often(queue.deliveries_max),
                session: None,
                headers: message::headers(Some(&goal.headers)),
                payload: goal.payload,
            };
            tracing::warn!(reason = what.reason, id = what.id, "a goal became a dead letter");
            queue.letters.keep(&what).await.map_err(server)?;
            self.stream.delete_message(sequence).await.map_err(server)?;
        }
        Ok(())
    }
}
