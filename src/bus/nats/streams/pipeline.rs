//! Publication with many messages under way, in order.
//!
//! *Promises.* What a stream has of what was sent is always an unbroken beginning of it: a message that is sent while
//! others are under way names the one before it (`Nats-Expected-Last-Msg-Id`), and the stream refuses it when that one
//! did not arrive, for example in a connection that broke. What is acknowledged is told in the order of the positions.
//!
//! *Limits.* `WINDOW_MAX` messages, or somewhat more than `WINDOW_BYTES_MAX` bytes, are under way. Where others publish
//! into the same stream in between, the window shrinks; after a refusal one message alone is sent, until it is taken.

use std::{collections::VecDeque, future::IntoFuture as _, pin::Pin};

use ai_factory_actors::ports::bus::{Message, header};
use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
    publish::PublishAck,
    stream::{Config, DiscardPolicy},
};
use futures_util::FutureExt as _;

use super::ANSWER_MAX;
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
    /// The stream refuses this one, and will go on to: others it may take.
    #[error("the event at position {position} is refused: {reason}")]
    Refused {
        /// Which.
        position: u64,
        /// Why.
        reason: String,
    },
    /// It does not work at the moment.
    #[error("{0}")]
    Failed(String),
}

type Ack = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

struct UnderWay {
    position: u64,
    /// Up to where nothing more has to be sent behind it.
    upto: u64,
    bytes: usize,
    /// Whether it names its predecessor, which makes it longer than it has to be.
    is_named: bool,
    ack: Ack,
}

/// What a message may be at most, whatever else is in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of a message, payload and headers together, in bytes.
    message_bytes_max: Option<u64>,
    /// Of all that a stream holds which refuses what is new, in bytes.
    stream_bytes_max: Option<u64>,
}

impl Bounds {
    /// Those of a stream.
    pub(super) fn of(config: &Config) -> Self {
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        let refuses_new = config.discard == DiscardPolicy::New;
        Self {
            message_bytes_max: limit(config.max_message_size.into()),
            stream_bytes_max: limit(config.max_bytes).filter(|_| refuses_new),
        }
    }

    /// Why a message can never be in the stream, where that is so.
    pub(super) fn refuse(self, message: &Message) -> Option<String> {
        let bytes = message.bytes() as u64;
        if let Some(max) = self.message_bytes_max.filter(|max| bytes > *max) {
            return Some(format!(
                "with its headers it has {bytes} bytes, and the stream takes messages of {max} (max_msg_size)"
            ));
        }
        let bytes = stored_bytes(message);
        self.stream_bytes_max.filter(|max| bytes > *max).map(|max| {
            format!("it takes {bytes} bytes, and all of the stream may have {max} (max_bytes)")
        })
    }
}

/// What a message takes in a stream that is kept in files, in bytes: `fileStoreMsgSizeRaw` of nats-server.
fn stored_bytes(message: &Message) -> u64 {
    const RECORD_AND_LENGTH_OF_HEADERS: usize = 22 + 8 + 4;
    (RECORD_AND_LENGTH_OF_HEADERS + message.subject.as_str().len() + message.bytes()) as u64
}

/// The messages that are under way to one stream.
pub(super) struct Pipeline {
    context: jetstream::Context,
    window: usize,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    last_id: String,
    /// Whether the stream has taken something since that was last asked.
    has_taken: bool,
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
            has_taken: false,
            arrived: None,
            broken: None,
        }
    }

    /// Forgets what is under way: it is in doubt, and its place is looked for again.
    pub(super) fn restart(&mut self, context: jetstream::Context) {
        *self = Self { window: self.window, has_taken: self.has_taken, ..Self::new(context) };
    }

    /// How many messages may be sent now: somewhat more than the window where that is large, so that little is not read
    /// one by one. None once one was refused: the next could have nothing under way to name, and be taken in its place.
    pub(super) fn room(&self) -> usize {
        let free = self.window.saturating_sub(self.under_way.len());
        let is_closed = self.broken.is_some() || self.bytes >= WINDOW_BYTES_MAX;
        if free == 0 || is_closed { 0 } else { free.max(self.window / 8) }
    }

    /// Whether the stream has taken something since this was last asked.
    pub(super) fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.has_taken)
    }

    /// Sends a message, which must have an id, and does not wait for it to arrive. One that the connection can never
    /// carry is an error of its own.
    pub(super) async fn send(&mut self, position: u64, message: Message) -> Result<(), Broken> {
        if self.broken.is_some() {
            return Err(Broken::Anew);
        }
        let mut headers = message::to_nats(&message.headers);
        let is_named = !self.under_way.is_empty();
        if is_named {
            headers.insert(EXPECTED_LAST, self.last_id.as_str());
        }
        let (bytes, with_headers) = (message.payload.len(), message.bytes());
        let subject = message.subject.as_str().to_owned();
        let sent = self.context.publish_with_headers(subject, headers, message.payload).await;
        let ack = sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded if is_named => self.send_alone(),
            PublishErrorKind::MaxPayloadExceeded => Broken::Refused {
                position,
                reason: format!(
                    "with its headers it has {with_headers} bytes, more than the server takes (max_payload)"
                ),
            },
            _ => Broken::Failed(said(&error)),
        })?;
        message.headers.get(header::MESSAGE_ID).unwrap_or_default().clone_into(&mut self.last_id);
        self.bytes += bytes;
        let ack = ack.into_future();
        let sent = UnderWay { position, upto: position, bytes, is_named, ack };
        self.under_way.push_back(sent);
        Ok(())
    }

    /// One message alone, which names no predecessor, is next.
    fn send_alone(&mut self) -> Broken {
        self.window = 1;
        Broken::Anew
    }

    /// Notes that the next position needs no message.
    pub(super) fn skip(&mut self, position: u64) {
        match self.under_way.back_mut() {
            Some(last) => last.upto = position,
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
            Ok(ack) => {
                self.arrived = Some(front.upto);
                self.has_taken |= !ack.duplicate;
                self.window = (self.window + 1).min(WINDOW_MAX);
            }
            Err(error) => self.broken = Some(self.broken_by(&error, &front)),
        }
    }

    fn broken_by(&mut self, error: &PublishError, refused: &UnderWay) -> Broken {
        if error.kind() == PublishErrorKind::WrongLastMessageId {
            self.window = (self.window / 2).max(1);
            return Broken::Anew;
        }
        // The connection was lost, or is about to be.
        if error.kind() == PublishErrorKind::BrokenPipe {
            return Broken::Anew;
        }
        let this_one = |reason| Broken::Refused { position: refused.position, reason };
        match told(error) {
            Some(told) if is_too_large(told) && refused.is_named => self.send_alone(),
            Some(told) if is_too_large(told) || is_about_its_subject(told) => {
                // What is under way behind it is refused with it, and sent again.
                self.window = (self.window / 2).max(1);
                this_one(told.to_string())
            }
            _ => {
                self.window = 1;
                Broken::Failed(said(error))
            }
        }
    }
}

/// What a server says of a message that it does not put into a stream.
pub(super) fn told(error: &PublishError) -> Option<&jetstream::Error> {
    use std::error::Error as _;

    error.source().and_then(|source| source.downcast_ref())
}

pub(super) fn is_too_large(told: &jetstream::Error) -> bool {
    matches!(
        told.error_code(),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM
    )
}

/// Whether the stream is full for this subject alone (`discard_new_per_subject`). The code is the same as that of a stream
/// which is full as a whole: only the sentence differs.
fn is_about_its_subject(told: &jetstream::Error) -> bool {
    told.error_code() == ErrorCode::STREAM_STORE_FAILED && told.to_string().contains("per subject")
}

/// Why a message was not put into a stream, for people.
pub(super) fn said(error: &PublishError) -> String {
    match (error.kind(), told(error)) {
        (_, Some(told)) => format!("the stream refuses it: {told}"),
        (PublishErrorKind::StreamNotFound, _) => "no stream takes it".to_owned(),
        (PublishErrorKind::TimedOut, _) => {
            format!("the server did not acknowledge it within {} s", ANSWER_MAX.as_secs())
        }
        _ => error.to_string(),
    }
}
