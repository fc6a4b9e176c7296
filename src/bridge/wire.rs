//! The socket of a connection, as the HTTP library sees it.
//!
//! *Promises.* A client that takes nothing for too long is let go. The library answers what is no HTTP request by
//! itself, with a bare status: such an answer gets the headers and the body that every answer has.

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

use ai_factory_actors::ports::world::World;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::{
    seats::{Occupied, Seat},
    settings::BridgeSettings,
};

/// The longest bare refusal of the library, in bytes; in truth it is about half of that.
const BARE_BYTES_MAX: usize = 256;

/// The socket of a connection.
pub struct Wire {
    stream: Arc<TcpStream>,
    stall_max: Duration,
    /// Runs while the client takes nothing. Its answer is under way so long.
    stall: Option<(Pin<Box<Sleep>>, Occupied)>,
    /// Set as soon as the client has sent anything.
    was_heard: Arc<AtomicBool>,
    seat: Arc<Seat>,
    /// The longest address, in bytes.
    uri_bytes_max: usize,
    line: RequestLine,
    world: Arc<dyn World>,
    /// What is written in the place of a bare refusal, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
}

/// What is known of the line that a request begins with. The library does not tell a head that is too large because of
/// its address from one with too many headers.
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

impl Wire {
    /// Around the stream of the client on that seat.
    pub fn new(
        stream: Arc<TcpStream>,
        settings: &BridgeSettings,
        was_heard: Arc<AtomicBool>,
        seat: Arc<Seat>,
        world: Arc<dyn World>,
    ) -> Self {
        Self {
            stream,
            stall_max: settings.write_stall_max,
            stall: None,
            was_heard,
            seat,
            uri_bytes_max: settings.uri_bytes_max,
            line: RequestLine::default(),
            world,
            instead: None,
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = poll_write(&self.stream, cx, bytes);
        if polled.is_ready() {
            self.stall = None;
            return polled;
        }
        let (stall_max, seat) = (self.stall_max, &self.seat);
        let (stall, _) = self
            .stall
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(stall_max)), seat.occupied()));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Wire {
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

impl AsyncWrite for Wire {
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
            instead.extend_from_slice(dressed(status, &self.world.new_id().to_string()).as_bytes());
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
        // A socket holds nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

/// Reads from a stream that others look at too.
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

/// Writes to it.
fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Where a bare refusal begins that ends these bytes, and its status. No answer of ours ends like one: its head
/// names the request, and its body has no bare line breaks of this kind.
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

/// The refusal as every answer is.
fn dressed(status: u16, id: &str) -> String {
    let (reason, sentence) = match status {
        414 => ("URI Too Long", "the address is too long"),
        431 => ("Request Header Fields Too Large", "the headers are too many or too long"),
        _ => ("Bad Request", "this is no HTTP/1.1 request"),
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
