//! The socket of a connection, as the HTTP library sees it.
//!
//! *Promises.* A client that reads nothing for too long is disconnected. The library itself answers
//! data that is no HTTP request, with a bare status: such answers get the headers and body that
//! every answer has.

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

use ai_factory_ports::clock::IdSource;
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

/// Upper bound on the library's bare refusal, in bytes; the real size is about half.
const BARE_BYTES_MAX: usize = 256;

/// The socket of a connection.
pub struct HttpSocket {
    stream: Arc<TcpStream>,
    stall_max: Duration,
    /// Timer that runs while the client reads nothing; the answer counts as in progress meanwhile.
    stall: Option<(Pin<Box<Sleep>>, BusyGuard)>,
    /// Set as soon as the client has sent anything.
    was_heard: Arc<AtomicBool>,
    permit: Arc<ConnectionPermit>,
    /// The longest request target, in bytes.
    uri_bytes_max: usize,
    line: RequestLine,
    ids: Arc<dyn IdSource>,
    /// The replacement for a bare refusal, and the number of its bytes written so far.
    instead: Option<(Vec<u8>, usize)>,
}

/// The state of the request line. The library does not distinguish a head that is too large because
/// of its address from one with too many headers.
#[derive(Default)]
struct RequestLine {
    bytes: usize,
    is_whole: bool,
}

impl RequestLine {
    fn hear(&mut self, bytes: &[u8]) {
        if !self.is_whole {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            self.is_whole = end.is_some();
            self.bytes += end.unwrap_or(bytes.len());
        }
    }
}

impl HttpSocket {
    /// Wraps the stream of the client on that seat.
    pub fn new(
        stream: Arc<TcpStream>,
        settings: &BridgeSettings,
        was_heard: Arc<AtomicBool>,
        permit: Arc<ConnectionPermit>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self {
            stream,
            stall_max: settings.write_stall_max,
            stall: None,
            was_heard,
            permit,
            uri_bytes_max: settings.uri_bytes_max,
            line: RequestLine::default(),
            ids,
            instead: None,
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = poll_write(&self.stream, cx, bytes);
        if polled.is_ready() {
            self.stall = None;
            return polled;
        }
        let (stall_max, permit) = (self.stall_max, &self.permit);
        let (stall, _) = self
            .stall
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(stall_max)), permit.mark_busy()));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for HttpSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = poll_read(&self.stream, cx, into);
        if into.filled().len() > before {
            self.was_heard.store(true, Ordering::Relaxed);
            self.line.hear(&into.filled()[before..]);
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
        if self.instead.is_none() {
            let Some((begin, mut status)) = bare_refusal(bytes) else {
                self.line = RequestLine::default();
                return self.poll_out(cx, bytes);
            };
            if status == 431 && self.line.bytes > self.uri_bytes_max {
                status = 414;
            }
            let mut instead = bytes[..begin].to_vec();
            instead.extend_from_slice(refusal(status, &self.ids.new_id().to_string()).as_bytes());
            self.instead = Some((instead, 0));
        }
        while let Some((instead, written)) = self.instead.take() {
            if written == instead.len() {
                break;
            }
            let polled = self.poll_out(cx, &instead[written..]);
            let more = if let Poll::Ready(Ok(more)) = &polled { *more } else { 0 };
            self.instead = Some((instead, written + more));
            if ready!(polled)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(bytes.len()))
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

/// The start of a bare refusal that ends these bytes, and its status. No answer of this server ends
/// like one: its head has a request id, and its body has no such line breaks.
fn bare_refusal(bytes: &[u8]) -> Option<(usize, u16)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = bytes.len().saturating_sub(BARE_BYTES_MAX);
    let begin = from + bytes[from..].windows(7).rposition(|window| window == b"HTTP/1.")?;
    let head = std::str::from_utf8(&bytes[begin..]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok().filter(|status| *status >= 400)?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && !head.contains("\r\nx-request-id:");
    is_bare.then_some((begin, status))
}

/// The refusal with the headers and body of every answer.
fn refusal(status: u16, id: &str) -> String {
    let (reason, sentence) = match status {
        414 => ("URI Too Long", "the address is too long"),
        431 => ("Request Header Fields Too Large", "the headers are too many or too long"),
        _ => ("Bad Request", "not an HTTP/1.1 request"),
    };
    let body = format!(r#"{{"detail":"{sentence}"}}"#);
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nx-request-id: {id}\r\n\
         x-duration: 0.000\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_refusal_is_dressed() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\
                    date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
        assert_eq!(bare_refusal(bare.as_bytes()), Some((0, 431)));
        let behind = format!("{}{bare}", "x".repeat(1000));
        assert_eq!(bare_refusal(behind.as_bytes()), Some((1000, 431)));
        for own in [
            "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "data: HTTP/1.1 400 Bad Request\n\n\r\n0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n ",
            "",
        ] {
            assert_eq!(bare_refusal(own.as_bytes()), None, "{own:?}");
        }
    }
}
