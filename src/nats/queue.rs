//! The consumer that delivers goals, and the goals that it delivers no more.
//!
//! *Limits.* A goal is delivered `deliveries_max` times, with growing pauses. The server itself
//! stops a little later, so that a goal survives a factory that dies while it makes a dead letter
//! of it.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
    stream::{Info, Stream},
};
use tokio::sync::mpsc;

use super::streams::{
    DeadLetterStore, Stored, StreamsSettings, Trouble, Undeliverable, server, stored, stored_from,
};

/// Interval at which the server is told that a goal is still in progress.
pub(super) const PROGRESS_PERIOD: Duration = Duration::from_secs(2);
/// How long the server waits for an acknowledgement before each redelivery.
const BACK_OFF: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_mins(1),
];
/// Deliveries by the server beyond the number that makes a goal a dead letter.
const DELIVERIES_SPARE: u32 = 3;
/// Goals delivered and not acknowledged, for all factories together.
const PENDING_MAX: i64 = 4_096;
/// How long one request for goals lasts before it is repeated.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Unacknowledged goals that are scanned: as many as there can be.
const LOOKED_AT_MAX: usize = 4_096;
/// Goals that are scanned beyond these once an unreadable one was found, because such goals rarely
/// come alone.
const LOOKED_AHEAD_MAX: usize = 256;

/// One queue of goals.
pub(super) struct QueueConfig<'a> {
    /// Its stream's creation time, in nanoseconds since 1970.
    pub(super) made: i128,
    /// The dead letters of abandoned goals.
    pub(super) letters: &'a DeadLetterStore<'a>,
    /// The goals whose letter could not be stored.
    pub(super) held: &'a mpsc::Sender<HeldGoal>,
    /// Deliveries after which a goal is abandoned.
    pub(super) deliveries_max: i64,
}

impl QueueConfig<'_> {
    /// The id of a goal without its own, and of its dead letter.
    pub(super) fn id(&self, sequence: u64) -> String {
        format!("goals-{}-{sequence}", self.made)
    }

    /// Holds a goal until its letter is stored. Waits if too many are held.
    pub(super) async fn hold(&self, goal: HeldGoal) {
        // The receiver lives as long as the intake.
        let _ = self.held.send(goal).await;
    }
}

/// Why a goal without acknowledgement is abandoned.
pub(super) fn exceeds_deliveries(deliveries_max: i64) -> String {
    format!(
        "abandoned after {deliveries_max} deliveries: each time the factory ended or did not \
         respond before it was recorded"
    )
}

/// The consumer of the goals' stream.
pub(super) struct GoalConsumer {
    consumer: PullConsumer,
    context: jetstream::Context,
    stream: Stream<Info>,
}

impl GoalConsumer {
    /// Finds or creates the consumer.
    pub(super) async fn ensure(
        context: &jetstream::Context,
        stream: &Stream<Info>,
        settings: &StreamsSettings,
    ) -> Result<Self, Trouble> {
        let name = settings.goals.to_lowercase().replace('_', "-");
        let max_deliver = settings.deliveries_max.saturating_add(DELIVERIES_SPARE);
        // nats-server 2.9 requires fewer pauses than deliveries.
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
            Some("it does not require explicit acknowledgements")
        } else if found.max_deliver < 1 {
            Some("its deliveries are unlimited (max_deliver)")
        } else {
            None
        };
        match difference {
            None => Ok(Self { consumer, context: context.clone(), stream: stream.clone() }),
            Some(difference) => Err(Trouble::UnfitConsumer {
                stream: settings.goals.clone(),
                consumer: name,
                difference,
            }),
        }
    }

    /// Deliveries after which a goal is abandoned.
    pub(super) fn deliveries_max(&self) -> i64 {
        let max_deliver = self.consumer.cached_info().config.max_deliver;
        (max_deliver - i64::from(DELIVERIES_SPARE)).max(1)
    }

    /// Requests `count` goals. The batch ends when all have come, or at its timeout.
    pub(super) async fn goals(&self, count: usize) -> Result<pull::Batch, Trouble> {
        let asked = self.consumer.batch().max_messages(count).expires(REQUEST_MAX);
        asked.messages().await.map_err(server)
    }

    /// A goal in the queue; `None` if it was removed.
    pub(super) async fn stored(&self, sequence: u64) -> Result<Option<Stored>, Trouble> {
        stored(&self.context, self.name(), sequence).await
    }

    /// Removes a goal that was not delivered to this factory, or that cannot be acknowledged.
    pub(super) async fn remove(&self, sequence: u64) -> Result<(), Trouble> {
        self.stream.delete_message(sequence).await.map(drop).map_err(server)
    }

    fn name(&self) -> &str {
        &self.stream.cached_info().config.name
    }

    /// The delivered and unacknowledged goals whose headers cannot be parsed. The client library
    /// drops the connection at each delivery of such a goal.
    pub(super) async fn unreadable(&self) -> Result<Vec<Stored>, Trouble> {
        let mut found = Vec::new();
        let state = self.stream.get_info().await.map_err(server)?.state;
        if state.messages == 0 {
            return Ok(found);
        }
        let consumer = self.consumer.get_info().await.map_err(server)?;
        if consumer.num_ack_pending == 0 {
            return Ok(found);
        }
        let delivered = consumer.delivered.stream_sequence;
        let (mut from, mut left, mut ahead) = (state.first_sequence, LOOKED_AT_MAX, 0);
        while left > 0 {
            let Some(goal) = stored_from(&self.context, self.name(), from, ">").await? else {
                break;
            };
            if goal.sequence > delivered {
                ahead += 1;
                if found.is_empty() || ahead > LOOKED_AHEAD_MAX {
                    break;
                }
            }
            (from, left) = (goal.sequence + 1, left - 1);
            found.extend(goal.unreadable.is_some().then_some(goal));
        }
        Ok(found)
    }

    /// The goals that the server delivers no more. Empty while others are being delivered.
    pub(super) async fn exhausted(&self) -> Result<Vec<u64>, Trouble> {
        let state = self.stream.get_info().await.map_err(server)?.state;
        if state.messages == 0 {
            return Ok(Vec::new());
        }
        let consumer = self.consumer.get_info().await.map_err(server)?;
        if consumer.num_pending > 0 || consumer.num_ack_pending > 0 {
            return Ok(Vec::new());
        }
        // In a work queue, what was delivered, awaits no acknowledgement and is still there was
        // delivered too often.
        let (mut from, mut found) = (state.first_sequence, Vec::new());
        while found.len() < LOOKED_AT_MAX
            && let Some(goal) = stored_from(&self.context, self.name(), from, ">").await?
            && goal.sequence <= consumer.delivered.stream_sequence
        {
            from = goal.sequence + 1;
            found.push(goal.sequence);
        }
        Ok(found)
    }
}

impl Stored {
    /// The dead letter of an abandoned goal.
    pub(super) fn undeliverable(&self, id: String, reason: String) -> Undeliverable {
        Undeliverable {
            id,
            reason,
            session: None,
            headers: self.headers.clone(),
            unreadable: self.unreadable.as_ref().map(|unreadable| unreadable.block.clone()),
            payload: self.payload.clone(),
        }
    }
}

/// A goal whose letter could not be stored.
pub(super) struct HeldGoal {
    /// Its stream sequence.
    pub(super) sequence: u64,
    /// The letter; without the payload if that is in the queue.
    pub(super) letter: Undeliverable,
    /// Whether the goal is still in the queue.
    pub(super) is_in_queue: bool,
    /// The handle for acknowledging it, if it was delivered to this factory.
    pub(super) handle: Option<jetstream::Message>,
    /// Why the letter could not be stored.
    pub(super) refused: String,
}

pub(super) fn log_dead_letter(letter: &Undeliverable) {
    tracing::warn!(reason = letter.reason, id = letter.id, "a goal became a dead letter");
}
