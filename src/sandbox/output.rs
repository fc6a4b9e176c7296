//! Output streams: bounded capture, and conversion to text.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

use super::frames::CapturedStream;

/// The default capacity of a pipe: one read returns no more anyway.
const READ_BYTES: usize = 64 * 1024;
/// Bound on the reads after the program's end. A pipe without writers holds far less (at most 1 MiB
/// for ordinary users); the bound keeps an escaped writer from occupying the reader for ever.
const LAST_READS_MAX: usize = 1024;

/// One stream of a program: beginning and end are kept, all bytes are counted.
pub(super) struct Capture {
    pipe: Option<OwnedFd>,
    pub(super) kept: HeadAndTail,
    pub(super) bytes_total: u64,
    buffer: Box<[u8]>,
}

/// The kept parts of a stream: half of the limit for its beginning, half for its end.
pub(super) struct HeadAndTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_max: usize,
    tail_max: usize,
}

impl HeadAndTail {
    fn new(bytes_max: usize) -> Self {
        let tail_max = bytes_max / 2;
        let head_max = bytes_max - tail_max;
        Self { head: Vec::new(), tail: VecDeque::new(), head_max, tail_max }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.head_max.saturating_sub(self.head.len());
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.tail_max)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// The beginning, and the end of the remainder.
    pub(super) fn parts(&mut self) -> (&[u8], &[u8]) {
        (&self.head, self.tail.make_contiguous())
    }
}

impl Capture {
    /// Captures the data of `pipe` without blocking.
    pub(super) fn new(pipe: Option<OwnedFd>, bytes_max: usize) -> rustix::io::Result<Self> {
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Self { pipe, kept: HeadAndTail::new(bytes_max), bytes_total: 0, buffer })
    }

    /// The descriptor to poll; `None` once all writers are gone.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads up to one buffer; returns whether there may be more.
    pub(super) fn read(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        match rustix::io::read(pipe, &mut self.buffer[..]) {
            Ok(count @ 1..) => {
                self.kept.add(&self.buffer[..count]);
                self.bytes_total += count as u64;
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    /// The numbers of kept and of total bytes.
    pub(super) fn header(&mut self) -> CapturedStream {
        let total_bytes = self.bytes_total;
        let (head, tail) = self.kept.parts();
        CapturedStream { head_bytes: head.len(), tail_bytes: tail.len(), total_bytes }
    }

    /// Reads the remainder after the program's end. Does not wait for the end of the stream: an
    /// escaped process might hold it open.
    pub(super) fn read_rest(&mut self) {
        for _ in 0..LAST_READS_MAX {
            if !self.read() {
                return;
            }
        }
    }
}

/// A stream as text: invalid UTF-8 becomes replacement characters; a cut is marked at its place and
/// at the end.
pub(super) fn show(name: &str, head: &[u8], tail: &[u8], bytes_total: u64) -> String {
    let kept = (head.len() + tail.len()) as u64;
    if bytes_total <= kept {
        return String::from_utf8_lossy(&[head, tail].concat()).into_owned();
    }
    let mut text = String::from_utf8_lossy(without_half_character(head)).into_owned();
    if !tail.is_empty() {
        let line = format!("\n[{} bytes left out]\n", bytes_total - kept);
        text.push_str(&line);
        text.push_str(&String::from_utf8_lossy(without_other_half(tail)));
    }
    let line = format!("[{name} cut: {kept} of {bytes_total} bytes kept]");
    text.push('\n');
    text + &line
}

/// Without the trailing bytes of a character that the cut split.
fn without_other_half(bytes: &[u8]) -> &[u8] {
    let is_continued = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    &bytes[bytes.iter().take(3).take_while(is_continued).count()..]
}

/// Without the leading bytes of a character that the cut split.
fn without_half_character(bytes: &[u8]) -> &[u8] {
    // A UTF-8 character has at most four bytes.
    let tail = bytes.len().saturating_sub(3);
    let start = bytes[tail..].iter().rposition(|byte| byte & 0b1100_0000 != 0b1000_0000);
    let Some(start) = start.map(|start| tail + start) else { return bytes };
    match std::str::from_utf8(&bytes[start..]) {
        Err(error) if error.error_len().is_none() => &bytes[..start],
        _ => bytes,
    }
}

/// `text` with one more line, without a final line break.
pub(super) fn with_line(mut text: String, line: &str) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + line
}

/// `SIGKILL` for 9; the number itself where it has no name.
pub(super) fn signal_name(number: i32) -> String {
    use rustix::process::Signal;
    let names = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    let found = names.iter().find(|(signal, _)| signal.as_raw() == number);
    found.map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_said_and_splits_no_character() {
        assert_eq!(show("stdout", b"all", b"", 3), "all");
        assert_eq!(show("stdout", "\u{1f600}".as_bytes(), b"all", 7), "\u{1f600}all");
        assert_eq!(show("stdout", b"som", b"", 9), "som\n[stdout cut: 3 of 9 bytes kept]");
        let both = show("stdout", b"so", &[0x80, b'x', b'y'], 9);
        assert_eq!(both, "so\n[4 bytes left out]\nxy\n[stdout cut: 5 of 9 bytes kept]");
        for cut in 1..4 {
            let kept = &"a\u{1f600}".as_bytes()[..=cut];
            let shown = show("stderr", kept, b"", 9);
            let expected = format!("a\n[stderr cut: {} of 9 bytes kept]", kept.len());
            assert_eq!(shown, expected);
        }
        assert!(show("stdout", "a\u{1f600}".as_bytes(), b"", 9).starts_with("a\u{1f600}\n["));
        assert!(show("stdout", &[0x80; 5], b"", 9).starts_with("\u{fffd}\u{fffd}\u{fffd}"));
        assert!(show("stdout", b"", b"", 9).starts_with("\n[stdout cut: 0 of 9"));
    }

    #[test]
    fn invalid_utf_8_is_shown_with_replacement_characters() {
        assert_eq!(show("stdout", b"a\xffb\xf0\x9f", b"", 5), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let parts = |bytes_max, pieces: &[&[u8]]| {
            let mut kept = HeadAndTail::new(bytes_max);
            for piece in pieces {
                kept.add(piece);
            }
            let (head, tail) = kept.parts();
            (head.to_vec(), tail.to_vec())
        };
        assert_eq!(parts(5, &[b"abc"]), (b"abc".to_vec(), vec![]));
        assert_eq!(parts(5, &[b"ab", b"cd", b"ef", b"g"]), (b"abc".to_vec(), b"fg".to_vec()));
        assert_eq!(parts(4, &[b"abcdefgh", b"i"]), (b"ab".to_vec(), b"hi".to_vec()));
        assert_eq!(parts(1, &[b"abc"]), (b"a".to_vec(), vec![]));
    }

    #[test]
    fn an_added_line_stands_on_its_own() {
        assert_eq!(with_line(String::new(), "x"), "x");
        assert_eq!(with_line("a".into(), "x"), "a\nx");
        assert_eq!(with_line("a\n".into(), "x"), "a\nx");
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(40), "signal 40");
    }
}
