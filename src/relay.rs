//! The relay: publishes what is in the journal, after commit, in order, at least once (I-7).
//!
//! *Promises.* Nothing else publishes events. The payload is the stored bytes; `Nats-Msg-Id` is the event's
//! id, so that a bus that knows ids drops repeats. The checkpoint moves only after a publication, so what
//! is in doubt is published again.
//!
//! *Limits.* `CHUNK_EVENTS_MAX` records are read at once; a bus that fails is tried again for ever, with a pause
//! between `PAUSE_FIRST` and `PAUSE_MAX`: events wait in the journal, not in memory.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::ports::{
    bus::{Bus, Message, PublishError, header},
    journal::{Journal, Raw},
};
use ai_factory_schemas::{envelope::Routing, subject::Subjects};

/// Records read from the journal at once.
const CHUNK_EVENTS_MAX: usize = 128;
/// The first pause after a failure; each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Where the relay notes how far it has come.
pub trait Checkpoint: Send + Sync + 'static {
    /// The last position that was published.
    fn load(&self) -> u64;

    /// Notes that all up to `position` was published.
    fn note(&self, position: u64);
}

/// Publishes the journal. Runs until its task is ended.
pub struct Relay {
    /// What is published.
    pub journal: Arc<dyn Journal>,
    /// Where it is published.
    pub bus: Arc<dyn Bus>,
    /// Under which subjects.
    pub subjects: Subjects,
    /// How far it has come.
    pub checkpoint: Arc<dyn Checkpoint>,
}

impl Relay {
    /// Publishes what is and what comes.
    pub async fn run(self) {
        let mut heads = self.journal.watch();
        let mut position = self.checkpoint.load();
        let mut pause = PAUSE_FIRST;
        loop {
            let before = position;
            let stepped = self.step(&mut position).await;
            if position > before {
                pause = PAUSE_FIRST;
            }
            match stepped {
                Ok(true) => {}
                Ok(false) => {
                    if heads.changed().await.is_err() {
                        return;
                    }
                }
                Err(reason) => {
                    // Once is enough for people, until it works again.
                    if pause == PAUSE_FIRST {
                        tracing::warn!(%reason, position, "events wait to be published");
                    } else {
                        tracing::debug!(%reason, position, "events wait to be published");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Publishes the next records; `false` when there are none.
    async fn step(&self, position: &mut u64) -> Result<bool, String> {
        let records = self
            .journal
            .read(*position, CHUNK_EVENTS_MAX)
            .await
            .map_err(|error| error.to_string())?;
        let Some(last) = records.last().map(|record| record.position) else { return Ok(false) };
        let messages =
            records.iter().map(|record| self.message(record)).collect::<Result<_, _>>()?;
        match self.bus.publish_all(messages).await {
            Ok(()) => {
                *position = last;
                self.checkpoint.note(last);
            }
            Err(PublishError::TooLarge { .. }) => self.one_by_one(records, position).await?,
            Err(error) => return Err(error.to_string()),
        }
        Ok(true)
    }

    /// Publishes all records but those that the bus can never carry: who needs one reads it from the journal by its
    /// position.
    async fn one_by_one(&self, records: Vec<Raw>, position: &mut u64) -> Result<(), String> {
        for record in records {
            match self.bus.publish_all(vec![self.message(&record)?]).await {
                Err(error @ PublishError::TooLarge { .. }) => {
                    tracing::error!(%error, position = record.position, "an event was not published");
                }
                published => published.map_err(|error| error.to_string())?,
            }
            *position = record.position;
            self.checkpoint.note(record.position);
        }
        Ok(())
    }

    fn message(&self, record: &Raw) -> Result<Message, String> {
        let routing = Routing::decode(&record.bytes)
            .map_err(|error| format!("record {} has no subject: {error}", record.position))?;
        let subject = self.subjects.event(routing.stream, &routing.verb);
        let mut message = Message::new(subject, record.bytes.clone());
        message.headers.set(header::MESSAGE_ID, routing.id.to_string());
        if let Some(traceparent) = routing.traceparent {
            message.headers.set(header::TRACEPARENT, traceparent);
        }
        Ok(message)
    }
}
