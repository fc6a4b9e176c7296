//! The HTTP server: an address that is taken before the factory starts, and served once it runs.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{
    bridge::{AccessToken, Bridge, BridgeSettings, check_listen_address},
    config::Settings,
    connections::{Connections, IngressError},
    services::AnswerLimits,
    wiring::Factory,
};

/// The HTTP address, bound and not yet served.
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<AccessToken>,
}

impl HttpServer {
    /// Binds the address. From here on connections are queued.
    pub async fn listen(settings: &Settings) -> Result<Self, IngressError> {
        let token = settings.token.reveal();
        let address = if settings.host.contains(':') {
            format!("[{}]:{}", settings.host.trim_matches(['[', ']']), settings.port)
        } else {
            format!("{}:{}", settings.host, settings.port)
        };
        let refused = |reason| IngressError::Listen { address: address.clone(), reason };
        for found in tokio::net::lookup_host(&address).await.map_err(refused)? {
            check_listen_address(found.ip(), token)?;
        }
        let listener = TcpListener::bind(&address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, token: token.map(AccessToken::new).transpose()? })
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
        connections: &Connections,
        settings: &Settings,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let health = Arc::clone(&factory.health);
        let answers = AnswerLimits::new(settings);
        let bridge = Bridge {
            bus: Arc::clone(&factory.bus),
            subjects: factory.subjects.clone(),
            tail: Arc::clone(&factory.tail),
            ids: Arc::clone(&factory.ids),
            traces: Arc::clone(&connections.traces),
            health_report: Arc::new(move || health.report()),
            settings: BridgeSettings {
                token: self.token,
                run_answer_max: answers.run,
                session_answer_max: answers.session,
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
