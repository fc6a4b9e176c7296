//! Publication with many messages in flight, in order.
//!
//! *Promises.* The stream always has an unbroken beginning of what was sent: a message sent while
//! others are in flight names its predecessor (`Nats-Expected-Last-Msg-Id`), and the stream refuses
//! it if that one did not arrive, for example because the connection broke. Acknowledgements are
//! reported in the order of positions.
//!
//! *Limits.* `WINDOW_MAX` messages, or slightly more than `WINDOW_BYTES_MAX` bytes, are in flight.
//! If others publish into the same stream in between, the window shrinks; after a refusal one
//! message is sent alone, until it is accepted.

use std::{collections::VecDeque, future::IntoFuture as _, pin::Pin};

use ai_factory_ports::bus::{Message, header};
use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
    publish::PublishAck,
    stream::{Config, DiscardPolicy},
};
use futures_util::FutureExt as _;

use super::context::ANSWER_MAX;
use crate::message;

/// Messages in flight, at most. A stream takes tens of thousands a second, and a round trip some
/// milliseconds.
const WINDOW_MAX: usize = 1_024;
/// Bytes in flight above which no further message is sent.
const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The header with the predecessor's message id.
const EXPECTED_LAST: &str = "Nats-Expected-Last-Msg-Id";

/// Why publication stopped. Messages not reported as arrived are in doubt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Another publisher interfered, or the connection changed: find the resume point and continue.
    #[error("another publisher or another connection interfered")]
    Restart,
    /// The stream refuses this event, and would refuse it again; it may accept others.
    #[error("the event at position {position} is refused: {reason}")]
    Refused {
        /// The event's position.
        position: u64,
        /// The reason.
        reason: String,
    },
    /// A failure that may be temporary.
    #[error("{0}")]
    Failed(String),
}

type AckFuture = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

struct InFlight {
    position: u64,
    /// Up to where nothing more has to be sent behind it.
    upto: u64,
    bytes: usize,
    /// Whether it names its predecessor, which makes it larger than necessary.
    is_named: bool,
    ack: AckFuture,
}

/// The limits of a single message, whatever else is in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of a message, payload and headers together, in bytes.
    message_bytes_max: Option<u64>,
    /// Of the whole stream, if it refuses new messages when full, in bytes.
    stream_bytes_max: Option<u64>,
}

impl Bounds {
    /// The limits in a stream's configuration.
    pub(super) fn of(config: &Config) -> Self {
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        let refuses_new = config.discard == DiscardPolicy::New;
        Self {
            message_bytes_max: limit(config.max_message_size.into()),
            stream_bytes_max: limit(config.max_bytes).filter(|_| refuses_new),
        }
    }

    /// Why the stream can never accept a message, if so.
    pub(super) fn refuse(self, message: &Message) -> Option<String> {
        let bytes = message.bytes() as u64;
        if let Some(max) = self.message_bytes_max.filter(|max| bytes > *max) {
            return Some(format!(
                "with its headers it has {bytes} bytes, and the stream takes messages of {max} (max_msg_size)"
            ));
        }
        let bytes = stored_bytes(message);
        self.stream_bytes_max.filter(|max| bytes > *max).map(|max| {
            format!("it takes {bytes} bytes, and the whole stream may have {max} (max_bytes)")
        })
    }
}

/// A message's size in a stream kept in files, in bytes: `fileStoreMsgSizeRaw` of nats-server.
fn stored_bytes(message: &Message) -> u64 {
    const RECORD_AND_LENGTH_OF_HEADERS: usize = 22 + 8 + 4;
    (RECORD_AND_LENGTH_OF_HEADERS + message.subject.as_str().len() + message.bytes()) as u64
}

/// The messages in flight to one stream.
pub(super) struct Pipeline {
    context: jetstream::Context,
    window: usize,
    in_flight: VecDeque<InFlight>,
    bytes: usize,
    last_id: String,
    /// Whether the stream accepted a message since the last call of [`Self::has_taken`].
    has_taken: bool,
    /// The last position that needed no message or has arrived, and is not reported yet.
    arrived: Option<u64>,
    broken: Option<StreamError>,
}

impl Pipeline {
    /// Starts with no message in flight.
    pub(super) fn new(context: jetstream::Context) -> Self {
        Self {
            context,
            window: WINDOW_MAX,
            in_flight: VecDeque::new(),
            bytes: 0,
            last_id: String::new(),
            has_taken: false,
            arrived: None,
            broken: None,
        }
    }

    /// Forgets the messages in flight: they are in doubt, and the resume point is determined again.
    pub(super) fn restart(&mut self, context: jetstream::Context) {
        *self = Self { window: self.window, has_taken: self.has_taken, ..Self::new(context) };
    }

    /// How many messages may be sent at the moment: slightly more than a large window, to avoid
    /// reading events one by one. None after a refusal: with nothing in flight to name, the next
    /// message would take the place of the refused one.
    pub(super) fn room(&self) -> usize {
        let free = self.window.saturating_sub(self.in_flight.len());
        let is_closed = self.broken.is_some() || self.bytes >= WINDOW_BYTES_MAX;
        if free == 0 || is_closed { 0 } else { free.max(self.window / 8) }
    }

    /// Whether the stream accepted a message since the last call.
    pub(super) fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.has_taken)
    }

    /// Sends a message, which must have an id, without waiting for the acknowledgement. One that
    /// the connection can never carry is a separate error.
    pub(super) async fn send(
        &mut self,
        position: u64,
        message: Message,
    ) -> Result<(), StreamError> {
        if self.broken.is_some() {
            return Err(StreamError::Restart);
        }
        let mut headers = message::to_nats(&message.headers);
        let is_named = !self.in_flight.is_empty();
        if is_named {
            headers.insert(EXPECTED_LAST, self.last_id.as_str());
        }
        let (bytes, with_headers) = (message.payload.len(), message.bytes());
        let subject = message.subject.as_str().to_owned();
        let sent = self.context.publish_with_headers(subject, headers, message.payload).await;
        let ack = sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded if is_named => self.send_alone(),
            PublishErrorKind::MaxPayloadExceeded => StreamError::Refused {
                position,
                reason: format!(
                    "with its headers it has {with_headers} bytes, more than the server takes (max_payload)"
                ),
            },
            _ => StreamError::Failed(said(&error)),
        })?;
        message.headers.get(header::MESSAGE_ID).unwrap_or_default().clone_into(&mut self.last_id);
        self.bytes += bytes;
        let ack = ack.into_future();
        let sent = InFlight { position, upto: position, bytes, is_named, ack };
        self.in_flight.push_back(sent);
        Ok(())
    }

    /// Next, one message is sent alone, without naming a predecessor.
    fn send_alone(&mut self) -> StreamError {
        self.window = 1;
        StreamError::Restart
    }

    /// Records that the next position needs no message.
    pub(super) fn skip(&mut self, position: u64) {
        match self.in_flight.back_mut() {
            Some(last) => last.upto = position,
            None => self.arrived = Some(position),
        }
    }

    /// Waits for further acknowledgements and returns the position up to which everything has
    /// arrived. Waits for ever if nothing is in flight. Cancel safe.
    pub(super) async fn arrived(&mut self) -> Result<u64, StreamError> {
        loop {
            if let Some(position) = self.arrived.take() {
                return Ok(position);
            }
            if let Some(broken) = self.broken.clone() {
                return Err(broken);
            }
            let Some(front) = self.in_flight.front_mut() else {
                return std::future::pending().await;
            };
            let mut next = Some(front.ack.as_mut().await);
            // And all other acknowledgements that are already here.
            while let Some(ack) = next {
                self.note(ack);
                next = match (&self.broken, self.in_flight.front_mut()) {
                    (None, Some(front)) => front.ack.as_mut().now_or_never(),
                    _ => None,
                };
            }
        }
    }

    fn note(&mut self, ack: Result<PublishAck, PublishError>) {
        let Some(front) = self.in_flight.pop_front() else { return };
        self.bytes -= front.bytes;
        match ack {
            Ok(ack) => {
                self.arrived = Some(front.upto);
                self.has_taken |= !ack.duplicate;
                self.window = (self.window + 1).min(WINDOW_MAX);
            }
            Err(error) => self.broken = Some(self.broken_by(&error, &front)),
        }
    }

    fn broken_by(&mut self, error: &PublishError, refused: &InFlight) -> StreamError {
        if error.kind() == PublishErrorKind::WrongLastMessageId {
            self.window = (self.window / 2).max(1);
            return StreamError::Restart;
        }
        // The connection was lost, or is about to be.
        if error.kind() == PublishErrorKind::BrokenPipe {
            return StreamError::Restart;
        }
        let this_one = |reason| StreamError::Refused { position: refused.position, reason };
        match refusal(error) {
            Some(refusal) if is_too_large(refusal) && refused.is_named => self.send_alone(),
            Some(refusal) if is_too_large(refusal) || is_about_its_subject(refusal) => {
                // The messages in flight after it are refused with it, and sent again.
                self.window = (self.window / 2).max(1);
                this_one(refusal.to_string())
            }
            _ => {
                self.window = 1;
                StreamError::Failed(said(error))
            }
        }
    }
}

/// The server's reason for not storing a message.
pub(super) fn refusal(error: &PublishError) -> Option<&jetstream::Error> {
    use std::error::Error as _;

    error.source().and_then(|source| source.downcast_ref())
}

pub(super) fn is_too_large(refusal: &jetstream::Error) -> bool {
    matches!(
        refusal.error_code(),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM
    )
}

/// Whether the stream is full for this subject alone (`discard_new_per_subject`). The error code is
/// the same as for a stream that is full altogether: only the text differs.
fn is_about_its_subject(refusal: &jetstream::Error) -> bool {
    refusal.error_code() == ErrorCode::STREAM_STORE_FAILED
        && refusal.to_string().contains("per subject")
}

/// Why a message was not stored, as text.
pub(super) fn said(error: &PublishError) -> String {
    match (error.kind(), refusal(error)) {
        (_, Some(refusal)) => format!("the stream refuses it: {refusal}"),
        (PublishErrorKind::StreamNotFound, _) => "no stream takes it".to_owned(),
        (PublishErrorKind::TimedOut, _) => {
            format!("the server did not acknowledge it within {} s", ANSWER_MAX.as_secs())
        }
        _ => error.to_string(),
    }
}
