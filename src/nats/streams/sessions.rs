//! The key-value bucket of the sessions (NATS ADR-8): a stream with one message per key.

use std::sync::Arc;

use ai_factory_schemas::{
    id::SessionId,
    subject::{ParseSubjectError, Subject, SubjectFilter},
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};

use super::{ensure::base, journal_stream::JournalStream, settings::StreamsSettings};
use crate::bus::NatsBus;

/// The bucket of the sessions.
#[derive(Clone, Debug)]
pub struct SessionsBucket(String);

impl SessionsBucket {
    /// The bucket with the name from the settings.
    pub fn new(settings: &StreamsSettings) -> Self {
        Self(settings.sessions.clone())
    }

    /// The subject of a session's state.
    pub fn subject(&self, id: SessionId) -> Result<Subject, ParseSubjectError> {
        format!("$KV.{}.{id}", self.0).parse()
    }

    fn subjects(&self) -> Result<SubjectFilter, ParseSubjectError> {
        format!("$KV.{}.>", self.0).parse()
    }
}

impl JournalStream {
    /// The state of every session, under its id.
    pub fn of_sessions(
        bus: Arc<NatsBus>,
        settings: &StreamsSettings,
    ) -> Result<Self, ParseSubjectError> {
        let bucket = SessionsBucket::new(settings);
        let wanted = Config {
            description: Some("the sessions of ai-factory, as they stand".to_owned()),
            retention: RetentionPolicy::Limits,
            max_messages_per_subject: 1,
            max_bytes: i64::try_from(settings.sessions_bytes_max).unwrap_or(i64::MAX),
            max_age: settings.sessions_age_max,
            duplicate_window: settings.window_within(settings.sessions_age_max),
            discard: DiscardPolicy::Old,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..base(&format!("KV_{}", bucket.0), &[bucket.subjects()?], settings.replicas)
        };
        Ok(Self::new(bus, wanted, "nats_sessions_bucket", "states of sessions"))
    }
}
