//! The doors: where others come in. Opened before the factory starts, closed after it has ended.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use crate::{
    bus::nats::{ConnectError, NatsBus, NatsServer, NatsSettings, ServerError, ServerSettings},
    config::{Settings, without_passwords},
};

/// Where a NATS server of our own listens unless settings say otherwise.
const OWN_SERVER: &str = "nats://127.0.0.1:4222";

/// Why a door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The connection to NATS.
    #[error(transparent)]
    Nats(#[from] ConnectError),
    /// The NATS server of our own.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A server cannot be started there.
    #[error(
        "a NATS server cannot be started at {0}: `--start-nats` needs one address of this machine, such as nats://127.0.0.1:4222"
    )]
    NotHere(String),
}

/// The doors that are open.
#[derive(Default)]
pub struct Doors {
    /// The connection to NATS.
    pub nats: Option<Arc<NatsBus>>,
    server: Option<NatsServer>,
}

impl Doors {
    /// Opens what the settings ask for, with a NATS server of our own where `start_nats` says so.
    pub async fn open(settings: &Settings, start_nats: bool) -> Result<Self, DoorError> {
        let url = match settings.nats.as_str() {
            "" if start_nats => OWN_SERVER,
            "" => return Ok(Self::default()),
            url => url,
        };
        let server = match start_nats {
            true => Some(NatsServer::start(server(settings, url)?).await?),
            false => None,
        };
        let nats = NatsSettings {
            url: url.to_owned(),
            shown: without_passwords(url),
            credentials: given(&settings.nats_credentials),
            name: format!("ai-factory {}", settings.node),
        };
        match NatsBus::connect(&nats).await {
            Ok(nats) => Ok(Self { nats: Some(nats), server }),
            Err(error) => {
                Self { nats: None, server }.close().await;
                Err(error.into())
            }
        }
    }

    /// Closes them. What was acknowledged has left.
    pub async fn close(self) {
        if let Some(nats) = self.nats {
            nats.close().await;
        }
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

fn given(path: &PathBuf) -> Option<PathBuf> {
    Some(path.clone()).filter(|path| !path.as_os_str().is_empty())
}

fn server(settings: &Settings, url: &str) -> Result<ServerSettings, DoorError> {
    let not_here = || DoorError::NotHere(without_passwords(url));
    let authority = url.rsplit_once("://").map_or(url, |(_, authority)| authority);
    let authority = authority.replace("localhost", "127.0.0.1");
    let with_port = if authority.contains(':') { authority } else { format!("{authority}:4222") };
    let address: SocketAddr = with_port.parse().map_err(|_| not_here())?;
    Ok(ServerSettings {
        program: settings.nats_server.clone(),
        config: given(&settings.nats_config),
        directory: settings.data_dir.join("nats"),
        address,
    })
}
