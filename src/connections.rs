//! The connections to others: a NATS server, also one of our own. Opened before the factory starts,
//! closed after it has ended.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_ports::trace::Traces;

use crate::{
    bridge::{ListenRefused, ParseTokenError},
    config::Settings,
    nats::{ConnectError, NatsBus, NatsServer, ServerError, ServerSettings, without_passwords},
    telemetry::TelemetryMetrics,
};

mod address;

pub use address::nats_settings;

/// The default address of a managed NATS server.
const OWN_SERVER: &str = "nats://127.0.0.1:4222";

/// Why a connection or the HTTP server is not available.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// The connection to NATS failed.
    #[error(transparent)]
    Nats(#[from] ConnectError),
    /// The managed NATS server did not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No server can be started at this address.
    #[error(
        "a NATS server cannot be started at {0}: `--start-nats` needs one address of this machine, such as nats://127.0.0.1:4222"
    )]
    NotHere(String),
    /// Other machines could reach the address without a token.
    #[error(transparent)]
    Open(#[from] ListenRefused),
    /// The token is invalid.
    #[error("the setting `token` cannot be used: {0}")]
    Token(#[from] ParseTokenError),
    /// Listening for HTTP failed.
    #[error("cannot listen on {address}: {reason}; choose another with --host and --port")]
    Listen {
        /// The address from the settings.
        address: String,
        /// The error.
        reason: io::Error,
    },
}

/// The open connections.
pub struct Connections {
    /// The connection to NATS.
    pub nats: Option<Arc<NatsBus>>,
    /// Traces that began outside the process.
    pub traces: Arc<dyn Traces>,
    /// Whether a subscriber within this process may need events on the internal bus.
    pub events_inside: bool,
    /// What the process's telemetry loses.
    pub telemetry: TelemetryMetrics,
    server: Option<NatsServer>,
}

impl Connections {
    /// No connections.
    pub fn new(traces: Arc<dyn Traces>) -> Self {
        Self {
            nats: None,
            traces,
            events_inside: true,
            telemetry: TelemetryMetrics::default(),
            server: None,
        }
    }

    /// Opens the configured connections, with a managed NATS server if `start_nats` is set.
    pub async fn open(
        settings: &Settings,
        start_nats: bool,
        traces: Arc<dyn Traces>,
    ) -> Result<Self, IngressError> {
        let own = (start_nats && settings.nats.is_empty()).then_some(OWN_SERVER);
        let name = format!("ai-factory {}", settings.node);
        let Some(nats) = nats_settings(settings, own, name)? else {
            return Ok(Self { events_inside: false, ..Self::new(traces) });
        };
        let server = if start_nats {
            Some(NatsServer::start(server(settings, &nats.url)?).await?)
        } else {
            None
        };
        match NatsBus::connect(&nats).await {
            Ok(nats) => {
                let events_inside = false;
                Ok(Self { nats: Some(nats), events_inside, server, ..Self::new(traces) })
            }
            Err(error) => {
                Self { server, ..Self::new(traces) }.close().await;
                Err(error.into())
            }
        }
    }

    /// Closes the connections. Acknowledged messages have been sent.
    pub async fn close(self) {
        if let Some(nats) = self.nats {
            nats.close().await;
        }
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

fn non_empty(path: &Path) -> Option<PathBuf> {
    Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty())
}

fn server(settings: &Settings, url: &str) -> Result<ServerSettings, IngressError> {
    let not_here = || IngressError::NotHere(without_passwords(url));
    let authority = url.rsplit_once("://").map_or(url, |(_, authority)| authority);
    let authority = authority.replace("localhost", "127.0.0.1");
    let with_port = if authority.contains(':') { authority } else { format!("{authority}:4222") };
    let address: SocketAddr = with_port.parse().map_err(|_| not_here())?;
    Ok(ServerSettings {
        program: settings.nats_server.clone(),
        config: non_empty(&settings.nats_config),
        directory: settings.data_dir.join("nats"),
        address,
    })
}
