//! The sink to a bus: an event has arrived once the bus has it.
//!
//! *Limits.* Records that the bus can never carry are left out; they can be read from the journal
//! by position.

use std::sync::Arc;

use ai_factory_ports::bus::{Bus, Message, PublishError};
use ai_factory_tail::TailRecord;

use super::{
    messages::EventMessages,
    sink::{Interruption, Sink},
};

/// Called with the position of a left-out record, and the reason.
type LeftOutHandler = Box<dyn Fn(u64, &str) + Send + Sync>;

/// The sink to a bus: see the module.
pub struct BusSink {
    bus: Arc<dyn Bus>,
    messages: EventMessages,
    left_out: LeftOutHandler,
    /// The last position that the bus has and that is not reported yet.
    arrived: Option<u64>,
}

impl BusSink {
    /// A sink that has published nothing yet.
    pub fn new(bus: Arc<dyn Bus>, messages: EventMessages) -> Self {
        let left_out: LeftOutHandler = Box::new(|position, reason| {
            tracing::error!(reason, position, "an event was not published");
        });
        Self { bus, messages, left_out, arrived: None }
    }

    /// Calls `left_out` for each left-out record instead of logging it.
    #[must_use]
    pub fn on_left_out(mut self, left_out: impl Fn(u64, &str) + Send + Sync + 'static) -> Self {
        self.left_out = Box::new(left_out);
        self
    }

    async fn one_by_one(&mut self, records: Vec<TailRecord>) -> Result<(), Interruption> {
        for record in records {
            let messages = self.of(std::slice::from_ref(&record)).await?;
            match self.bus.publish_all(messages).await {
                Err(error @ PublishError::TooLarge { .. }) => {
                    (self.left_out)(record.position(), &error.to_string());
                }
                published => published.map_err(|error| failed(&error))?,
            }
            self.arrived = Some(record.position());
        }
        Ok(())
    }

    async fn of(&mut self, records: &[TailRecord]) -> Result<Vec<Message>, Interruption> {
        self.messages.of(records).await.map_err(Interruption::Failed)
    }
}

fn failed(error: &PublishError) -> Interruption {
    Interruption::Failed(error.to_string())
}

#[async_trait::async_trait]
impl Sink for BusSink {
    /// A bus stores nothing, so the checkpoint is the only record.
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interruption> {
        // An arrival before an interruption still counts.
        Ok(self.arrived.take().unwrap_or(checkpoint).max(checkpoint))
    }

    fn room(&self) -> usize {
        if self.arrived.is_none() { usize::MAX } else { 0 }
    }

    async fn send(&mut self, records: Vec<TailRecord>) -> Result<(), Interruption> {
        let messages = self.of(&records).await?;
        match self.bus.publish_all(messages).await {
            Ok(()) => {
                self.arrived = records.last().map(TailRecord::position);
                Ok(())
            }
            Err(PublishError::TooLarge { .. }) => self.one_by_one(records).await,
            Err(error) => Err(failed(&error)),
        }
    }

    async fn arrived(&mut self) -> Result<u64, Interruption> {
        match self.arrived.take() {
            Some(position) => Ok(position),
            None => std::future::pending().await,
        }
    }
}
