//! The consumer that hands goals out, and what becomes of those that it hands out no more.
//!
//! *Limits.* A goal is handed out `deliveries_max` times, with growing pauses. The server itself stops a little later, so
//! that a factory which dies while it buries a goal leaves it to the next one.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
    stream::{Info, Stream},
};
use tokio::sync::mpsc;

use super::{
    held::HeldGoal,
    streams::{
        Letters, Stored, StreamsSettings, Trouble, Undeliverable, server, stored, stored_from,
    },
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

/// How many goals are looked at that were handed out and not acknowledged: as many as there can be.
const LOOKED_AT_MAX: usize = 4_096;
/// How many goals are looked at beyond these, once one was found whose headers cannot be read: such goals rarely come alone.
const LOOKED_AHEAD_MAX: usize = 256;

/// What is so of one queue.
pub(super) struct Queue<'a> {
    /// When its stream was made, in nanoseconds since 1970.
    pub(super) made: i128,
    /// Where goals go that are given up.
    pub(super) letters: &'a Letters<'a>,
    /// Where goals go whose letter is refused.
    pub(super) held: &'a mpsc::Sender<HeldGoal>,
    /// How often a goal is handed out before that.
    pub(super) deliveries_max: i64,
}

impl Queue<'_> {
    /// A goal's id where it has none of its own, and that of its dead letter.
    pub(super) fn id(&self, sequence: u64) -> String {
        format!("goals-{}-{sequence}", self.made)
    }

    /// Has a goal held until its letter is kept. Waits where too many are.
    pub(super) async fn hold(&self, goal: HeldGoal) {
        // Who holds them is there for as long as goals are taken in.
        let _ = self.held.send(goal).await;
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
    context: jetstream::Context,
    stream: Stream<Info>,
}

impl Consumer {
    /// Finds or makes it.
    pub(super) async fn ensured(
        context: &jetstream::Context,
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
            None => Ok(Self { consumer, context: context.clone(), stream: stream.clone() }),
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

    /// A goal of the queue; `None` where it is not there any more.
    pub(super) async fn stored(&self, sequence: u64) -> Result<Option<Stored>, Trouble> {
        stored(&self.context, self.name(), sequence).await
    }

    /// Removes a goal from the queue that was not handed out to us, or that cannot be acknowledged.
    pub(super) async fn remove(&self, sequence: u64) -> Result<(), Trouble> {
        self.stream.delete_message(sequence).await.map(drop).map_err(server)
    }

    fn name(&self) -> &str {
        &self.stream.cached_info().config.name
    }

    /// The goals that were handed out and not acknowledged and whose headers cannot be read. The client library drops the
    /// connection over such a goal, each time that it is handed out.
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

    /// The goals that the server hands out no more. Says nothing while others are handed out.
    pub(super) async fn exhausted(&self) -> Result<Vec<u64>, Trouble> {
        let state = self.stream.get_info().await.map_err(server)?.state;
        if state.messages == 0 {
            return Ok(Vec::new());
        }
        let consumer = self.consumer.get_info().await.map_err(server)?;
        if consumer.num_pending > 0 || consumer.num_ack_pending > 0 {
            return Ok(Vec::new());
        }
        // What was handed out, awaits no acknowledgement and is still there: in a work queue that is what was handed out
        // too often.
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
    /// What is kept of a goal that is given up for this reason.
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
