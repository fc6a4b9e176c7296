//! Who leaves dead letters of what is not in the goals' stream any more.

use std::sync::Arc;

use ai_factory_schemas::{subject::Subjects, time::Timestamp};

use super::{Broken, DeadLetters, StreamsSettings, Trouble, Undeliverable, context, link::Link};
use crate::bus::nats::NatsBus;

/// What is left, as people read it.
const ABOUT: &str = "dead letters of sessions";

/// Leaves dead letters, over a connection that may come and go.
pub struct Undertaker {
    link: Link,
    settings: StreamsSettings,
    subjects: Subjects,
    letters: Option<DeadLetters>,
}

impl Undertaker {
    /// Nothing is asked of the server yet.
    pub fn new(bus: Arc<NatsBus>, settings: StreamsSettings, subjects: Subjects) -> Self {
        Self { link: Link::new(bus), settings, subjects, letters: None }
    }

    /// Waits for a connection, and finds or makes the stream. Where there is no JetStream there is no room.
    pub async fn resume(&mut self) -> Result<(), Broken> {
        self.letters = None;
        if !self.link.up().await? {
            return Ok(());
        }
        let context = context(&self.link.bus.client);
        match DeadLetters::ensured(&context, &self.settings, &self.subjects).await {
            Ok(letters) => self.letters = Some(letters),
            Err(Trouble::NoJetStream) => {}
            Err(trouble) => return Err(Broken::Failed(trouble.to_string())),
        }
        Ok(())
    }

    /// Notes why letters wait, or that they go on.
    pub fn report(&self, trouble: Option<&str>) {
        self.link.bus.note_waiting(ABOUT, trouble);
    }

    /// What is left, for people.
    pub fn about(&self) -> &'static str {
        ABOUT
    }

    /// Whether letters can be left.
    pub fn has_room(&self) -> bool {
        self.letters.is_some()
    }

    /// When the stream of the letters was made; `None` while there is no room.
    pub fn made(&self) -> Option<Timestamp> {
        self.letters.as_ref().map(DeadLetters::made)
    }

    /// Leaves a letter. It is there when this is `Ok`.
    pub async fn keep(&mut self, what: &Undeliverable) -> Result<(), Broken> {
        self.link.must_be_up()?;
        let Some(letters) = &self.letters else { return Err(Broken::Anew) };
        letters.keep(what).await.map_err(|error| Broken::Failed(error.to_string()))?;
        tracing::warn!(reason = what.reason, id = what.id, "a goal became a dead letter");
        Ok(())
    }

    /// Waits for another connection. May be dropped and called again.
    pub async fn reconnected(&mut self) {
        self.link.changed().await;
    }
}
