//! Names, limits and replicas of the streams.

use std::time::Duration;

use ai_factory_schemas::subject::Subjects;

/// Names and limits of the streams. They apply to streams created here: an existing one keeps its
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsSettings {
    /// The name of the stream of events.
    pub events: String,
    /// The name of the stream of goals.
    pub goals: String,
    /// The name of the stream of dead letters.
    pub dead: String,
    /// The name of the bucket of sessions.
    pub sessions: String,
    /// Replicas of each stream in a cluster.
    pub replicas: usize,
    /// Size limit of the stream of events, in bytes; the oldest are discarded.
    pub events_bytes_max: u64,
    /// Maximum age of an event; zero for no limit.
    pub events_age_max: Duration,
    /// The window in which the events' stream recognises duplicate ids.
    pub duplicate_window: Duration,
    /// Maximum number of queued goals.
    pub goals_max: u64,
    /// Size limit of the queued goals, in bytes.
    pub goals_bytes_max: u64,
    /// Deliveries after which a goal is abandoned.
    pub deliveries_max: u32,
    /// Size limit of the dead letters, in bytes; the oldest are discarded.
    pub dead_bytes_max: u64,
    /// The window in which their stream recognises duplicate ids.
    pub dead_window: Duration,
    /// Size limit of the session states, in bytes; the oldest are discarded.
    pub sessions_bytes_max: u64,
    /// How long a state is kept after the session's last event; zero for no limit.
    pub sessions_age_max: Duration,
}

impl StreamsSettings {
    /// The duplicate window of a stream with this maximum age: the server permits none that is
    /// longer.
    pub(super) fn window_within(&self, age_max: Duration) -> Duration {
        match age_max {
            Duration::ZERO => self.duplicate_window,
            age_max => self.duplicate_window.min(age_max),
        }
    }

    /// The default name of a stream: the subject prefix and the content in capitals,
    /// `FACTORY_EVENTS`.
    pub fn name(subjects: &Subjects, what: &str) -> String {
        let prefix = subjects.prefix().as_str().replace('.', "_");
        format!("{prefix}_{what}").to_uppercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_after_the_prefix() {
        assert_eq!(StreamsSettings::name(&Subjects::default(), "goals"), "FACTORY_GOALS");
        let team = Subjects::new("team-1.factory".parse().unwrap());
        assert_eq!(StreamsSettings::name(&team, "events"), "TEAM-1_FACTORY_EVENTS");
    }
}
