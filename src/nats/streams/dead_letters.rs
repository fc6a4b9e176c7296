//! Dead letters: goals that were refused for good, delivered too often, or whose session could not
//! continue.
//!
//! *Promises.* The stream acknowledges a letter before its goal is abandoned. A letter has the
//! goal's payload and headers, and the reason. After a retry it is removed only once the goals'
//! stream has acknowledged the goal.
//!
//! *Limits.* A full stream discards its oldest letters. A payload that leaves no room for the
//! reason, at the server or under the stream's message size limit, is cut.

use std::sync::Arc;

use ai_factory_ports::bus::{Headers, Message, header};
use ai_factory_schemas::{
    subject::{Subject, SubjectFilter, Subjects},
    time::Timestamp,
};
use async_nats::jetstream::{
    self,
    context::{PublishError, PublishErrorKind},
    stream::{Config, Info, RetentionPolicy, Stream},
};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    context::context,
    ensure::{Trouble, base, ensure},
    pipeline::{is_too_large, refusal, said},
    settings::StreamsSettings,
    stored::{Stored, stored},
};
use crate::{bus::NatsBus, message};

/// The reason.
pub const REASON: &str = "Factory-Dead-Reason";
/// The subject on which the goal was published.
const SUBJECT: &str = "Factory-Dead-Subject";
/// The goal's own `Nats-Msg-Id`.
const KEY: &str = "Factory-Dead-Msg-Id";
/// The session that could not continue.
const SESSION: &str = "Factory-Dead-Session";
/// The payload's original length in bytes, if it was cut.
const CUT: &str = "Factory-Dead-Payload-Bytes";
/// The goal's headers, escaped, if they cannot be parsed.
const HEADERS: &str = "Factory-Dead-Headers";
/// The prefix of headers about the letter rather than the goal.
const OWN: &str = "Factory-Dead-";
/// The prefix of headers that instruct the server: they were meant for the goals' stream.
const SERVER: &str = "Nats-";
/// The size limit of the reason, in bytes.
const REASON_BYTES_MAX: usize = 1_024;
/// The size limit of unreadable headers, in bytes.
const HEADERS_BYTES_MAX: usize = 4_096;
/// Bytes that remain of a cut payload; fewer if the stream's message limit is smaller.
const CUT_BYTES: usize = 65_536;

/// A letter to store.
#[derive(Clone, Debug)]
pub struct Undeliverable {
    /// The letter's id: stored once under one id.
    pub id: String,
    /// The reason.
    pub reason: String,
    /// The session that could not continue, if there was one.
    pub session: Option<String>,
    /// The goal's headers, as far as they can be parsed.
    pub headers: Headers,
    /// All headers, escaped, if they cannot be parsed completely.
    pub unreadable: Option<String>,
    /// The goal's payload.
    pub payload: Bytes,
}

/// A letter in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its sequence number in the stream.
    pub number: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// The reason.
    pub reason: String,
    /// The goal's own `Nats-Msg-Id`.
    pub key: Option<String>,
    /// The session that could not continue.
    pub session: Option<String>,
    /// The goal's headers.
    pub headers: Vec<(String, String)>,
    /// The goal's payload.
    pub payload: Bytes,
    /// The payload's original length in bytes, if it was cut.
    pub cut_from_bytes: Option<u64>,
}

/// Why a letter was not found, stored, retried or removed.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// There is no such letter.
    #[error("there is no dead letter {0}: `ai-factory dead ls` lists the existing ones")]
    NotFound(u64),
    /// The payload is cut: a retry would run another goal.
    #[error(
        "the dead letter {0} has only the beginning of its goal, which was too large to be kept"
    )]
    Cut(u64),
    /// No stream takes goals.
    #[error(
        "no stream takes goals on {0}: start a factory there with `ai-factory up --nats URL` first"
    )]
    NoGoals(Subject),
    /// There is no JetStream, or a request failed.
    #[error("{0}")]
    Trouble(String),
}

fn trouble(error: impl std::fmt::Display) -> DeadLetterError {
    DeadLetterError::Trouble(error.to_string())
}

/// The dead letters at a server.
pub struct DeadLetters {
    context: jetstream::Context,
    stream: Stream<Info>,
    goals: Subject,
    subject: Subject,
}

impl DeadLetters {
    /// The stream's creation time.
    pub(super) fn created(&self) -> Timestamp {
        let micros = self.stream.cached_info().created.unix_timestamp_nanos() / 1_000;
        Timestamp::from_micros(i64::try_from(micros).unwrap_or_default())
    }

    /// Finds or creates the stream.
    pub(crate) async fn ensure(
        context: &jetstream::Context,
        settings: &StreamsSettings,
        subjects: &Subjects,
    ) -> Result<Self, Trouble> {
        let subject = subjects.dead();
        let wanted = Config {
            description: Some("goals that ai-factory could not do, and why".to_owned()),
            retention: RetentionPolicy::Limits,
            max_bytes: i64::try_from(settings.dead_bytes_max).unwrap_or(i64::MAX),
            duplicate_window: settings.dead_window,
            allow_direct: true,
            ..base(&settings.dead, &[SubjectFilter::from(&subject)], settings.replicas)
        };
        let stream = ensure(context, wanted, "nats_dead_stream").await?;
        Ok(Self { context: context.clone(), stream, goals: subjects.goals(), subject })
    }

    /// Finds or creates the stream, over a connection of the caller.
    pub async fn open(
        bus: &NatsBus,
        settings: &StreamsSettings,
        subjects: &Subjects,
    ) -> Result<Self, DeadLetterError> {
        if !bus.server().has_jetstream {
            return Err(trouble("this NATS server has no JetStream, so it keeps no dead letters"));
        }
        Self::ensure(&context(&bus.client), settings, subjects).await.map_err(trouble)
    }

    /// Stores a letter. On `Ok` the stream has it.
    pub async fn store(&self, what: &Undeliverable) -> Result<(), DeadLetterError> {
        let mut headers = Headers::default();
        for (name, value) in what.headers.iter().filter(|(name, _)| !name.starts_with(SERVER)) {
            headers.set(name, value);
        }
        headers.set(REASON, head(&what.reason, REASON_BYTES_MAX));
        if let Some(unreadable) = &what.unreadable {
            headers.set(HEADERS, head(unreadable, HEADERS_BYTES_MAX));
        }
        headers.set(SUBJECT, self.goals.as_str());
        headers.set(header::MESSAGE_ID, &what.id);
        if let Some(key) = what.headers.get(header::MESSAGE_ID) {
            headers.set(KEY, key);
        }
        if let Some(session) = &what.session {
            headers.set(SESSION, session);
        }
        match self.publish(&self.subject, &headers, what.payload.clone()).await {
            Err(error) if is_for_its_size(&error) => {
                headers.set(CUT, what.payload.len().to_string());
                let beside = Message { headers: headers.clone(), ..self.empty() }.bytes();
                let room = self.message_bytes_max().saturating_sub(beside).min(CUT_BYTES);
                let head = what.payload.slice(..what.payload.len().min(room));
                self.publish(&self.subject, &headers, head).await.map_err(|error| refused(&error))
            }
            kept => kept.map_err(|error| refused(&error)),
        }
    }

    /// The size limit of a letter, including headers, in bytes.
    fn message_bytes_max(&self) -> usize {
        let max = self.stream.cached_info().config.max_message_size;
        usize::try_from(max).ok().filter(|max| *max > 0).unwrap_or(usize::MAX)
    }

    fn empty(&self) -> Message {
        Message::new(self.subject.clone(), Bytes::new())
    }

    async fn publish(
        &self,
        subject: &Subject,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let headers = message::to_nats(headers);
        let sent = self.context.publish_with_headers(subject.as_str().to_owned(), headers, payload);
        sent.await?.await.map(drop)
    }

    /// The newest letters, newest first.
    pub async fn newest(&self, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let state = self.stream.get_info().await.map_err(trouble)?.state;
        let mut letters = Vec::new();
        for number in (state.first_sequence..=state.last_sequence).rev() {
            if letters.len() as u64 >= state.messages || letters.len() >= limit {
                break;
            }
            match self.letter(number).await {
                Ok(letter) => letters.push(letter),
                Err(DeadLetterError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(letters)
    }

    /// One letter.
    pub async fn letter(&self, number: u64) -> Result<DeadLetter, DeadLetterError> {
        match stored(&self.context, &self.stream.cached_info().config.name, number).await {
            Ok(Some(found)) => Ok(read(found)),
            Ok(None) => Err(DeadLetterError::NotFound(number)),
            Err(error) => Err(trouble(error)),
        }
    }

    /// Publishes the goal again under a new key, and removes the letter once the goals' stream has
    /// the goal.
    pub async fn retry(&self, number: u64) -> Result<(), DeadLetterError> {
        let letter = self.letter(number).await?;
        if letter.cut_from_bytes.is_some() {
            return Err(DeadLetterError::Cut(number));
        }
        let mut headers = Headers::default();
        for (name, value) in &letter.headers {
            headers.set(name, value);
        }
        // A constant key, so that another retry after a failure here does not run the goal twice.
        let made = self.stream.cached_info().created.unix_timestamp_nanos();
        headers.set(header::MESSAGE_ID, format!("dead-{made}-{number}"));
        match self.publish(&self.goals, &headers, letter.payload).await {
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                Err(DeadLetterError::NoGoals(self.goals.clone()))
            }
            published => {
                published.map_err(|error| refused(&error))?;
                self.remove(number).await
            }
        }
    }

    /// Removes a letter.
    pub async fn remove(&self, number: u64) -> Result<(), DeadLetterError> {
        self.letter(number).await?;
        self.stream.delete_message(number).await.map(drop).map_err(trouble)
    }
}

/// The dead letters of a server whose stream may be removed: it is looked up again after each
/// failure.
pub(crate) struct DeadLetterStore<'a> {
    context: &'a jetstream::Context,
    settings: &'a StreamsSettings,
    subjects: &'a Subjects,
    open: Mutex<Option<Arc<DeadLetters>>>,
}

impl<'a> DeadLetterStore<'a> {
    /// Sends nothing to the server yet.
    pub(crate) fn new(
        context: &'a jetstream::Context,
        settings: &'a StreamsSettings,
        subjects: &'a Subjects,
    ) -> Self {
        Self { context, settings, subjects, open: Mutex::default() }
    }

    /// Finds or creates the stream, unless it is open already.
    pub(crate) async fn opened(&self) -> Result<Arc<DeadLetters>, Trouble> {
        let mut open = self.open.lock().await;
        if let Some(letters) = &*open {
            return Ok(Arc::clone(letters));
        }
        let found = DeadLetters::ensure(self.context, self.settings, self.subjects).await?;
        Ok(Arc::clone(open.insert(Arc::new(found))))
    }

    /// Stores a letter. On `Ok` the stream has it.
    pub(crate) async fn store(&self, what: &Undeliverable) -> Result<(), DeadLetterError> {
        let letters = self.opened().await.map_err(trouble)?;
        let kept = letters.store(what).await;
        if kept.is_err() {
            *self.open.lock().await = None;
        }
        kept
    }
}

/// Why a stream did not accept a message, as text.
fn refused(error: &PublishError) -> DeadLetterError {
    DeadLetterError::Trouble(said(error))
}

fn is_for_its_size(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::MaxPayloadExceeded || refusal(error).is_some_and(is_too_large)
}

/// The beginning of a text, at most `bytes_max` bytes.
fn head(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn read(found: Stored) -> DeadLetter {
    let headers = found.headers;
    let own = |name| headers.get(name).map(str::to_owned);
    let goals = headers
        .iter()
        .filter(|(name, _)| !name.starts_with(OWN) && !name.starts_with(SERVER))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    DeadLetter {
        number: found.sequence,
        time: found.time,
        reason: own(REASON).unwrap_or_default(),
        key: own(KEY),
        session: own(SESSION),
        headers: goals.collect(),
        payload: found.payload,
        cut_from_bytes: own(CUT).and_then(|bytes| bytes.parse().ok()),
    }
}
