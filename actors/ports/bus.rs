//! The bus: requests, answers and published messages between actors and clients.
//!
//! An implementation promises, as core NATS does:
//! - a message reaches every matching subscription, and one member of each matching queue group;
//! - messages of one publisher arrive in order;
//! - a request on a subject without subscribers fails at once with [`RequestError::NoResponders`];
//! - every queue is bounded, in messages and [in bytes](super::queue::QUEUE_BYTES_MAX): a slow
//!   subscriber loses messages, and can see how many;
//! - a publisher never waits for a subscriber.

use std::time::Duration;

use ai_factory_schemas::subject::{Subject, SubjectFilter};

pub use super::message::{Headers, Message};
use super::queue::QueueReceiver;

/// The bus in spans (`messaging.system` of OpenTelemetry): every implementation behaves as NATS.
pub const MESSAGING_SYSTEM: &str = "nats";

/// Names of the headers in use.
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
    /// The ingress of a request; set by the ingress itself, replacing what the sender wrote.
    pub const INGRESS: &str = "Factory-Ingress";
    /// The submitter of a goal, as the sender claims.
    pub const SUBMITTER: &str = "Factory-Submitter";
    /// The signer of a goal: set by the agent protocol, which verifies signatures; ignored from any
    /// other ingress.
    pub const PROVEN: &str = "Factory-Proven";
    /// Reason for refusing a request whatever its body: set by the ingress if it could not read the
    /// message.
    pub const FAULT: &str = "Factory-Fault";
    /// The session that the message belongs to: set by a session, dropped from outside.
    pub const CORRELATION: &str = "Factory-Correlation-Id";
    /// The event or message that caused this one: set by a session, dropped from outside.
    pub const CAUSATION: &str = "Factory-Causation-Id";
    /// The form of a run's answer: [`RECORDED`] for its end as recorded, large outputs as head and
    /// hash. Set by a session.
    pub const OUTPUTS: &str = "Factory-Outputs";
    /// The value of [`OUTPUTS`].
    pub const RECORDED: &str = "recorded";
    /// How long the caller waits for an answer, in milliseconds: a session with a model is answered
    /// as it is by then. Set by the ingress.
    pub const ANSWER_WITHIN: &str = "Factory-Answer-Within";
    /// Present if the caller may raise a budget: a peer on this machine, or one with the token. Set
    /// by the HTTP bridge.
    pub const TRUSTED: &str = "Factory-Trusted";
    /// An event's position in its journal.
    pub const POSITION: &str = "Factory-Position";
    /// The journal of an event: the id of the first event in it.
    pub const JOURNAL: &str = "Factory-Journal";
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The message is larger than the bus allows.
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
    /// There is no subscriber.
    #[error("nobody answers on `{0}`")]
    NoResponders(Subject),
    /// No answer arrived in time.
    #[error("no answer on `{subject}` within {} ms", after.as_millis())]
    TimedOut {
        /// The subject.
        subject: Subject,
        /// The timeout.
        after: Duration,
    },
    /// The request was not sent.
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

/// The members of one queue group share messages between them.
pub type QueueGroup = &'static str;

/// The receiving end of a subscription; dropping it unsubscribes.
pub struct Subscription {
    messages: QueueReceiver,
    guard: Option<Box<dyn SubscriptionGuard>>,
}

/// Keeps a subscription alive; dropping it unsubscribes.
pub trait SubscriptionGuard: Send + Sync {
    /// Requests no more messages; those already sent still arrive, and then the subscription ends.
    /// If nothing is in flight between sender and subscriber, dropping the guard does that.
    fn drain(self: Box<Self>);
}

impl Subscription {
    /// Made by an implementation from the reading end of [a queue](super::queue::bounded); `guard`
    /// unsubscribes when dropped.
    pub fn new(messages: QueueReceiver, guard: impl SubscriptionGuard + 'static) -> Self {
        Self { messages, guard: Some(Box::new(guard)) }
    }

    /// Requests no more messages. Those already published still arrive; then [`Self::next`] is
    /// `None`.
    pub fn drain(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.drain();
        }
    }

    /// The next message; `None` after the bus was closed, or the subscription drained, and all is
    /// read.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.next().await
    }

    /// A message that has already arrived, if there is one.
    pub fn try_next(&mut self) -> Option<Message> {
        self.messages.try_next()
    }

    /// Messages lost because this subscriber was too slow.
    pub fn lost(&self) -> u64 {
        self.messages.lost()
    }
}

/// Requests, answers and published messages. The module's documentation has the promises of an
/// implementation.
#[async_trait::async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends a message to all subscribers.
    async fn publish(&self, message: Message) -> Result<(), PublishError>;

    /// Sends messages in order and returns when the bus has them all: after `Ok` none was lost on
    /// the way to the bus. After an error some may have arrived; to lose none, send them all again.
    async fn publish_all(&self, messages: Vec<Message>) -> Result<(), PublishError>;

    /// Sends a message and waits for the first answer. The bus chooses `reply`.
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, RequestError>;

    /// Subscribes; with a queue group, messages are shared with its other members. At most
    /// `capacity` messages wait, of [`QUEUE_BYTES_MAX`](super::queue::QUEUE_BYTES_MAX) together.
    async fn subscribe(
        &self,
        filter: SubjectFilter,
        queue: Option<QueueGroup>,
        capacity: usize,
    ) -> Result<Subscription, SubscribeError>;
}
