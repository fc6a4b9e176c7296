//! The intake of goals that are published to a NATS server, and not asked for.
//!
//! *Promises.* Where the server has JetStream, goals are a work queue: one that is published while the factory is away
//! waits for it, and is acknowledged only after the factory has recorded it, as a session or as rejected. A goal that
//! comes again takes effect once: its key is its `Nats-Msg-Id`, or its place in the stream where it has none. Without
//! JetStream a goal reaches who listens at the moment, and a reply subject gets the answer.
//!
//! *Limits.* `GOALS_AT_ONCE` goals are being taken in at once. What does not fit into the stream is refused to its
//! publisher.
//!
//! *Not here.* What a goal is: that is decided by the operation `supervisor.accept`.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::{
    client,
    ports::bus::{Bus, Headers, Message, header},
};
use ai_factory_schemas::{
    id::CommandId,
    problem::Problem,
    subject::{Subjects, operation},
};
use async_nats::jetstream::{
    self, AckKind,
    consumer::{AckPolicy, PullConsumer, pull},
    stream::{Config, DiscardPolicy, Info, RetentionPolicy, Stream},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    NatsBus, message,
    streams::{StreamsSettings, Trouble, base, context, ensure, server},
};

/// How many goals are being taken in at once.
const GOALS_AT_ONCE: usize = 64;
/// How many goals wait without JetStream before some are lost.
const GOALS_WAITING_MAX: usize = 4_096;
/// How long the server waits for an acknowledgement before it hands a goal out again.
const ACK_MAX: Duration = Duration::from_secs(5);
/// How often the server is told that a goal is still being taken in.
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);
/// How long the supervisor may take to record a goal.
const ACCEPT_MAX: Duration = Duration::from_mins(1);
/// When a goal that could not be taken in is tried again, where nothing else is said.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The pause after the intake failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The queue group in which several factories share goals without JetStream.
const QUEUE_GROUP: &str = "q";

/// The intake of published goals. Runs until its task is ended.
pub struct Goals {
    /// Where goals are published.
    pub outside: Arc<NatsBus>,
    /// Where the supervisor is asked.
    pub inside: Arc<dyn Bus>,
    /// Under which subjects.
    pub subjects: Subjects,
    /// Where goals wait.
    pub streams: StreamsSettings,
}

impl Goals {
    /// Takes goals in.
    pub async fn run(self) {
        let mut connections = self.outside.connections();
        let mut told = String::new();
        loop {
            if connections.wait_for(|number| *number > 0).await.is_err() {
                return;
            }
            connections.mark_unchanged();
            let ended = tokio::select! {
                ended = self.take_in() => ended,
                // Another server may have JetStream where this one had none.
                changed = connections.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            if let Err(trouble) = ended {
                let trouble = trouble.to_string();
                if trouble != told {
                    tracing::warn!(trouble, "goals from NATS wait; trying again");
                }
                self.outside.note_trouble("goals", Some(trouble.clone()));
                told = trouble;
            }
            sleep(PAUSE).await;
        }
    }

    async fn take_in(&self) -> Result<(), Trouble> {
        if !self.outside.client.server_info().jetstream {
            return self.as_they_come().await;
        }
        match self.work_the_queue_off().await {
            Err(Trouble::NoJetStream) => self.as_they_come().await,
            ended => ended,
        }
    }

    /// Without JetStream.
    async fn as_they_come(&self) -> Result<(), Trouble> {
        let filter = (&self.subjects.goals()).into();
        let goals = self
            .outside
            .subscribe(filter, Some(QUEUE_GROUP), GOALS_WAITING_MAX)
            .await
            .map_err(server)?;
        self.outside.note_trouble("goals", None);
        tracing::info!(subject = %self.subjects.goals(), "taking goals in without JetStream");
        futures_util::stream::unfold(goals, async |mut goals| {
            goals.next().await.map(|goal| (goal, goals))
        })
        .for_each_concurrent(GOALS_AT_ONCE, |goal| self.answer(goal))
        .await;
        Ok(())
    }

    async fn answer(&self, goal: Message) {
        let accepted = loop {
            match self.accept(&goal.headers, goal.payload.clone()).await {
                // Whoever waits for an answer decides itself whether to try again.
                Err(problem) if problem.is_transient() && goal.reply.is_none() => {
                    sleep(problem.retry_after.unwrap_or(RETRY_AFTER)).await;
                }
                accepted => break accepted,
            }
        };
        let Some(reply) = goal.reply else { return };
        let mut message = Message::new(reply, Bytes::new());
        (message.headers, message.payload) = client::write_answer(accepted);
        if let Err(error) = self.outside.publish(message).await {
            tracing::warn!(%error, "an answer could not be sent");
        }
    }

    /// With JetStream. Ends only by an error.
    async fn work_the_queue_off(&self) -> Result<(), Trouble> {
        let stream = self.stream().await?;
        // Streams of the same name that were made at different times count their messages from 1 each.
        let made = stream.cached_info().created.unix_timestamp_nanos();
        let name = self.streams.goals.to_lowercase().replace('_', "-");
        let consumer: PullConsumer = stream
            .get_or_create_consumer(
                &name,
                pull::Config {
                    durable_name: Some(name.clone()),
                    description: Some("takes goals into ai-factory".to_owned()),
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: ACK_MAX,
                    ..pull::Config::default()
                },
            )
            .await
            .map_err(server)?;
        let goals = consumer
            .stream()
            .max_messages_per_batch(GOALS_AT_ONCE)
            .messages()
            .await
            .map_err(server)?;
        self.outside.note_trouble("goals", None);
        tracing::info!(stream = self.streams.goals, "taking goals in from JetStream");
        goals
            .map_err(server)
            .try_for_each_concurrent(GOALS_AT_ONCE, async |goal| self.settle(&goal, made).await)
            .await
    }

    async fn stream(&self) -> Result<Stream<Info>, Trouble> {
        let limit = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let streams = &self.streams;
        let wanted = Config {
            description: Some("goals for ai-factory, until it has recorded them".to_owned()),
            retention: RetentionPolicy::WorkQueue,
            // A goal that does not fit is refused to its publisher; none is thrown away for it.
            discard: DiscardPolicy::New,
            max_messages: limit(streams.goals_max),
            max_bytes: limit(streams.goals_bytes_max),
            duplicate_window: streams.duplicate_window,
            ..base(&streams.goals, &[(&self.subjects.goals()).into()], streams.replicas)
        };
        ensure(&context(&self.outside.client), wanted, "nats_goals_stream").await
    }

    /// Takes one goal in, and tells the server what became of it.
    async fn settle(&self, goal: &jetstream::Message, made: i128) -> Result<(), Trouble> {
        let mut headers = message::headers(goal.headers.as_ref());
        let key = headers.get(header::MESSAGE_ID).map(str::parse::<CommandId>);
        if !matches!(key, Some(Ok(_))) {
            let sequence = goal.info().map_err(server)?.stream_sequence;
            headers.set(header::MESSAGE_ID, format!("goals-{made}-{sequence}"));
        }
        let mut accepting = std::pin::pin!(self.accept(&headers, goal.payload.clone()));
        let mut progress = interval(PROGRESS_PERIOD);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress.tick().await;
        let accepted = loop {
            tokio::select! {
                accepted = &mut accepting => break accepted,
                _ = progress.tick() => goal.ack_with(AckKind::Progress).await.map_err(server)?,
            }
        };
        let kind = match accepted {
            Ok(_) => AckKind::Ack,
            Err(problem) if problem.is_transient() => {
                AckKind::Nak(Some(problem.retry_after.unwrap_or(RETRY_AFTER)))
            }
            // It is recorded as rejected: nothing would be gained by another try.
            Err(_) => AckKind::Term,
        };
        goal.ack_with(kind).await.map_err(server)
    }

    /// Hands a goal to the supervisor; answers once it is on disk, or recorded as rejected.
    async fn accept(&self, headers: &Headers, payload: Bytes) -> Result<Bytes, Problem> {
        let mut message =
            Message::new(self.subjects.operation(operation::SUPERVISOR_ACCEPT), payload);
        message.headers = headers.clone();
        client::ask(&*self.inside, message, ACCEPT_MAX).await
    }
}
