//! The other side of a connection: whether it is still there.
//!
//! A client that has closed its sending side alone (`shutdown(SHUT_WR)`, `nc -N`) waits for its
//! answer. On the wire it looks like one that is gone: only what is sent next tells them apart,
//! since whoever is gone answers it with a reset. So a stream of events sends a comment as soon as
//! the client sends no more, and the system sends probes while there is nothing to send
//! ([`probe`]).

use std::{future::pending, io, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
};

/// After how long a silence the system looks whether a client is still there, and how often from
/// then on. The system of a client that is gone forgets the connection after a minute (Linux,
/// `tcp_fin_timeout`): the next probe is answered with a reset.
const PROBE_AFTER: Duration = Duration::from_secs(15);

/// Has the system probe the silent connections that will be taken in.
pub fn probe(listener: &TcpListener) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_AFTER);
    SockRef::from(listener).set_tcp_keepalive(&probes)
}

/// The client of a connection.
#[derive(Clone)]
pub struct Peer(Arc<TcpStream>);

impl Peer {
    /// At the other end of that stream.
    pub fn new(stream: &Arc<TcpStream>) -> Self {
        Self(Arc::clone(stream))
    }

    /// Resolves when nothing that is sent reaches it any more.
    pub async fn gone(&self) {
        // A socket that cannot be waited for is known as broken to whoever reads it.
        if self.0.ready(Interest::ERROR).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Resolves when it sends no more, and may be gone. Never where it has sent something that is
    /// not read yet: what comes behind that is not seen.
    pub async fn sends_no_more(&self) {
        if matches!(self.0.peek(&mut [0]).await, Ok(1..)) {
            pending::<()>().await;
        }
    }
}
