//! The outlet to a bus: what the bus has, has arrived.
//!
//! *Limits.* Records that the bus can never carry are left out: who needs one reads it from the journal by its position.

use std::sync::Arc;

use ai_factory_actors::ports::{
    bus::{Bus, Message, PublishError},
    journal::Raw,
};

use super::{EventMessages, Interrupted, Outlet};

/// Is told of the position of a record that was left out, and why.
type LeftOut = Box<dyn Fn(u64, &str) + Send + Sync>;

/// The outlet to a bus. See the module.
pub struct ToBus {
    bus: Arc<dyn Bus>,
    messages: EventMessages,
    left_out: LeftOut,
    /// What the bus has and was not told yet.
    arrived: Option<u64>,
}

impl ToBus {
    /// Nothing is published yet.
    pub fn new(bus: Arc<dyn Bus>, messages: EventMessages) -> Self {
        let left_out: LeftOut = Box::new(|position, reason| {
            tracing::error!(reason, position, "an event was not published");
        });
        Self { bus, messages, left_out, arrived: None }
    }

    /// Has `left_out` told of what is left out, in place of a line in the log.
    #[must_use]
    pub fn telling(mut self, left_out: impl Fn(u64, &str) + Send + Sync + 'static) -> Self {
        self.left_out = Box::new(left_out);
        self
    }

    async fn one_by_one(&mut self, records: Vec<Raw>) -> Result<(), Interrupted> {
        for record in records {
            let messages = self.of(std::slice::from_ref(&record)).await?;
            match self.bus.publish_all(messages).await {
                Err(error @ PublishError::TooLarge { .. }) => {
                    (self.left_out)(record.position, &error.to_string());
                }
                published => published.map_err(|error| failed(&error))?,
            }
            self.arrived = Some(record.position);
        }
        Ok(())
    }

    async fn of(&mut self, records: &[Raw]) -> Result<Vec<Message>, Interrupted> {
        self.messages.of(records).await.map_err(Interrupted::Failed)
    }
}

fn failed(error: &PublishError) -> Interrupted {
    Interrupted::Failed(error.to_string())
}

#[async_trait::async_trait]
impl Outlet for ToBus {
    /// A bus keeps nothing: what was noted is all there is to know.
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interrupted> {
        // What arrived before an interruption is no less there.
        Ok(self.arrived.take().unwrap_or(checkpoint).max(checkpoint))
    }

    fn room(&self) -> usize {
        if self.arrived.is_none() { usize::MAX } else { 0 }
    }

    async fn send(&mut self, records: Vec<Raw>) -> Result<(), Interrupted> {
        let messages = self.of(&records).await?;
        match self.bus.publish_all(messages).await {
            Ok(()) => {
                self.arrived = records.last().map(|record| record.position);
                Ok(())
            }
            Err(PublishError::TooLarge { .. }) => self.one_by_one(records).await,
            Err(error) => Err(failed(&error)),
        }
    }

    async fn arrived(&mut self) -> Result<u64, Interrupted> {
        match self.arrived.take() {
            Some(position) => Ok(position),
            None => std::future::pending().await,
        }
    }
}
