//! Publishes dead letters for goals that have left the goals' stream.

use std::sync::Arc;

use ai_factory_schemas::{subject::Subjects, time::Timestamp};

use super::{
    context::context,
    dead_letters::{DeadLetters, Undeliverable},
    ensure::Trouble,
    link::Link,
    pipeline::StreamError,
    settings::StreamsSettings,
};
use crate::bus::NatsBus;

/// Their name in the health report.
const ABOUT: &str = "dead letters of sessions";

/// Publishes dead letters, over a connection that may be lost.
pub struct DeadLetterPublisher {
    link: Link,
    settings: StreamsSettings,
    subjects: Subjects,
    letters: Option<DeadLetters>,
}

impl DeadLetterPublisher {
    /// Sends nothing to the server yet.
    pub fn new(bus: Arc<NatsBus>, settings: StreamsSettings, subjects: Subjects) -> Self {
        Self { link: Link::new(bus), settings, subjects, letters: None }
    }

    /// Waits for a connection, and finds or creates the stream. Without JetStream there is no room.
    pub async fn resume(&mut self) -> Result<(), StreamError> {
        self.letters = None;
        if !self.link.up().await? {
            return Ok(());
        }
        let context = context(&self.link.bus.client);
        match DeadLetters::ensure(&context, &self.settings, &self.subjects).await {
            Ok(letters) => self.letters = Some(letters),
            Err(Trouble::NoJetStream) => {}
            Err(trouble) => return Err(StreamError::Failed(trouble.to_string())),
        }
        Ok(())
    }

    /// Sets the reason why letters wait; `None` if they do not.
    pub fn report(&self, trouble: Option<&str>) {
        self.link.bus.note_waiting(ABOUT, trouble);
    }

    /// The name of the content, for people.
    pub fn about(&self) -> &'static str {
        ABOUT
    }

    /// Whether letters can be published.
    pub fn has_room(&self) -> bool {
        self.letters.is_some()
    }

    /// The creation time of the letters' stream; `None` while there is no room.
    pub fn created(&self) -> Option<Timestamp> {
        self.letters.as_ref().map(DeadLetters::created)
    }

    /// Publishes a letter. On `Ok` the stream has it.
    pub async fn store(&mut self, what: &Undeliverable) -> Result<(), StreamError> {
        self.link.ensure_up()?;
        let Some(letters) = &self.letters else { return Err(StreamError::Restart) };
        letters.store(what).await.map_err(|error| StreamError::Failed(error.to_string()))?;
        tracing::warn!(reason = what.reason, id = what.id, "a goal became a dead letter");
        Ok(())
    }

    /// Waits for another connection. Cancel safe.
    pub async fn reconnected(&mut self) {
        self.link.changed().await;
    }
}
