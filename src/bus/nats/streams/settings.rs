//! Names, limits and replicas of the streams.

use std::time::Duration;

use ai_factory_schemas::subject::Subjects;

/// Which streams there are, and how much they keep. Applies to streams that are made here: one that exists keeps its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsSettings {
    /// The stream of the events.
    pub events: String,
    /// The stream of the goals.
    pub goals: String,
    /// The stream of the dead letters.
    pub dead: String,
    /// The bucket of the sessions.
    pub sessions: String,
    /// On how many servers of a cluster each is kept.
    pub replicas: usize,
    /// How much the stream of the events keeps, in bytes; the oldest make room.
    pub events_bytes_max: u64,
    /// How long it keeps an event; zero stands for no limit.
    pub events_age_max: Duration,
    /// How long it knows the ids of what it has taken.
    pub duplicate_window: Duration,
    /// How many goals may wait.
    pub goals_max: u64,
    /// How much the goals that wait may take, in bytes.
    pub goals_bytes_max: u64,
    /// How often a goal is handed out before it is given up.
    pub deliveries_max: u32,
    /// How much the dead letters may take, in bytes; the oldest make room.
    pub dead_bytes_max: u64,
    /// How long their stream knows the ids of what it has taken.
    pub dead_window: Duration,
    /// How much the states of sessions may take, in bytes; the oldest make room.
    pub sessions_bytes_max: u64,
    /// How long a state is kept after the session's last event; zero stands for no limit.
    pub sessions_age_max: Duration,
}

impl StreamsSettings {
    /// The window for repeats of a stream whose messages live so long: the server takes no longer one.
    pub(super) fn window_within(&self, age_max: Duration) -> Duration {
        match age_max {
            Duration::ZERO => self.duplicate_window,
            age_max => self.duplicate_window.min(age_max),
        }
    }

    /// What a stream is called unless settings say otherwise: the prefix in capitals and what it is for,
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
