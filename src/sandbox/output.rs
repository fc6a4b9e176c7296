//! Output streams: capturing them within a bound, and showing them as text.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

/// As much as a pipe holds by default: more would not be read at once anyway.
const READ_BYTES: usize = 64 * 1024;
/// A pipe whose writers are all gone holds far less (its size is at most 1 MiB for ordinary users); the bound
/// stops an escaped writer from keeping its reader for ever.
const LAST_READS_MAX: usize = 1024;

/// One stream of a program: the beginning is kept, all is counted.
pub(super) struct Capture {
    pipe: Option<OwnedFd>,
    pub(super) kept: Vec<u8>,
    pub(super) bytes_total: u64,
    bytes_max: usize,
    buffer: Box<[u8]>,
}

impl Capture {
    /// Captures what arrives in `pipe`, never waiting for it.
    pub(super) fn new(pipe: Option<OwnedFd>, bytes_max: usize) -> rustix::io::Result<Self> {
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Self { pipe, kept: Vec::new(), bytes_total: 0, bytes_max, buffer })
    }

    /// What to wait for; `None` once all writers are gone.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there, up to one buffer; says whether there may be more.
    pub(super) fn read(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        match rustix::io::read(pipe, &mut self.buffer[..]) {
            Ok(count @ 1..) => {
                let room = self.bytes_max.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&self.buffer[..count.min(room)]);
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

    /// Takes what is left once the program is gone. Does not wait for the end of the stream: somebody who
    /// escaped might hold it open.
    pub(super) fn read_rest(&mut self) {
        for _ in 0..LAST_READS_MAX {
            if !self.read() {
                return;
            }
        }
    }
}

/// A stream as text: invalid UTF-8 becomes replacement characters, and a cut is said at the end.
pub(super) fn show(name: &str, kept: &[u8], bytes_total: u64) -> String {
    let is_cut = bytes_total > kept.len() as u64;
    let whole = if is_cut { without_half_character(kept) } else { kept };
    let mut text = String::from_utf8_lossy(whole).into_owned();
    if is_cut {
        let line = format!("[{name} cut: {} of {bytes_total} bytes kept]", kept.len());
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// Without the character that the cut went through.
fn without_half_character(bytes: &[u8]) -> &[u8] {
    // A character of UTF-8 has at most four bytes.
    let tail = bytes.len().saturating_sub(3);
    let start = bytes[tail..].iter().rposition(|byte| byte & 0b1100_0000 != 0b1000_0000);
    let Some(start) = start.map(|start| tail + start) else { return bytes };
    match std::str::from_utf8(&bytes[start..]) {
        Err(error) if error.error_len().is_none() => &bytes[..start],
        _ => bytes,
    }
}

/// `text` with one more line; no line break follows it.
pub(super) fn with_line(mut text: String, line: &str) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + line
}

/// `SIGKILL` for 9; where the number has no name of its own, the number.
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
        assert_eq!(show("stdout", b"all", 3), "all");
        assert_eq!(show("stdout", b"som", 9), "som\n[stdout cut: 3 of 9 bytes kept]");
        for cut in 1..4 {
            let kept = &"a\u{1f600}".as_bytes()[..=cut];
            let shown = show("stderr", kept, 9);
            let expected = format!("a\n[stderr cut: {} of 9 bytes kept]", kept.len());
            assert_eq!(shown, expected);
        }
        assert!(show("stdout", "a\u{1f600}".as_bytes(), 9).starts_with("a\u{1f600}\n["));
        assert!(show("stdout", &[0x80; 5], 9).starts_with("\u{fffd}\u{fffd}\u{fffd}"));
        assert!(show("stdout", b"", 9).starts_with("\n[stdout cut: 0 of 9"));
    }

    #[test]
    fn invalid_utf_8_is_shown_with_replacement_characters() {
        assert_eq!(show("stdout", b"a\xffb\xf0\x9f", 5), "a\u{fffd}b\u{fffd}");
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
