//! Accepts connections, as many as the [connection limiter] permits, and ends them in order.
//!
//! [connection limiter]: super::connection_limiter

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    access::AccessPolicy,
    connection_limiter::{ConnectionLimiter, ConnectionPermit, ServiceLevel, TrackedBody},
    peer::{self, Peer},
    router,
    socket::HttpSocket,
    state::{Bridge, HttpState},
};

/// Pause after the system failed to accept a connection, for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for an idle connection to close before the next attempt to accept one.
const LEAVE_PAUSE: Duration = Duration::from_millis(1);
/// The smallest connection buffer of the HTTP library, in bytes.
const BUFFER_BYTES_MIN: usize = 64 * 1024;

impl Bridge {
    /// Serves until `until` resolves: then stops accepting, ends the event streams, and completes
    /// requests in progress. Dropping the future ends everything at once.
    pub async fn serve(
        self,
        listener: TcpListener,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        peer::probe(&listener)?;
        let access =
            AccessPolicy::new(listener.local_addr()?, &self.settings).map_err(io::Error::other)?;
        let ended = CancellationToken::new();
        let mut limiter = ConnectionLimiter::new(self.settings.connections_max);
        let state = Arc::new(HttpState::new(self, access, ended.clone()));
        let router = router::router(&state);
        let mut connections = JoinSet::new();
        let mut until = pin!(until);
        loop {
            let coming = async {
                let stream = accept(&listener, &mut limiter).await;
                loop {
                    while connections.try_join_next().is_some() {}
                    if let Some(permit) = limiter.acquire() {
                        break (stream, permit);
                    }
                    // None is idle, and health checks take no time: wait for the next one to end.
                    connections.join_next().await;
                }
            };
            let (stream, (permit, service)) = tokio::select! {
                () = &mut until => break,
                coming = coming => coming,
            };
            connections.spawn(connection(
                stream,
                permit,
                service,
                router.clone(),
                Arc::clone(&state),
            ));
        }
        drop(listener);
        ended.cancel();
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// The next connection.
async fn accept(listener: &TcpListener, limiter: &mut ConnectionLimiter) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Descriptors of idle connections may be what is missing.
            Err(error) if limiter.evict_idlest() => {
                tracing::debug!(%error, "an idle connection is closed in favour of a new one");
                tokio::time::sleep(LEAVE_PAUSE).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    permit: Arc<ConnectionPermit>,
    service: ServiceLevel,
    router: Router,
    state: Arc<HttpState>,
) {
    // An answer is written as a whole: waiting for more data would only delay it.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let peer = Peer::new(&stream);
    let settings = &state.bridge.settings;
    let was_heard = Arc::new(AtomicBool::new(false));
    let socket = HttpSocket::new(stream, settings, Arc::clone(&was_heard), Arc::clone(&permit));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.head_read_max)
        .max_header_size(settings.head_bytes_max)
        .max_buf_size(settings.head_bytes_max.max(BUFFER_BYTES_MIN))
        // A client that has closed only its sending side gets its answer.
        .half_close(true)
        .keep_alive(service == ServiceLevel::Full);
    let router = TowerToHyperService::new(router);
    let answering = hyper::service::service_fn(|mut request: Request<Incoming>| {
        let occupied = permit.mark_busy();
        if service == ServiceLevel::ChecksOnly {
            request.extensions_mut().insert(service);
        }
        request.extensions_mut().insert(peer.clone());
        let answered = router.call(request);
        async move { Ok::<_, Infallible>(answered.await?.map(|body| TrackedBody::new(body, occupied))) }
    });
    let mut served = pin!(http.serve_connection(TokioIo::new(socket), answering));
    let ended = &state.ended;
    let has_work = tokio::select! {
        // Requests that have arrived are started before any reason to close.
        biased;
        _ = served.as_mut() => return,
        () = peer.gone() => return,
        // A connection that has sent nothing has nothing in progress.
        () = ended.cancelled() => was_heard.load(Ordering::Relaxed),
        // A request may have arrived since the signal.
        () = permit.evicted() => !permit.is_idle(),
    };
    if has_work {
        served.as_mut().graceful_shutdown();
        tokio::select! {
            _ = served => {}
            () = peer.gone() => {}
        }
    }
}
