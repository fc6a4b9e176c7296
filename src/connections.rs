//! HTTP and NATS connections: opened before the factory starts, closed after it has ended.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ai_factory_actors::ports::trace::Traces;
use ai_factory_schemas::health::UnderWay;
use tokio::net::TcpListener;

use crate::{
    bridge::{
        Ailment, Bridge, BridgeSettings, MayNotListen, ParseTokenError, RUN_ANSWER_MAX, Token,
        Vitals, may_listen,
    },
    bus::nats::{ConnectError, NatsBus, NatsServer, ServerError, ServerSettings},
    config::{Settings, without_passwords},
    wiring::Factory,
};

mod address;

pub use address::nats_settings;

/// The default address of a managed NATS server.
const OWN_SERVER: &str = "nats://127.0.0.1:4222";

/// Additional time for the reply over HTTP beyond the limit of the work.
const ANSWER_GRACE: Duration = Duration::from_mins(1);

/// Why a connection or the HTTP server is not available.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
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
    Open(#[from] MayNotListen),
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
pub struct Doors {
    /// The connection to NATS.
    pub nats: Option<Arc<NatsBus>>,
    /// Traces that began outside the process.
    pub traces: Arc<dyn Traces>,
    /// Whether a subscriber within this process may need events on the internal bus.
    pub events_inside: bool,
    server: Option<NatsServer>,
}

/// The HTTP address, bound and not yet served.
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

impl Doors {
    /// No connections.
    pub fn new(traces: Arc<dyn Traces>) -> Self {
        Self { nats: None, traces, events_inside: true, server: None }
    }

    /// Opens the configured connections, with a managed NATS server if `start_nats` is set.
    pub async fn open(
        settings: &Settings,
        start_nats: bool,
        traces: Arc<dyn Traces>,
    ) -> Result<Self, DoorError> {
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
            Ok(nats) => Ok(Self { nats: Some(nats), traces, events_inside: false, server }),
            Err(error) => {
                Self { nats: None, traces, events_inside: false, server }.close().await;
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

impl Http {
    /// Binds the address. From here on connections are queued.
    pub async fn listen(settings: &Settings) -> Result<Self, DoorError> {
        let token = settings.token.reveal();
        let address = if settings.host.contains(':') {
            format!("[{}]:{}", settings.host.trim_matches(['[', ']']), settings.port)
        } else {
            format!("{}:{}", settings.host, settings.port)
        };
        let refused = |reason| DoorError::Listen { address: address.clone(), reason };
        for found in tokio::net::lookup_host(&address).await.map_err(refused)? {
            may_listen(found.ip(), token)?;
        }
        let listener = TcpListener::bind(&address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, token: token.map(Token::new).transpose()? })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `until` ends and the requests in progress are answered; those still in progress
    /// after the shutdown limit are dropped.
    pub async fn serve(
        self,
        factory: &Factory,
        doors: &Doors,
        settings: &Settings,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (health, nats) = (factory.health(), doors.nats.clone());
        let (search, model) = (factory.search_ailment(), factory.model_ailment());
        let (remaking, making) = (factory.remaking(), factory.model_progress());
        let wall = |limit_ms: u64| Duration::from_millis(limit_ms).saturating_add(ANSWER_GRACE);
        let bridge = Bridge {
            bus: Arc::clone(&factory.bus),
            subjects: factory.subjects.clone(),
            journal: Arc::clone(&factory.journal),
            world: Arc::clone(&factory.world),
            traces: Arc::clone(&doors.traces),
            vitals: Arc::new(move || {
                let journal =
                    health().map(|reason| Ailment { part: "journal", reason, serves: false });
                let nats = nats.as_ref().and_then(|nats| nats.ailment()).map(|reason| Ailment {
                    part: "nats",
                    reason,
                    serves: true,
                });
                let search =
                    search().map(|reason| Ailment { part: "search", reason, serves: true });
                let model =
                    model().map(|reason| Ailment { part: "embedding", reason, serves: true });
                let remaking =
                    remaking().map(|progress| UnderWay { part: "search".to_owned(), progress });
                let making =
                    making().map(|progress| UnderWay { part: "embedding".to_owned(), progress });
                Vitals {
                    ailing: journal.into_iter().chain(nats).chain(search).chain(model).collect(),
                    under_way: remaking.into_iter().chain(making).collect(),
                }
            }),
            settings: BridgeSettings {
                token: self.token,
                run_answer_max: wall(settings.run_wall_ms_max).max(RUN_ANSWER_MAX),
                session_answer_max: wall(settings.session_ms_max),
                ..BridgeSettings::default()
            },
        };
        let limit = Duration::from_millis(settings.shutdown_ms_max);
        let (told, ending) = tokio::sync::oneshot::channel();
        let serving = bridge.serve(self.listener, async move {
            until.await;
            let _ = told.send(());
        });
        let late = async {
            let _ = ending.await;
            tokio::time::sleep(limit).await;
        };
        tokio::select! {
            served = serving => served,
            () = late => Ok(()),
        }
    }
}

fn given(path: &Path) -> Option<PathBuf> {
    Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty())
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
