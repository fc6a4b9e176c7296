//! The connection to a NATS server: made, taken up again without limit, and spoken of in the log.

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

use super::{address::addresses, health::Health, line::Line, login::Login};

/// How long one attempt to connect may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How often the server is asked for a sign of life. One that owes two answers counts as gone: it may hang, or the network
/// may have swallowed it, while the connection seems to be there.
const PING_PERIOD: Duration = Duration::from_secs(10);
/// The pause before the first attempt to connect again, where the connection is not lost all the time: until then the server
/// sends what others ask for into the old one.
const RECONNECT_SOON: Duration = Duration::from_millis(2);
/// The pause before the second attempt; each further one doubles it.
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
/// How finely pauses are spread.
const JITTER_PARTS: u32 = 1_000;
/// The longest pause between attempts to connect again.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// Which server, and how to be let in.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// One or more URLs with commas between them: `nats://127.0.0.1:4222`.
    pub url: String,
    /// The same, without passwords.
    pub shown: String,
    /// Who we are there, and how the server proves who it is.
    pub login: Login,
    /// What the server calls this connection.
    pub name: String,
}

/// Why there is no connection and will be none.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address makes no sense.
    #[error("`{url}` is no NATS address ({reason}): write it as nats://127.0.0.1:4222")]
    Address {
        /// As given, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that the connection needs: credentials, a seed, a certificate.
    #[error("`{path}`, which the connection to NATS needs, cannot be used: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The context of the `nats` command line.
    #[error("the nats context `{path}` cannot be used: {reason}; contexts there: {others}")]
    Context {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
        /// The names of those that there are.
        others: String,
    },
    /// The server does not let us in.
    #[error(
        "the NATS server at {url} refuses the connection ({reason}): give user and password in the address, \
         nats://USER:PASSWORD@HOST, or with settings such as `nats_credentials`, `nats_nkey`, `nats_ca`, or name a context of \
         the nats command line with --context"
    )]
    Refused {
        /// Without a password.
        url: String,
        /// What it says.
        reason: String,
    },
}

impl NatsSettings {
    /// Refuses an address that is none, before anything is done for it.
    pub fn check(&self) -> Result<(), ConnectError> {
        addresses(&self.url, &self.shown).map(drop)
    }
}

/// What is told of a connection.
#[derive(Clone)]
pub(super) struct Told {
    /// Each new connection, by its number.
    pub(super) connections: watch::Receiver<u64>,
    /// Whether there is one.
    pub(super) line: watch::Receiver<Line>,
    /// What does not work with it.
    pub(super) health: Arc<Health>,
}

/// Who tells it.
#[derive(Clone)]
struct Teller {
    connections: watch::Sender<u64>,
    line: watch::Sender<Line>,
    health: Arc<Health>,
}

impl Teller {
    fn new() -> (Self, Told) {
        let ((connections, told), (line, state)) = (watch::channel(0), watch::channel(Line::new()));
        let health = Arc::new(Health::default());
        let told = Told { connections: told, line: state, health: Arc::clone(&health) };
        (Self { connections, line, health }, told)
    }
}

/// Connects. A server that is not there yet is waited for behind the scenes; one that refuses is an error.
pub(super) async fn connect(settings: &NatsSettings) -> Result<(Client, Told), ConnectError> {
    let addresses = addresses(&settings.url, &settings.shown)?;
    let (teller, told) = Teller::new();
    let refused = |error: async_nats::ConnectError| ConnectError::Refused {
        url: settings.shown.clone(),
        reason: error.to_string(),
    };
    match options(settings, &teller).await?.connect(addresses.clone()).await {
        Ok(client) => return Ok((client, told)),
        Err(error) => match error.kind() {
            ConnectErrorKind::Io | ConnectErrorKind::Dns | ConnectErrorKind::TimedOut => {
                let url = settings.shown.clone();
                tracing::warn!(%error, url, "no NATS server answers yet; trying again");
                teller.line.send_modify(Line::lost);
            }
            _ => return Err(refused(error)),
        },
    }
    let patient = options(settings, &teller).await?.retry_on_initial_connect();
    Ok((patient.connect(addresses).await.map_err(refused)?, told))
}

async fn options(settings: &NatsSettings, teller: &Teller) -> Result<ConnectOptions, ConnectError> {
    let (teller, counts) = (teller.clone(), Arc::new(Counts::default()));
    let health = Arc::clone(&teller.health);
    let options = ConnectOptions::new()
        .name(&settings.name)
        .connection_timeout(CONNECT_MAX)
        .ping_interval(PING_PERIOD)
        // Each request has a limit of its own.
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
            tell(&event, &teller, &counts);
            std::future::ready(())
        });
    settings.login.apply(options, &addresses(&settings.url, &settings.shown)?).await
}

/// Half of the pause and something of the other half, so that those who lost a server together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // Keys that nobody can foresee are enough of a chance here, and need no generator.
    let chance = RandomState::new().hash_one(());
    let share = u32::try_from(chance % u64::from(JITTER_PARTS)).unwrap_or_default();
    pause / 2 + pause / 2 * share / JITTER_PARTS
}

/// How often what should not happen has happened on a connection.
#[derive(Default)]
struct Counts {
    lost: AtomicU64,
    slow: AtomicU64,
    lame_duck: AtomicU64,
}

/// Counts one more.
fn next(count: &AtomicU64) -> u64 {
    count.fetch_add(1, Ordering::Relaxed) + 1
}

/// Says what happened to the connection, and counts it.
fn tell(event: &Event, teller: &Teller, counts: &Counts) {
    match event {
        Event::Connected => {
            teller.line.send_modify(Line::found);
            teller.connections.send_modify(|number| *number += 1);
            if teller.health.may_write("connections") {
                tracing::info!("connected to the NATS server");
            }
        }
        Event::Disconnected => {
            teller.line.send_modify(Line::lost);
            teller.health.lost();
            let count = next(&counts.lost);
            if teller.health.may_write("losses") {
                tracing::warn!(count, "the connection to the NATS server is lost; trying again");
            }
        }
        Event::SlowConsumer(subscription) => {
            let count = next(&counts.slow);
            if teller.health.may_write("messages") {
                tracing::warn!(
                    count,
                    subscription,
                    "messages from the NATS server were lost: too many waited"
                );
            }
        }
        Event::LameDuckMode => {
            let count = next(&counts.lame_duck);
            tracing::warn!(
                count,
                "the NATS server is about to go away and sends its clients to others"
            );
        }
        Event::Draining | Event::Closed => {
            tracing::debug!(%event, "the connection to the NATS server ends");
        }
        // Said again at each attempt to connect.
        Event::ClientError(error) => tracing::debug!(%error, "from the NATS client"),
        Event::ServerError(error) => {
            if teller.health.refused(&error.to_string()) {
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
