//! Publication with many messages under way, in order.
//!
//! *Promises.* What a stream has of what was sent is always an unbroken beginning of it: a message that is sent while
//! others are under way names the one before it (`Nats-Expected-Last-Msg-Id`), and the stream refuses it when that one
//! did not arrive, for example in a connection that broke. What is acknowledged is told in the order of the positions.
//!
//! *Limits.* `WINDOW_MAX` messages, or somewhat more than `WINDOW_BYTES_MAX` bytes, are under way. Where others publish
//! into the same stream in between, the window shrinks.

use std::{collections::VecDeque, future::IntoFuture as _, pin::Pin};

use ai_factory_actors::ports::bus::{Message, header};
use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
    publish::PublishAck,
};
use futures_util::FutureExt as _;

use crate::bus::nats::message;

/// How many messages may be under way. A stream takes tens of thousands a second, and a round trip some milliseconds.
const WINDOW_MAX: usize = 1_024;
/// How many bytes may be under way before no more are sent.
const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The header by which a message names its predecessor.
const EXPECTED_LAST: &str = "Nats-Expected-Last-Msg-Id";

/// Why publication came to a halt. What had not been told as arrived is in doubt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Somebody else published in between, or the connection is another one: look again, and go on.
    #[error("another publisher, or another connection, came in between")]
    Anew,
    /// The stream refuses this one for its size.
    #[error("the event at position {0} is larger than the stream takes")]
    TooLarge(u64),
    /// It does not work at the moment.
    #[error("{0}")]
    Failed(String),
}

type Ack = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

struct UnderWay {
    position: u64,
    bytes: usize,
    ack: Ack,
}

/// The messages that are under way to one stream.
pub(super) struct Pipeline {
    context: jetstream::Context,
    window: usize,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    last_id: String,
    /// What needed no message, or has arrived, and was not told yet.
    arrived: Option<u64>,
    broken: Option<Broken>,
}

impl Pipeline {
    /// Nothing is under way.
    pub(super) fn new(context: jetstream::Context) -> Self {
        Self {
            context,
            window: WINDOW_MAX,
            under_way: VecDeque::new(),
            bytes: 0,
            last_id: String::new(),
            arrived: None,
            broken: None,
        }
    }

    /// Forgets what is under way: it is in doubt, and its place is looked for again.
    pub(super) fn restart(&mut self, context: jetstream::Context) {
        *self = Self { window: self.window, ..Self::new(context) };
    }

    /// Whether more may be sent now.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < self.window && self.bytes < WINDOW_BYTES_MAX
    }

    /// Sends a message, which must have an id, and does not wait for it to arrive. One that the connection can never
    /// carry is an error of its own.
    pub(super) async fn send(&mut self, position: u64, message: Message) -> Result<(), Broken> {
        let mut headers = message::to_nats(&message.headers);
        if !self.under_way.is_empty() {
            headers.insert(EXPECTED_LAST, self.last_id.as_str());
        }
        let bytes = message.payload.len();
        let subject = message.subject.as_str().to_owned();
        let sent = self.context.publish_with_headers(subject, headers, message.payload).await;
        let ack = sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Broken::TooLarge(position),
            _ => Broken::Failed(error.to_string()),
        })?;
        message.headers.get(header::MESSAGE_ID).unwrap_or_default().clone_into(&mut self.last_id);
        self.bytes += bytes;
        self.under_way.push_back(UnderWay { position, bytes, ack: ack.into_future() });
        Ok(())
    }

    /// Notes that the next position needs no message.
    pub(super) fn skip(&mut self, position: u64) {
        match self.under_way.back_mut() {
            Some(last) => last.position = position,
            None => self.arrived = Some(position),
        }
    }

    /// Waits until more has arrived, and tells up to which position everything has. Waits for ever where nothing is
    /// under way. May be dropped and called again.
    pub(super) async fn arrived(&mut self) -> Result<u64, Broken> {
        loop {
            if let Some(position) = self.arrived.take() {
                return Ok(position);
            }
            if let Some(broken) = self.broken.clone() {
                return Err(broken);
            }
            let Some(front) = self.under_way.front_mut() else {
                return std::future::pending().await;
            };
            let mut next = Some(front.ack.as_mut().await);
            // And everything else that is here already.
            while let Some(ack) = next {
                self.note(ack);
                next = match (&self.broken, self.under_way.front_mut()) {
                    (None, Some(front)) => front.ack.as_mut().now_or_never(),
                    _ => None,
                };
            }
        }
    }

    fn note(&mut self, ack: Result<PublishAck, PublishError>) {
        let Some(front) = self.under_way.pop_front() else { return };
        self.bytes -= front.bytes;
        match ack {
            Ok(_) => {
                self.arrived = Some(front.position);
                self.window = (self.window + 1).min(WINDOW_MAX);
            }
            Err(error) => self.broken = Some(self.broken_by(&error, front.position)),
        }
    }

    fn broken_by(&mut self, error: &PublishError, position: u64) -> Broken {
        use std::error::Error as _;

        if error.kind() == PublishErrorKind::WrongLastMessageId {
            self.window = (self.window / 2).max(1);
            return Broken::Anew;
        }
        let told = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
        match told.map(jetstream::Error::error_code) {
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => Broken::TooLarge(position),
            _ => Broken::Failed(error.to_string()),
        }
    }
}
