//! What ends this process from outside: Ctrl-C, and the signals that tell it to end.
//!
//! *Promises.* SIGTERM and SIGHUP are one: an orderly end. A SIGHUP that was ignored when the process started stays ignored, as
//! `nohup` wants it.
//!
//! *Limits.* Whether SIGHUP was ignored is told by Linux alone. Elsewhere that signal is left as it is.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Exit, Failure};

/// Presses of Ctrl-C. None is missed from the moment this is made.
pub(crate) struct Interrupts(Option<Signal>);

impl Interrupts {
    /// Begins to listen; Ctrl-C no longer ends the process by itself.
    pub(crate) fn listen() -> Self {
        Self(signal(SignalKind::interrupt()).ok())
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        heard(&mut self.0).await;
    }
}

/// Signals that tell this process to end: SIGTERM, and SIGHUP when its terminal is gone. None is missed from the moment this is made,
/// and none ends the process by itself any more.
pub(crate) struct Endings {
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Endings {
    /// Begins to listen.
    pub(crate) fn listen() -> Self {
        let hangup = if is_hangup_heard() { signal(SignalKind::hangup()).ok() } else { None };
        Self { terminate: signal(SignalKind::terminate()).ok(), hangup }
    }

    /// The next one.
    pub(crate) async fn told(&mut self) {
        tokio::select! {
            () = heard(&mut self.terminate) => {}
            () = heard(&mut self.hangup) => {}
        }
    }

    /// Does the work unless the process is told to end first; `sentence` says what that means for it.
    pub(crate) async fn unless_told<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
        sentence: &str,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.told() => {
                Err(Failure::Said { sentence: sentence.to_owned(), exit: Exit::TERMINATED })
            }
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        // The system refused to tell: then it ends the process itself.
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP is to be listened for: it is not ignored.
fn is_hangup_heard() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_signals(&status).is_some_and(|ignored| !has(ignored, rustix::process::Signal::HUP))
}

/// The signals that a process ignores, one bit each, as `/proc/PID/status` tells them (`proc_pid_status(5)`).
fn ignored_signals(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn has(mask: u64, signal: rustix::process::Signal) -> bool {
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Does the work unless Ctrl-C comes first.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut interrupts = Interrupts::listen();
    tokio::select! {
        biased;
        done = work => done,
        () = interrupts.next() => Err(Failure::interrupted()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_status_of_the_process() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        let ignored = ignored_signals(status).unwrap();
        assert!(has(ignored, Signal::HUP) && has(ignored, Signal::PIPE));
        assert!(!has(ignored, Signal::TERM) && !has(ignored, Signal::INT));
        assert_eq!(ignored_signals("SigIgn:\tnonsense\n"), None);
        assert_eq!(ignored_signals(""), None);
    }
}
