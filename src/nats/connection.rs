//! The connection to a NATS server: connecting, reconnecting without limit, logging.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::watch;

use super::{
    address::addresses, connection_state::ConnectionState, error::ConnectError,
    health::ConnectionHealth, login::Login,
};

/// Timeout of one attempt to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Interval of pings. After two unanswered ones the connection counts as lost: the server may hang,
/// or the network may drop packets, while the connection seems to exist.
const PING_PERIOD: Duration = Duration::from_secs(10);
/// The pause before the first attempt to reconnect after a stable connection: until then the server
/// sends requests into the lost one.
const RECONNECT_SOON: Duration = Duration::from_millis(2);
/// The pause before the second attempt to reconnect; it doubles with each further one.
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
/// The granularity of the jitter.
const JITTER_PARTS: u32 = 1_000;
/// The longest pause between attempts to reconnect.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// A server and its login.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// One or more URLs separated by commas: `nats://127.0.0.1:4222`.
    pub url: String,
    /// The same, without passwords.
    pub shown: String,
    /// The login, and how the server proves its identity.
    pub login: Login,
    /// The connection's name at the server.
    pub name: String,
}

impl NatsSettings {
    /// Checks the address before anything else happens.
    pub fn check(&self) -> Result<(), ConnectError> {
        addresses(&self.url, &self.shown).map(drop)
    }
}

/// The observable state of a connection.
#[derive(Clone)]
pub(super) struct ConnectionWatch {
    /// The number of the current connection, from 1.
    pub(super) connections: watch::Receiver<u64>,
    /// Whether there is a connection.
    pub(super) state: watch::Receiver<ConnectionState>,
    /// Its problems.
    pub(super) health: Arc<ConnectionHealth>,
}

/// The sending side of [`ConnectionWatch`].
#[derive(Clone)]
struct ConnectionReporter {
    connections: watch::Sender<u64>,
    state: watch::Sender<ConnectionState>,
    health: Arc<ConnectionHealth>,
}

impl ConnectionReporter {
    fn new() -> (Self, ConnectionWatch) {
        let ((connections, connections_receiver), (state, state_receiver)) =
            (watch::channel(0), watch::channel(ConnectionState::new()));
        let health = Arc::new(ConnectionHealth::default());
        let watch = ConnectionWatch {
            connections: connections_receiver,
            state: state_receiver,
            health: Arc::clone(&health),
        };
        (Self { connections, state, health }, watch)
    }
}

/// Connects. An absent server is retried in the background; one that refuses is an error.
pub(super) async fn connect(
    settings: &NatsSettings,
) -> Result<(Client, ConnectionWatch), ConnectError> {
    let addresses = addresses(&settings.url, &settings.shown)?;
    let (reporter, watch) = ConnectionReporter::new();
    let refused = |error: async_nats::ConnectError| ConnectError::Refused {
        url: settings.shown.clone(),
        reason: error.to_string(),
    };
    match options(settings, &reporter).await?.connect(addresses.clone()).await {
        Ok(client) => return Ok((client, watch)),
        Err(error) => match error.kind() {
            ConnectErrorKind::Io | ConnectErrorKind::Dns | ConnectErrorKind::TimedOut => {
                let url = settings.shown.clone();
                tracing::warn!(%error, url, "no NATS server responds yet; retrying");
                reporter.state.send_modify(ConnectionState::note_lost);
            }
            _ => return Err(refused(error)),
        },
    }
    let patient = options(settings, &reporter).await?.retry_on_initial_connect();
    Ok((patient.connect(addresses).await.map_err(refused)?, watch))
}

async fn options(
    settings: &NatsSettings,
    reporter: &ConnectionReporter,
) -> Result<ConnectOptions, ConnectError> {
    let (reporter, lame_ducks) = (reporter.clone(), AtomicU64::new(0));
    let health = Arc::clone(&reporter.health);
    let options = ConnectOptions::new()
        .name(&settings.name)
        .connection_timeout(CONNECT_MAX)
        .ping_interval(PING_PERIOD)
        // Each request has its own timeout.
        .request_timeout(None)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempts| {
            // They are counted from 1.
            let further = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
            let doublings = further.saturating_add(health.doublings()).min(16);
            if doublings == 0 {
                return jittered(RECONNECT_SOON);
            }
            jittered((RECONNECT_FIRST * 2_u32.pow(doublings)).min(RECONNECT_MAX))
        })
        .event_callback(move |event| {
            report(&event, &reporter, &lame_ducks);
            std::future::ready(())
        });
    settings.login.apply(options, &addresses(&settings.url, &settings.shown)?).await
}

/// Half of the pause plus a random part of the other half, so that clients that lost a server
/// together do not return together.
fn jittered(pause: Duration) -> Duration {
    // The unpredictable keys of a hasher are random enough here, and need no generator.
    let chance = RandomState::new().hash_one(());
    let share = u32::try_from(chance % u64::from(JITTER_PARTS)).unwrap_or_default();
    pause / 2 + pause / 2 * share / JITTER_PARTS
}

/// Logs and counts an event of the connection.
fn report(event: &Event, reporter: &ConnectionReporter, lame_ducks: &AtomicU64) {
    match event {
        Event::Connected => {
            reporter.state.send_modify(ConnectionState::note_connected);
            reporter.connections.send_modify(|number| *number += 1);
            if reporter.health.may_write("connections") {
                tracing::info!("connected to the NATS server");
            }
        }
        Event::Disconnected => {
            reporter.state.send_modify(ConnectionState::note_lost);
            let count = reporter.health.lost();
            if reporter.health.may_write("losses") {
                tracing::warn!(count, "the connection to the NATS server is lost; retrying");
            }
        }
        Event::SlowConsumer(subscription) => {
            let count = reporter.health.metrics.slow_consumers.inc() + 1;
            if reporter.health.may_write("messages") {
                tracing::warn!(
                    count,
                    subscription,
                    "messages from the NATS server were lost: the queue was full"
                );
            }
        }
        Event::LameDuckMode => {
            let count = lame_ducks.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(count, "the NATS server is shutting down and redirects its clients");
        }
        Event::Draining | Event::Closed => {
            tracing::debug!(%event, "the connection to the NATS server ends");
        }
        // Repeated at each attempt to connect.
        Event::ClientError(error) => tracing::debug!(%error, "from the NATS client"),
        Event::ServerError(error) => {
            if reporter.health.refused(&error.to_string()) {
                tracing::warn!(%error, "from the NATS server");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_and_never_longer_than_meant() {
        let pauses: Vec<_> = (0..64).map(|_| jittered(RECONNECT_MAX)).collect();
        assert!(pauses.iter().all(|pause| (RECONNECT_MAX / 2..=RECONNECT_MAX).contains(pause)));
        assert!(pauses.iter().any(|pause| pause != &pauses[0]), "{pauses:?}");
    }
}
