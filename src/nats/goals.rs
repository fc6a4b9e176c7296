//! The intake of goals that are published to a NATS server.
//!
//! *Promises.* If the server has JetStream, goals are a work queue: one published while the factory
//! is away waits for it, and is acknowledged only after the factory has recorded it, as a session
//! or as rejected. A redelivered goal takes effect once: its key is its `Nats-Msg-Id`, or else its
//! stream sequence. A goal that is refused for good, or was delivered too often, becomes a dead
//! letter before it leaves the queue; while its dead letter cannot be stored, other goals are still
//! accepted. A goal whose headers the client library cannot parse costs the connection once: it is
//! then read from the stream itself, and refused. Without JetStream a goal reaches the factories
//! that are listening, and a reply subject gets the reply.
//!
//! *Limits.* `GOALS_AT_ONCE` goals are in progress at once; more are not requested. What does not
//! fit into the stream is refused to its publisher. A goal for which there is no room is held, and
//! redelivered only if this factory ends or does not respond: only that counts as a delivery.
//!
//! *Not here.* The interpretation of a goal: that is the operation `supervisor.accept`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::{Bus, Headers, Message, header},
    ingress, request_reply, retry_after,
};
use ai_factory_retry::Retry;
use ai_factory_schemas::{
    id::CommandId,
    problem::Problem,
    session::Ingress,
    subject::{Subjects, operation},
};
use async_nats::jetstream::{
    self, AckKind,
    stream::{Config, DiscardPolicy, Info, RetentionPolicy, Stream},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    bus::NatsBus,
    held::{HELD_MAX, hold},
    message,
    metrics::GOALS,
    queue::{
        GoalConsumer, HeldGoal, PROGRESS_PERIOD, QueueConfig, exceeds_deliveries, log_dead_letter,
    },
    streams::{
        DeadLetterStore, Stored, StreamsSettings, Trouble, Undeliverable, base, context, ensure,
        server,
    },
};

/// Goals in progress at once.
const GOALS_AT_ONCE: usize = 64;
/// Goals queued without JetStream; beyond it goals are lost.
const GOALS_WAITING_MAX: usize = 4_096;
/// Timeout for the supervisor to record a goal.
const ACCEPT_MAX: Duration = Duration::from_mins(1);
/// The pause after the intake failed; it doubles with each further failure.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// An intake that lasted this long counts as working.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// An intake that lasted so long did work.
const STEADY: Duration = Duration::from_secs(30);
/// The queue group in which factories share goals without JetStream.
const QUEUE_GROUP: &str = "q";

/// The intake of published goals. Runs until its task is aborted.
pub struct GoalIntake {
    /// The bus on which goals are published.
    pub outside: Arc<NatsBus>,
    /// The bus of the supervisor.
    pub inside: Arc<dyn Bus>,
    /// The subjects.
    pub subjects: Subjects,
    /// The streams' settings.
    pub streams: StreamsSettings,
}

impl GoalIntake {
    /// Runs the intake.
    pub async fn run(self) {
        let mut connections = self.outside.connections();
        let mut retry =
            Retry::counting(PAUSE_FIRST, PAUSE_MAX, self.outside.metrics().retries(GOALS));
        loop {
            if connections.wait_for(|number| *number > 0).await.is_err() {
                return;
            }
            connections.mark_unchanged();
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.consume() => ended,
                // Another server may have JetStream where this one has none.
                changed = connections.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            if began.elapsed() > STEADY {
                retry.went_on();
            }
            let reason = match ended {
                Ok(()) => "the subscription ended".to_owned(),
                Err(trouble) => trouble.to_string(),
            };
            let failure = retry.failed(&reason);
            if failure.is_news {
                tracing::warn!(reason, "goals from NATS wait; trying again");
            }
            self.outside.note_waiting("goals", Some(&reason));
            sleep(failure.pause).await;
        }
    }

    async fn consume(&self) -> Result<(), Trouble> {
        if !self.outside.client.server_info().jetstream {
            return self.consume_without_jetstream().await;
        }
        match Box::pin(self.drain_queue()).await {
            Err(Trouble::NoJetStream) => self.consume_without_jetstream().await,
            ended => ended,
        }
    }

    /// The intake without JetStream.
    async fn consume_without_jetstream(&self) -> Result<(), Trouble> {
        let filter = (&self.subjects.goals()).into();
        let goals = self
            .outside
            .subscribe(filter, Some(QUEUE_GROUP), GOALS_WAITING_MAX)
            .await
            .map_err(server)?;
        self.outside.note_trouble("goals", None);
        tracing::info!(subject = %self.subjects.goals(), "accepting goals without JetStream");
        futures_util::stream::unfold(goals, async |mut goals| {
            goals.next().await.map(|goal| (goal, goals))
        })
        .for_each_concurrent(GOALS_AT_ONCE, |goal| self.answer(goal))
        .await;
        Ok(())
    }

    async fn answer(&self, goal: Message) {
        let headers = ingress::of_message(Ingress::Goals, &goal.headers);
        let Some(reply) = goal.reply else {
            let _ = self.accept_with_retry(&headers, &goal.payload).await;
            return;
        };
        // A caller that waits for a reply decides itself whether to retry.
        let accepted = self.accept(&headers, goal.payload.clone()).await;
        let mut message = Message::new(reply, Bytes::new());
        (message.headers, message.payload) = request_reply::write_answer(accepted);
        if let Err(error) = self.outside.publish(message).await {
            tracing::warn!(%error, "a reply could not be sent");
        }
    }

    /// The intake with JetStream. Ends only with an error.
    async fn drain_queue(&self) -> Result<(), Trouble> {
        let context = context(&self.outside.client);
        let stream = self.stream(&context).await?;
        let letters = DeadLetterStore::new(&context, &self.streams, &self.subjects);
        let consumer = GoalConsumer::ensure(&context, &stream, &self.streams).await?;
        let (held, refused) = mpsc::channel(HELD_MAX);
        let queue = QueueConfig {
            // Streams of the same name created at different times each count their messages from 1.
            made: stream.cached_info().created.unix_timestamp_nanos(),
            letters: &letters,
            held: &held,
            deliveries_max: consumer.deliveries_max(),
        };
        let ended = tokio::select! {
            ended = self.deliver(&consumer, &queue) => ended?,
            ended = hold(refused, &self.outside, &consumer, &queue) => ended?,
        };
        match ended {}
    }

    /// Accepts the goals that the consumer delivers.
    async fn deliver(
        &self,
        consumer: &GoalConsumer,
        queue: &QueueConfig<'_>,
    ) -> Result<Infallible, Trouble> {
        self.ensure_dead_letters(queue).await;
        // First, because delivery of an unreadable goal would cost the connection.
        self.retry_stuck(consumer, queue).await?;
        self.outside.note_waiting("goals", None);
        tracing::info!(stream = self.streams.goals, "accepting goals from JetStream");
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() >= GOALS_AT_ONCE {
                under_way.try_next().await?;
            }
            // Requests only as many goals as there is room for: one that waited here would be
            // redelivered.
            let free = GOALS_AT_ONCE - under_way.len();
            let mut goals = consumer.goals(free).await?;
            let mut came = 0;
            loop {
                tokio::select! {
                    goal = goals.try_next() => match goal.map_err(server)? {
                        None => break,
                        Some(goal) => {
                            came += 1;
                            under_way.push(self.settle(goal, queue));
                        }
                    },
                    Some(settled) = under_way.next(), if !under_way.is_empty() => settled?,
                }
            }
            if came == 0 && under_way.is_empty() {
                self.ensure_dead_letters(queue).await;
                self.retry_stuck(consumer, queue).await?;
            }
        }
    }

    /// Creates the dead letter stream if it does not exist; an unusable one is reported, since
    /// goals need it only after a refusal.
    async fn ensure_dead_letters(&self, queue: &QueueConfig<'_>) {
        let unfit = queue.letters.opened().await.err().map(|trouble| trouble.to_string());
        self.outside.note_waiting("dead letters of refused goals", unfit.as_deref());
    }

    /// Refuses goals that cannot be delivered, and turns those that are no longer delivered into
    /// dead letters.
    async fn retry_stuck(
        &self,
        consumer: &GoalConsumer,
        queue: &QueueConfig<'_>,
    ) -> Result<(), Trouble> {
        for goal in consumer.unreadable().await? {
            self.refuse(&goal, consumer, queue).await?;
        }
        for sequence in consumer.exhausted().await? {
            let Some(goal) = consumer.stored(sequence).await? else { continue };
            if goal.unreadable.is_some() {
                self.refuse(&goal, consumer, queue).await?;
                continue;
            }
            let reason = exceeds_deliveries(queue.deliveries_max);
            let letter = goal.undeliverable(queue.id(sequence), reason);
            if let Err(error) = queue.letters.store(&letter).await {
                let (letter, refused) = (without_payload(letter), error.to_string());
                let goal = HeldGoal { sequence, letter, is_in_queue: true, handle: None, refused };
                queue.hold(goal).await;
                break;
            }
            log_dead_letter(&letter);
            consumer.remove(sequence).await?;
        }
        Ok(())
    }

    /// Refuses a goal whose headers cannot be parsed, and removes it from the queue.
    async fn refuse(
        &self,
        goal: &Stored,
        consumer: &GoalConsumer,
        queue: &QueueConfig<'_>,
    ) -> Result<(), Trouble> {
        let Some(unreadable) = &goal.unreadable else { return Ok(()) };
        let reason = format!("the headers of this message cannot be read: {}", unreadable.fault);
        let mut headers = keyed(&goal.headers, || queue.id(goal.sequence));
        headers.set(header::FAULT, &reason);
        let refused = match self.accept_with_retry(&headers, &goal.payload).await {
            Ok(_) => reason,
            Err(problem) => problem.sentence(),
        };
        let letter = goal.undeliverable(queue.id(goal.sequence), refused);
        match queue.letters.store(&letter).await {
            Ok(()) => log_dead_letter(&letter),
            // It cannot stay in the queue: it would cost the next connection.
            Err(error) => {
                let (sequence, refused) = (goal.sequence, error.to_string());
                let goal = HeldGoal { sequence, letter, is_in_queue: false, handle: None, refused };
                queue.hold(goal).await;
            }
        }
        consumer.remove(goal.sequence).await
    }

    async fn stream(&self, context: &jetstream::Context) -> Result<Stream<Info>, Trouble> {
        let limit = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let streams = &self.streams;
        let wanted = Config {
            description: Some("goals for ai-factory, until it has recorded them".to_owned()),
            retention: RetentionPolicy::WorkQueue,
            // A goal that does not fit is refused to its publisher; no other is discarded for it.
            discard: DiscardPolicy::New,
            max_messages: limit(streams.goals_max),
            max_bytes: limit(streams.goals_bytes_max),
            duplicate_window: streams.duplicate_window,
            ..base(&streams.goals, &[(&self.subjects.goals()).into()], streams.replicas)
        };
        ensure(context, wanted, "nats_goals_stream").await
    }

    /// Accepts one goal and acknowledges the outcome.
    async fn settle(
        &self,
        goal: jetstream::Message,
        queue: &QueueConfig<'_>,
    ) -> Result<(), Trouble> {
        let info = goal.info().map_err(server)?;
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        let original = message::headers(goal.headers.as_ref());
        let undeliverable = |reason| Undeliverable {
            id: queue.id(sequence),
            reason,
            session: None,
            headers: original.clone(),
            unreadable: None,
            payload: goal.payload.clone(),
        };
        if delivered > queue.deliveries_max {
            let reason = exceeds_deliveries(queue.deliveries_max);
            let letter = undeliverable(reason);
            return give_up(goal, sequence, letter, queue).await;
        }
        let headers = keyed(&original, || queue.id(sequence));
        let payload = goal.payload.clone();
        let mut accepting = std::pin::pin!(self.accept_with_retry(&headers, &payload));
        let mut progress = interval_at(Instant::now() + PROGRESS_PERIOD, PROGRESS_PERIOD);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let accepted = loop {
            tokio::select! {
                accepted = &mut accepting => break accepted,
                _ = progress.tick() => goal.ack_with(AckKind::Progress).await.map_err(server)?,
            }
        };
        match accepted {
            Ok(_) => goal.ack_with(AckKind::Ack).await.map_err(server),
            // A retry would not help.
            Err(problem) => {
                let letter = undeliverable(problem.sentence());
                give_up(goal, sequence, letter, queue).await
            }
        }
    }

    /// Sends a goal to the supervisor until it has room for it.
    async fn accept_with_retry(
        &self,
        headers: &Headers,
        payload: &Bytes,
    ) -> Result<Bytes, Problem> {
        loop {
            match self.accept(headers, payload.clone()).await {
                Err(problem) if problem.is_transient() => {
                    sleep(problem.retry_after.unwrap_or(retry_after::SESSION)).await;
                }
                accepted => return accepted,
            }
        }
    }

    /// Sends a goal to the supervisor; returns once it is on disk, or recorded as rejected.
    async fn accept(&self, headers: &Headers, payload: Bytes) -> Result<Bytes, Problem> {
        let mut message =
            Message::new(self.subjects.operation(operation::SUPERVISOR_ACCEPT), payload);
        message.headers = headers.clone();
        request_reply::ask(&*self.inside, message, ACCEPT_MAX).await
    }
}

/// The headers of a goal on the local bus, with a valid key: the goal's own, otherwise that of
/// `else_`.
fn keyed(sent: &Headers, else_: impl FnOnce() -> String) -> Headers {
    let mut keyed = ingress::of_message(Ingress::Goals, sent);
    let key = keyed.get(header::MESSAGE_ID).map(str::parse::<CommandId>);
    if !matches!(key, Some(Ok(_))) {
        keyed.set(header::MESSAGE_ID, else_());
    }
    keyed
}

/// Stores a goal as a dead letter and stops its redelivery; holds it if the letter cannot be
/// stored.
async fn give_up(
    mut goal: jetstream::Message,
    sequence: u64,
    letter: Undeliverable,
    queue: &QueueConfig<'_>,
) -> Result<(), Trouble> {
    let Err(error) = queue.letters.store(&letter).await else {
        log_dead_letter(&letter);
        return goal.ack_with(AckKind::Term).await.map_err(server);
    };
    goal.message.payload = Bytes::new();
    let (letter, refused) = (without_payload(letter), error.to_string());
    let goal = HeldGoal { sequence, letter, is_in_queue: true, handle: Some(goal), refused };
    queue.hold(goal).await;
    Ok(())
}

/// A letter whose goal is still in the queue.
fn without_payload(letter: Undeliverable) -> Undeliverable {
    Undeliverable { payload: Bytes::new(), ..letter }
}
