//! The socket of a connection, as the HTTP library sees it.
//!
//! *Promises.* A client that reads nothing for too long is disconnected.

use std::{
    future::Future as _,
    io,
    net::Shutdown,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::{
    connection_limiter::{BusyGuard, ConnectionPermit},
    settings::BridgeSettings,
};

/// The socket of a connection.
pub struct HttpSocket {
    stream: Arc<TcpStream>,
    stall_max: Duration,
    /// Timer that runs while the client reads nothing; the answer counts as in progress meanwhile.
    stall: Option<(Pin<Box<Sleep>>, BusyGuard)>,
    /// Set as soon as the client has sent anything.
    was_heard: Arc<AtomicBool>,
    permit: Arc<ConnectionPermit>,
}

impl HttpSocket {
    /// Wraps the stream of the client on that seat.
    pub fn new(
        stream: Arc<TcpStream>,
        settings: &BridgeSettings,
        was_heard: Arc<AtomicBool>,
        permit: Arc<ConnectionPermit>,
    ) -> Self {
        Self { stream, stall_max: settings.write_stall_max, stall: None, was_heard, permit }
    }
}

impl AsyncRead for HttpSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = poll_read(&self.stream, cx, into);
        if into.filled().len() > before {
            self.was_heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for HttpSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = poll_write(&self.stream, cx, bytes);
        if polled.is_ready() {
            self.stall = None;
            return polled;
        }
        let Self { stall_max, permit, stall, .. } = &mut *self;
        let (stall, _) = stall
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(*stall_max)), permit.mark_busy()));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket does not buffer.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

/// Reads from the shared stream.
fn poll_read(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_read(into.initialize_unfilled()) {
            Ok(bytes) => {
                into.advance(bytes);
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Writes to the shared stream.
fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}
