//! The bus: how actors, and everybody else, reach each other.
//!
//! An implementation promises, as core NATS does:
//! - a message reaches every matching subscription, and one member of each matching queue group;
//! - messages of one publisher arrive in order;
//! - a request on a subject nobody listens to fails at once with [`RequestError::NoResponders`];
//! - every queue is bounded, in messages and [in bytes](super::queue::QUEUE_BYTES_MAX): a subscriber that does not keep up loses
//!   messages, and can see how many;
//! - a publisher never waits for a subscriber.

use std::{collections::BTreeMap, time::Duration};

use ai_factory_schemas::subject::{Subject, SubjectFilter};
use bytes::Bytes;

use super::queue::Waiting;

/// What spans call the bus (`messaging.system` of OpenTelemetry): every implementation does as NATS does.
pub const MESSAGING_SYSTEM: &str = "nats";

/// Names of the headers that we use.
pub mod header {
    /// The id under which a message or command takes effect at most once.
    pub const MESSAGE_ID: &str = "Nats-Msg-Id";
    /// The status of a refused request (NATS ADR-32).
    pub const ERROR_CODE: &str = "Nats-Service-Error-Code";
    /// The sentence of a refused request (NATS ADR-32).
    pub const ERROR: &str = "Nats-Service-Error";
    /// When to try again, in seconds, possibly with decimals.
    pub const RETRY_AFTER: &str = "Retry-After";
    /// The caller's name for the request.
    pub const REQUEST_ID: &str = "X-Request-ID";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
    /// Through which door a request came in; set by the door itself, whatever came with the request.
    pub const DOOR: &str = "Factory-Door";
    /// Who submits a goal, as they say themselves.
    pub const SUBMITTER: &str = "Factory-Submitter";
    /// Whose key signed the goal: set by the agent, which looks at signatures, and believed of no other door.
    pub const PROVEN: &str = "Factory-Proven";
    /// Why a request is refused whatever it says: set by the ingress where it could not read what came.
    pub const FAULT: &str = "Factory-Fault";
    /// What the message belongs to: a session.
    pub const CORRELATION: &str = "Factory-Correlation-Id";
    /// The event or message that caused it.
    pub const CAUSATION: &str = "Factory-Causation-Id";
    /// An event's position in its journal.
    pub const POSITION: &str = "Factory-Position";
    /// The journal of an event: the id of the first event in it.
    pub const JOURNAL: &str = "Factory-Journal";
}

/// Header names (case-sensitive) and their values. One value a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a header, in place of an earlier value. Line breaks in the value become spaces: a header is one line.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let value: String = value.into();
        let value =
            if value.contains(['\r', '\n']) { value.replace(['\r', '\n'], " ") } else { value };
        self.0.insert(name.into(), value);
    }

    /// All headers by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they take on the wire of NATS (ADR-4), in bytes.
    fn bytes(&self) -> usize {
        const VERSION_LINE_AND_END: usize = "NATS/1.0\r\n\r\n".len();
        if self.is_empty() {
            return 0;
        }
        let lines = self.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len());
        VERSION_LINE_AND_END + lines.sum::<usize>()
    }
}

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub subject: Subject,
    /// Where an answer is expected.
    pub reply: Option<Subject>,
    /// Beside the payload.
    pub headers: Headers,
    /// What is said.
    pub payload: Bytes,
}

impl Message {
    /// A message without headers that expects no answer.
    pub fn new(subject: Subject, payload: impl Into<Bytes>) -> Self {
        Self { subject, reply: None, headers: Headers::default(), payload: payload.into() }
    }

    /// Payload and headers together, in bytes, as NATS counts them: every bus refuses the same messages as too large.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.headers.bytes()
    }
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Larger than the bus carries.
    #[error("a message of {bytes} bytes is too large for the bus: at most {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most the bus carries.
        bytes_max: usize,
    },
    /// The bus is closed.
    #[error("the bus is closed")]
    Closed,
    /// The connection failed.
    #[error("the bus failed: {0}")]
    Broken(String),
}

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens.
    #[error("nobody answers on `{0}`")]
    NoResponders(Subject),
    /// Nobody answered in time.
    #[error("no answer on `{subject}` within {} ms", after.as_millis())]
    TimedOut {
        /// Where.
        subject: Subject,
        /// The time allowed.
        after: Duration,
    },
    /// It was not sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The bus is closed.
    #[error("the bus is closed")]
    Closed,
    /// The connection failed.
    #[error("the bus failed: {0}")]
    Broken(String),
}

/// Members of one queue group share the messages among them.
pub type QueueGroup = &'static str;

/// The receiving end of a subscription; dropping it unsubscribes.
pub struct Subscription {
    messages: Waiting,
    guard: Option<Box<dyn Guard>>,
}

/// What a subscription is kept alive by: dropped, it unsubscribes.
pub trait Guard: Send + Sync {
    /// Asks for no more messages; those that were sent before still arrive, and then the subscription ends. Where nothing
    /// is on its way between sender and subscriber, dropping the guard does that.
    fn drain(self: Box<Self>);
}

impl Subscription {
    /// Made by an implementation, with the end of [a queue](super::queue::bounded); `guard` unsubscribes when dropped.
    pub fn new(messages: Waiting, guard: impl Guard + 'static) -> Self {
        Self { messages, guard: Some(Box::new(guard)) }
    }

    /// Asks for no more messages. Those that were published before still arrive; then [`Self::next`] is `None`.
    pub fn drain(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.drain();
        }
    }

    /// The next message; `None` once the bus is closed, or the subscription drained, and all is read.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.next().await
    }

    /// A message that has already arrived.
    pub fn try_next(&mut self) -> Option<Message> {
        self.messages.try_next()
    }

    /// How many messages were lost because this subscriber did not keep up.
    pub fn lost(&self) -> u64 {
        self.messages.lost()
    }
}

/// How actors, and everybody else, reach each other. See the module for what an implementation promises.
#[async_trait::async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends a message to whoever listens.
    async fn publish(&self, message: Message) -> Result<(), PublishError>;

    /// Sends messages in their order, and answers when the bus has them all: once this is `Ok`, none was lost on
    /// the way there. After an error some may have arrived; who must not lose any sends them all again.
    async fn publish_all(&self, messages: Vec<Message>) -> Result<(), PublishError>;

    /// Sends a message and waits for the first answer. `reply` is chosen by the bus.
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, RequestError>;

    /// Listens; with a queue group, shares the messages with the group's other members.
    /// At most `capacity` messages wait, of [`QUEUE_BYTES_MAX`](super::queue::QUEUE_BYTES_MAX) together.
    async fn subscribe(
        &self,
        filter: SubjectFilter,
        queue: Option<QueueGroup>,
        capacity: usize,
    ) -> Result<Subscription, SubscribeError>;
}
