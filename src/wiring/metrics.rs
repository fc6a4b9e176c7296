//! The metrics that exist whatever is connected: a factory has the same names with and without a
//! NATS server.

use crate::{connections::Connections, nats::NatsMetrics, relay::RelayMetrics};

/// The relay of events to the bus within the process.
pub(super) const EVENTS_INSIDE: &str = "bus";
/// The relay of events to NATS.
pub(super) const EVENTS_TO_NATS: &str = "nats_events";
/// The relay of dead letters of sessions to NATS.
pub(super) const DEAD_LETTERS_TO_NATS: &str = "nats_dead_letters";
/// The relay of the states of sessions to NATS.
pub(super) const SESSIONS_TO_NATS: &str = "nats_sessions";

/// The metrics of all relays, also of those that do not run.
pub(super) fn relays() -> RelayMetrics {
    let relays = RelayMetrics::default();
    for relay in [EVENTS_INSIDE, EVENTS_TO_NATS, DEAD_LETTERS_TO_NATS, SESSIONS_TO_NATS] {
        relays.of(relay);
    }
    relays
}

/// The metrics of the connection to NATS; all 0 without one.
pub(super) fn nats(connections: &Connections) -> NatsMetrics {
    connections.nats.as_ref().map(|nats| nats.metrics().clone()).unwrap_or_default()
}
