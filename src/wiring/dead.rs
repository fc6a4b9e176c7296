//! Dead letters of sessions that could not go on: their goals left the queue long before.

use std::sync::Arc;

use ai_factory_actors::ports::{
    bus::{Headers, header},
    journal::{Journal, Raw},
};
use ai_factory_schemas::{
    envelope::{Recorded, Routing},
    event::Event,
    id::Category,
    request::Goal,
    session::{SessionConcluded, SessionEnd, SessionEvent},
};

use super::events::interrupted;
use crate::{
    bus::nats::{Undeliverable, Undertaker},
    relay::{Interrupted, Outlet},
};

/// The verb of the event that ends a session.
const CONCLUDED: &str = "concluded";

/// The outlet that leaves dead letters.
pub(super) struct DeadSessions {
    journal: Arc<dyn Journal>,
    undertaker: Undertaker,
    arrived: Option<u64>,
}

impl DeadSessions {
    pub(super) fn new(journal: &Arc<dyn Journal>, undertaker: Undertaker) -> Self {
        Self { journal: Arc::clone(journal), undertaker, arrived: None }
    }

    /// What is to be kept of a session that could not go on; `None` for every other record.
    async fn letter(&self, record: &Raw) -> Result<Option<Undeliverable>, String> {
        let routing = Routing::decode(&record.bytes).map_err(|error| error.to_string())?;
        if routing.stream.category != Category::Session || routing.verb != CONCLUDED {
            return Ok(None);
        }
        let told = self.journal.load(routing.stream, 0).await.map_err(|error| error.to_string())?;
        let concluded = Recorded::decode(&record.bytes).map_err(|error| error.to_string())?;
        let (
            Some(Event::Session(SessionEvent::Opened(opened))),
            Event::Session(SessionEvent::Concluded(SessionConcluded {
                end: SessionEnd::Failed,
                reason,
                ..
            })),
        ) = (told.first().map(|first| &first.event), &concluded.event)
        else {
            return Ok(None);
        };
        let goal = Goal { goal: opened.goal.clone(), task_type: opened.task_type };
        let mut headers = Headers::default();
        if let Some(traceparent) = routing.traceparent {
            headers.set(header::TRACEPARENT, traceparent);
        }
        Ok(Some(Undeliverable {
            id: format!("session-{}", routing.stream.id),
            reason: reason.clone().unwrap_or_else(|| "the session failed".to_owned()),
            session: Some(routing.stream.id.to_string()),
            headers,
            payload: serde_json::to_vec(&goal).map_err(|error| error.to_string())?.into(),
        }))
    }
}

#[async_trait::async_trait]
impl Outlet for DeadSessions {
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interrupted> {
        self.undertaker.resume().await.map_err(interrupted)?;
        Ok(self.arrived.take().unwrap_or(checkpoint).max(checkpoint))
    }

    fn has_room(&self) -> bool {
        self.arrived.is_none() && self.undertaker.has_room()
    }

    async fn send(&mut self, records: Vec<Raw>) -> Result<(), Interrupted> {
        for record in records {
            if let Some(letter) = self.letter(&record).await.map_err(Interrupted::Failed)? {
                self.undertaker.keep(&letter).await.map_err(interrupted)?;
            }
            self.arrived = Some(record.position);
        }
        Ok(())
    }

    async fn arrived(&mut self) -> Result<u64, Interrupted> {
        if let Some(position) = self.arrived.take() {
            return Ok(position);
        }
        self.undertaker.reconnected().await;
        Err(Interrupted::Anew)
    }
}
