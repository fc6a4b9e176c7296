//! Bus messages for recorded events.

use std::sync::Arc;

use ai_factory_ports::{
    bus::{Message, header},
    journal::Journal,
};
use ai_factory_schemas::{envelope::Routing, subject::Subjects};
use ai_factory_tail::TailRecord;

/// Builds a record's message: the stored bytes, under the event's id.
pub struct EventMessages {
    journal: Arc<dyn Journal>,
    subjects: Subjects,
    journal_id: Option<String>,
}

impl EventMessages {
    /// For the records of this journal, on these subjects.
    pub fn new(journal: Arc<dyn Journal>, subjects: Subjects) -> Self {
        Self { journal, subjects, journal_id: None }
    }

    /// The messages of records, in their order.
    pub async fn of(&mut self, records: &[TailRecord]) -> Result<Vec<Message>, String> {
        let journal_id = match &self.journal_id {
            Some(id) => id.clone(),
            None => self.journal_id().await?,
        };
        records.iter().map(|record| self.message(record, &journal_id)).collect()
    }

    /// The journal's identity: the id of its first event.
    async fn journal_id(&mut self) -> Result<String, String> {
        let first = self.journal.read(0, 1).await.map_err(|error| error.to_string())?;
        let first = first.first().ok_or("the journal has no first record")?;
        let id = Routing::decode(&first.bytes).map_err(|error| error.to_string())?.id.to_string();
        Ok(self.journal_id.insert(id).clone())
    }

    fn message(&self, record: &TailRecord, journal_id: &str) -> Result<Message, String> {
        let routing = record
            .routing()
            .map_err(|error| format!("record {} has no subject: {error}", record.position()))?;
        let subject = self.subjects.event(routing.stream, &routing.verb);
        let mut message = Message::new(subject, record.bytes().clone());
        message.headers.set(header::MESSAGE_ID, routing.id.to_string());
        message.headers.set(header::POSITION, record.position().to_string());
        message.headers.set(header::JOURNAL, journal_id);
        if let Some(traceparent) = &routing.traceparent {
            message.headers.set(header::TRACEPARENT, traceparent);
        }
        Ok(message)
    }
}
