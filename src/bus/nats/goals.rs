//! The intake of goals that are published to a NATS server, and not asked for.
//!
//! *Promises.* Where the server has JetStream, goals are a work queue: one that is published while the factory is away
//! waits for it, and is acknowledged only after the factory has recorded it, as a session or as rejected. A goal that
//! comes again takes effect once: its key is its `Nats-Msg-Id`, or its place in the stream where it has none. Without
//! JetStream a goal reaches who listens at the moment, and a reply subject gets the answer.
//!
//! *Limits.* `GOALS_AT_ONCE` goals are being taken in at once. A stream that is made here holds `STREAM_GOALS_MAX`
//! goals and `STREAM_BYTES_MAX` bytes; what does not fit is refused to its publisher.
//!
//! *Not here.* What a goal is: that is decided by the operation `supervisor.accept`.

use std::{fmt, sync::Arc, time::Duration};

use ai_factory_actors::{
    client,
    ports::bus::{Bus, Headers, Message, header},
};
use ai_factory_schemas::{
    id::CommandId,
    problem::Problem,
    session::Door,
    subject::{Subjects, operation},
};
use async_nats::jetstream::{
    self, AckKind, ErrorCode,
    consumer::{AckPolicy, PullConsumer, pull},
    context::GetStreamErrorKind,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{NatsBus, message};

/// How many goals are being taken in at once.
const GOALS_AT_ONCE: usize = 64;
/// How many goals wait without JetStream before some are lost.
const GOALS_WAITING_MAX: usize = 4_096;
/// How many goals a stream holds that is made here.
const STREAM_GOALS_MAX: i64 = 1_000_000;
/// How much a stream holds that is made here, in bytes.
const STREAM_BYTES_MAX: i64 = 1024 * 1024 * 1024;
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
}

/// Why goals are not taken in at the moment.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// This account has no JetStream.
    #[error("the account has no JetStream")]
    NoJetStream,
    /// The stream is there, and is another one.
    #[error(
        "the stream {name} exists and is not fit for goals: {difference}; rename or remove it, or set another `prefix`"
    )]
    Unfit { name: String, difference: String },
    /// The server, or the way to it.
    #[error("{0}")]
    Server(String),
}

fn server(error: impl fmt::Display) -> Trouble {
    Trouble::Server(error.to_string())
}

/// The name of the stream that holds the goals under a prefix: `FACTORY_GOALS`.
fn stream_name(subjects: &Subjects) -> String {
    subjects.goals().as_str().replace('.', "_").to_uppercase()
}

/// What of an existing stream does not fit.
fn difference(config: &stream::Config, goals: &str) -> Option<String> {
    if config.retention != RetentionPolicy::WorkQueue {
        return Some(format!("its retention is {:?}, not work queue", config.retention));
    }
    if !config.subjects.iter().any(|subject| subject == goals) {
        return Some(format!("its subjects are {}, not {goals}", config.subjects.join(", ")));
    }
    None
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
        let name = stream_name(&self.subjects).to_lowercase().replace('_', "-");
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
        tracing::info!(stream = stream_name(&self.subjects), "taking goals in from JetStream");
        goals
            .map_err(server)
            .try_for_each_concurrent(GOALS_AT_ONCE, async |goal| self.settle(&goal, made).await)
            .await
    }

    async fn stream(&self) -> Result<stream::Stream, Trouble> {
        let context = jetstream::new(self.outside.client.clone());
        let (name, goals) = (stream_name(&self.subjects), self.subjects.goals().to_string());
        let missing = match context.get_stream(&name).await {
            Ok(stream) => {
                return match difference(&stream.cached_info().config, &goals) {
                    None => Ok(stream),
                    Some(difference) => Err(Trouble::Unfit { name, difference }),
                };
            }
            Err(error) => error,
        };
        match missing.kind() {
            GetStreamErrorKind::JetStream(error) => match error.error_code() {
                ErrorCode::STREAM_NOT_FOUND => {}
                ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                    return Err(Trouble::NoJetStream);
                }
                _ => return Err(server(missing)),
            },
            _ => return Err(server(missing)),
        }
        let config = stream::Config {
            name,
            description: Some("goals for ai-factory, until it has recorded them".to_owned()),
            subjects: vec![goals],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            // A goal that does not fit is refused to its publisher; none is thrown away for it.
            discard: DiscardPolicy::New,
            max_messages: STREAM_GOALS_MAX,
            max_bytes: STREAM_BYTES_MAX,
            ..stream::Config::default()
        };
        context.create_stream(config).await.map_err(server)?;
        context.get_stream(stream_name(&self.subjects)).await.map_err(server)
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
        message.headers.set(header::DOOR, Door::Goals.as_str());
        client::ask(&*self.inside, message, ACCEPT_MAX).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_after_the_prefix() {
        assert_eq!(stream_name(&Subjects::default()), "FACTORY_GOALS");
        let team = Subjects::new("team-1.factory".parse().unwrap());
        assert_eq!(stream_name(&team), "TEAM-1_FACTORY_GOALS");
    }

    #[test]
    fn a_stream_that_does_not_fit_is_told_by_its_difference() {
        let fit = stream::Config {
            subjects: vec!["factory.goals".into()],
            retention: RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        };
        assert_eq!(difference(&fit, "factory.goals"), None);
        let other = stream::Config { subjects: vec!["other".into()], ..fit.clone() };
        assert!(difference(&other, "factory.goals").unwrap().contains("other"));
        let kept = stream::Config { retention: RetentionPolicy::Limits, ..fit };
        assert!(difference(&kept, "factory.goals").unwrap().contains("retention"));
    }
}
