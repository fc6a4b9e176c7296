//! Dead letters of sessions that could not continue: their goals left the queue long before.
//!
//! *Limits.* A session that ended more than `AGE_MAX` before the letters' stream was created gets
//! none: connecting a factory with a long history to a server is no request for all of its
//! failures. The journal has them.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::{Headers, header},
    journal::Journal,
};
use ai_factory_schemas::{
    event::Event,
    id::Category,
    request::Goal,
    session::{SessionConcluded, SessionEnd, SessionEvent},
    time::Timestamp,
};
use ai_factory_tail::TailRecord;

use super::events::interruption;
use crate::{
    nats::{DeadLetterPublisher, Undeliverable},
    relay::{Interruption, Sink},
};

/// The verb of the event that ends a session.
const CONCLUDED: &str = "concluded";
/// How long before the stream's creation a session may have ended.
const AGE_MAX: Duration = Duration::from_hours(24);

/// The sink that publishes dead letters of sessions.
pub(super) struct DeadLetterSink {
    journal: Arc<dyn Journal>,
    publisher: DeadLetterPublisher,
    arrived: Option<u64>,
}

impl DeadLetterSink {
    pub(super) fn new(journal: &Arc<dyn Journal>, publisher: DeadLetterPublisher) -> Self {
        Self { journal: Arc::clone(journal), publisher, arrived: None }
    }

    /// The letter of a session that could not continue; `None` for every other record.
    async fn letter(&self, record: &TailRecord) -> Result<Option<Undeliverable>, String> {
        let routing = record.routing().map_err(ToString::to_string)?;
        if routing.stream.category != Category::Session || routing.verb != CONCLUDED {
            return Ok(None);
        }
        let history =
            self.journal.load(routing.stream, 0).await.map_err(|error| error.to_string())?;
        let concluded = record.event().map_err(ToString::to_string)?;
        let (
            Some(Event::Session(SessionEvent::Opened(opened))),
            Event::Session(SessionEvent::Concluded(SessionConcluded {
                end: SessionEnd::Failed,
                reason,
                ..
            })),
        ) = (history.first().map(|first| &first.event), &concluded.event)
        else {
            return Ok(None);
        };
        if self.publisher.created().is_some_and(|made| is_long_past(concluded.time, made)) {
            return Ok(None);
        }
        let goal = Goal {
            goal: opened.goal.clone(),
            task_type: opened.task_type,
            check: None,
            files: Vec::new(),
            protect: Vec::new(),
            workspace: false,
            ask: false,
            budget: None,
            model: None,
            turns_max: None,
        };
        let mut headers = Headers::default();
        if let Some(traceparent) = &routing.traceparent {
            headers.set(header::TRACEPARENT, traceparent);
        }
        Ok(Some(Undeliverable {
            id: format!("session-{}", routing.stream.id),
            reason: reason.clone().unwrap_or_else(|| "the session failed".to_owned()),
            session: Some(routing.stream.id.to_string()),
            headers,
            unreadable: None,
            payload: serde_json::to_vec(&goal).map_err(|error| error.to_string())?.into(),
        }))
    }
}

/// Whether a session ended too long before the stream's creation for a letter.
fn is_long_past(ended: Timestamp, made: Timestamp) -> bool {
    let before = made.as_micros().saturating_sub(ended.as_micros());
    u128::try_from(before).is_ok_and(|before| before > AGE_MAX.as_micros())
}

#[async_trait::async_trait]
impl Sink for DeadLetterSink {
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interruption> {
        self.publisher.resume().await.map_err(interruption)?;
        Ok(self.arrived.take().unwrap_or(checkpoint).max(checkpoint))
    }

    fn room(&self) -> usize {
        if self.arrived.is_none() && self.publisher.has_room() { usize::MAX } else { 0 }
    }

    fn report(&mut self, trouble: Option<&str>) {
        self.publisher.report(trouble);
    }

    fn about(&self) -> &'static str {
        self.publisher.about()
    }

    async fn send(&mut self, records: Vec<TailRecord>) -> Result<(), Interruption> {
        for record in records {
            if let Some(letter) = self.letter(&record).await.map_err(Interruption::Failed)? {
                self.publisher.store(&letter).await.map_err(interruption)?;
            }
            self.arrived = Some(record.position());
        }
        Ok(())
    }

    async fn arrived(&mut self) -> Result<u64, Interruption> {
        if let Some(position) = self.arrived.take() {
            return Ok(position);
        }
        self.publisher.reconnected().await;
        Err(Interruption::Restart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_more_than_a_day_before_there_was_a_stream_leaves_no_letter() {
        let made = Timestamp::from_micros(1_780_000_000_000_000);
        let day = i64::try_from(AGE_MAX.as_micros()).unwrap();
        let ended = |micros| Timestamp::from_micros(made.as_micros() + micros);
        assert!(is_long_past(ended(-day - 1), made));
        for later in [-day, -1, 0, 1, day, 10 * day] {
            assert!(!is_long_past(ended(later), made), "{later}");
        }
    }
}
