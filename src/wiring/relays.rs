//! The relays to NATS, and the checkpoints of all relays.

use std::sync::Arc;

use ai_factory_actors::deps::Deps;
use ai_factory_tail::Tail;
use tokio::task::JoinSet;

use super::{
    adapters::streams,
    dead_letters::DeadLetterSink,
    events::{NatsEventSink, RELAY_NATS},
    metrics::{DEAD_LETTERS_TO_NATS, EVENTS_TO_NATS, SESSIONS_TO_NATS},
    sessions::{RELAY_SESSIONS, SessionBucketSink},
};
use crate::{
    config::Settings,
    nats::{DeadLetterPublisher, GoalIntake, JournalStream, NatsBus, SessionsBucket},
    projection::Projections,
    relay::{Checkpoint, Relay, RelayMetrics},
};

/// The name of the checkpoint of the dead letters of sessions.
const RELAY_DEAD: &str = "relay-dead";

/// A relay's checkpoint, stored and flushed with the projections.
pub(super) struct RelayCheckpoint {
    pub(super) name: &'static str,
    pub(super) projections: Arc<Projections>,
}

impl Checkpoint for RelayCheckpoint {
    fn load(&self) -> u64 {
        self.projections.checkpoint(self.name).unwrap_or_else(|error| {
            tracing::warn!(%error, "the relay's checkpoint is lost: everything is published again");
            0
        })
    }

    fn note(&self, position: u64) {
        self.projections.note_checkpoint(self.name, position);
    }
}

/// Starts what carries events to a NATS server, and goals from it.
pub(super) fn spawn_nats_relays(
    tasks: &mut JoinSet<()>,
    settings: &Settings,
    (deps, tail): (&Arc<Deps>, &Arc<Tail>),
    projections: &Arc<Projections>,
    (nats, metrics): (&Arc<NatsBus>, &RelayMetrics),
) {
    let checkpoint =
        |name| Arc::new(RelayCheckpoint { name, projections: Arc::clone(projections) });
    let streams = streams(settings);
    let to = (&deps.subjects, &streams);
    let sink = NatsEventSink::new(&deps.journal, projections, nats, &deps.traces, to);
    let tail = || Arc::clone(tail);
    let relay = Relay { tail: tail(), sink, checkpoint: checkpoint(RELAY_NATS) };
    tasks.spawn(relay.run_counting(metrics.of(EVENTS_TO_NATS)));
    let publisher =
        DeadLetterPublisher::new(Arc::clone(nats), streams.clone(), deps.subjects.clone());
    let sink = DeadLetterSink::new(&deps.journal, publisher);
    let relay = Relay { tail: tail(), sink, checkpoint: checkpoint(RELAY_DEAD) };
    tasks.spawn(relay.run_counting(metrics.of(DEAD_LETTERS_TO_NATS)));
    if let Ok(stream) = JournalStream::of_sessions(Arc::clone(nats), &streams) {
        let bucket = SessionsBucket::new(&streams);
        let sink = SessionBucketSink::new(&deps.journal, projections, stream, bucket);
        let relay = Relay { tail: tail(), sink, checkpoint: checkpoint(RELAY_SESSIONS) };
        tasks.spawn(relay.run_counting(metrics.of(SESSIONS_TO_NATS)));
    }
    let goals = GoalIntake {
        outside: Arc::clone(nats),
        inside: Arc::clone(&deps.bus),
        subjects: deps.subjects.clone(),
        streams,
    };
    tasks.spawn(goals.run());
}
