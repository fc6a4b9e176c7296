//! Detects whether the client of a connection is still there.
//!
//! A client that has closed only its sending side (`shutdown(SHUT_WR)`, `nc -N`) waits for its
//! answer. On the wire it looks like a client that is gone; only the next data sent tells them
//! apart, because a vanished client's system replies with a reset. So a stream of events sends a
//! comment as soon as the client closes its sending side, and the system sends keep-alive probes on
//! an idle connection ([`probe`]).

use std::{future::pending, io, net::IpAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
};

/// Idle time before the first keep-alive probe, and interval of further ones. The system of a
/// vanished client forgets the connection after a minute (Linux, `tcp_fin_timeout`): the next probe
/// is answered with a reset.
const PROBE_AFTER: Duration = Duration::from_secs(15);

/// Enables keep-alive probes on the connections that `listener` will accept.
pub fn probe(listener: &TcpListener) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_AFTER);
    SockRef::from(listener).set_tcp_keepalive(&probes)
}

/// The client of a connection.
#[derive(Clone)]
pub struct Peer(Arc<TcpStream>);

impl Peer {
    /// The client at the other end of the stream.
    pub fn new(stream: &Arc<TcpStream>) -> Self {
        Self(Arc::clone(stream))
    }

    /// Its address, while there is a connection.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.peer_addr().ok().map(|address| address.ip())
    }

    /// Resolves when data no longer reaches it.
    pub async fn gone(&self) {
        // A socket that cannot be polled: its next read reports the error.
        if self.0.ready(Interest::ERROR).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Resolves when the client has closed its sending side and may be gone. Never resolves while
    /// data from it is unread: what follows that data is not visible.
    pub async fn sends_no_more(&self) {
        if matches!(self.0.peek(&mut [0]).await, Ok(1..)) {
            pending::<()>().await;
        }
    }
}
