//! The settings of each adapter, from those of the factory.

use std::time::Duration;

use ai_factory_actors::limits::Limits;
use ai_factory_schemas::workspace::WorkspaceLimits;

use super::model;
use crate::{
    config::{OnUnknown, Settings},
    journal::JournalSettings,
    nats::StreamsSettings,
    projection::ProjectionSettings,
};

/// The duplicate window of the stream of dead letters. It prevents a second letter after a crash
/// that took a checkpoint back, or for a goal that two factories abandoned in turn.
const DEAD_WINDOW: Duration = Duration::from_hours(24);

/// The journal's settings.
pub(super) fn journal_settings(settings: &Settings) -> JournalSettings {
    JournalSettings {
        source: format!("/ai-factory/{}", settings.node),
        segment_events_max: settings.segment_events_max,
        queue_appends_max: settings.append_queue_max,
        cache_bytes_max: settings.journal_cache_bytes_max,
        ..JournalSettings::new(&settings.data_dir)
    }
}

/// The projections' settings.
pub(super) fn projections(settings: &Settings) -> ProjectionSettings {
    ProjectionSettings {
        flush_events_max: settings.flush_events_max,
        flush_documents_max: settings.flush_documents_max,
        ..ProjectionSettings::new(&settings.data_dir)
    }
}

/// Names, limits and replicas of the JetStream streams.
pub(crate) fn streams(settings: &Settings) -> StreamsSettings {
    let named = |name: &str, what| match name {
        "" => StreamsSettings::name(&settings.subjects(), what),
        name => name.to_owned(),
    };
    StreamsSettings {
        events: named(&settings.nats_events_stream, "events"),
        goals: named(&settings.nats_goals_stream, "goals"),
        dead: named(&settings.nats_dead_stream, "dead"),
        sessions: named(&settings.nats_sessions_bucket, "sessions"),
        replicas: settings.nats_replicas,
        events_bytes_max: settings.nats_events_bytes_max,
        events_age_max: Duration::from_secs(settings.nats_events_age_s_max),
        duplicate_window: Duration::from_secs(settings.nats_duplicate_window_s),
        goals_max: settings.nats_goals_max,
        goals_bytes_max: settings.nats_goals_bytes_max,
        deliveries_max: settings.nats_goal_deliveries_max,
        dead_bytes_max: settings.nats_dead_bytes_max,
        dead_window: DEAD_WINDOW,
        sessions_bytes_max: settings.nats_sessions_bytes_max,
        sessions_age_max: Duration::from_secs(settings.nats_sessions_age_s_max),
    }
}

/// A limit; 0 means none.
fn nonzero(limit: u64) -> Option<u64> {
    Some(limit).filter(|limit| *limit > 0)
}

/// The domain's limits.
pub(super) fn limits(settings: &Settings) -> Limits {
    Limits {
        requests_waiting_max: settings.requests_waiting_max,
        sessions_max: settings.sessions_max,
        session_max: Duration::from_millis(settings.session_ms_max),
        step_max: Duration::from_millis(settings.step_ms_max),
        session_resumes_max: settings.session_resumes_max,
        repeat_unknown: settings.on_unknown == OnUnknown::Repeat,
        run_wall_max: Duration::from_millis(settings.run_wall_ms_max),
        check_wall_max: Duration::from_millis(settings.check_wall_ms_max),
        model: model::limits(settings),
        workspace: WorkspaceLimits {
            files_max: settings.workspace_files_max,
            file_bytes_max: settings.workspace_file_bytes_max,
            bytes_max: settings.workspace_bytes_max,
        },
        run_code_bytes_max: settings.run_code_bytes_max,
        runs_max: settings.runs_at_once(),
        runs_waiting_max: settings.runs_waiting_max,
        memory_age_max: nonzero(settings.memory_retention_s).map(Duration::from_secs),
        memories_max: nonzero(settings.memory_retention_max),
        restarts_max: settings.restarts_max,
        restart_window: Duration::from_millis(settings.restart_window_ms),
    }
}
