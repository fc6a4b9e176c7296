//! The stream of events.

use std::sync::Arc;

use ai_factory_schemas::subject::Subjects;
use async_nats::jetstream::stream::{Config, RetentionPolicy};

use super::{ensure::base, journal_stream::JournalStream, settings::StreamsSettings};
use crate::bus::NatsBus;

impl JournalStream {
    /// Every recorded event, on the subjects of events.
    pub fn of_events(bus: Arc<NatsBus>, settings: &StreamsSettings, subjects: &Subjects) -> Self {
        let wanted = Config {
            description: Some("the events of ai-factory, as its journal has them".to_owned()),
            retention: RetentionPolicy::Limits,
            max_bytes: i64::try_from(settings.events_bytes_max).unwrap_or(i64::MAX),
            max_age: settings.events_age_max,
            duplicate_window: settings.window_within(settings.events_age_max),
            allow_direct: true,
            ..base(&settings.events, &[subjects.events()], settings.replicas)
        };
        Self::new(bus, wanted, "nats_events_stream", "events")
    }
}
