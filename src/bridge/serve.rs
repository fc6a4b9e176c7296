//! Connections: taking them in, as many as there is room for, and ending them in order.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use super::{
    Bridge,
    door::{self, Desk},
    guard::Guard,
    wire::Wire,
};

/// How long to wait after the system had no connection to give, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The least that the HTTP library buffers of a connection, in bytes.
const BUFFER_BYTES_MIN: usize = 64 * 1024;

impl Bridge {
    /// Serves until `until` is over: then takes no more connections, ends the streams of events, and answers what is
    /// under way. Dropping it ends everything at once.
    pub async fn serve(
        self,
        listener: TcpListener,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let guard = Guard::new(listener.local_addr()?, &self.settings).map_err(io::Error::other)?;
        let (ending, ended) = watch::channel(false);
        let room = Arc::new(Semaphore::new(self.settings.connections_max));
        let desk = Arc::new(Desk::new(self, guard, ended));
        let router = door::router(&desk);
        let mut connections = JoinSet::new();
        let mut until = pin!(until);
        loop {
            let (stream, place) = tokio::select! {
                () = &mut until => break,
                accepted = accept(&listener, &room) => accepted,
            };
            while connections.try_join_next().is_some() {}
            connections.spawn(connection(stream, place, router.clone(), Arc::clone(&desk)));
        }
        drop(listener);
        ending.send_replace(true);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(place) = Arc::clone(room).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    router: Router,
    desk: Arc<Desk>,
) {
    // An answer is one piece: waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let settings = &desk.bridge.settings;
    let was_heard = Arc::new(AtomicBool::new(false));
    let world = Arc::clone(&desk.bridge.world);
    let wire = Wire::new(stream, settings.write_stall_max, Arc::clone(&was_heard), world);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.head_read_max)
        .max_header_size(settings.head_bytes_max)
        .max_buf_size(settings.head_bytes_max.max(BUFFER_BYTES_MIN));
    let service = TowerToHyperService::new(router);
    let mut served = pin!(http.serve_connection(TokioIo::new(wire), service));
    let mut ended = desk.ended.clone();
    tokio::select! {
        _ = served.as_mut() => return,
        _ = ended.wait_for(|ended| *ended) => {}
    }
    // Who has not asked for anything yet has nothing under way.
    if was_heard.load(Ordering::Relaxed) {
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    }
}
