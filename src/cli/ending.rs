//! Signals that end this process: Ctrl-C, SIGTERM and SIGHUP.
//!
//! *Promises.* SIGTERM and SIGHUP both cause an orderly end. A SIGHUP that was ignored when the
//! process started stays ignored, as `nohup` requires.
//!
//! *Limits.* Only on Linux can the process see whether SIGHUP was ignored. On other systems that
//! signal is not handled.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{CommandError, Exit};

/// Ctrl-C events. None is missed once this exists.
pub(crate) struct Interrupts(Option<Signal>);

impl Interrupts {
    /// Starts to listen; Ctrl-C no longer ends the process by itself.
    pub(crate) fn listen() -> Self {
        Self(signal(SignalKind::interrupt()).ok())
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        heard(&mut self.0).await;
    }
}

/// Termination signals: SIGTERM, and SIGHUP when the terminal is gone. Once this exists none is
/// missed, and none ends the process by itself.
pub(crate) struct Endings {
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Endings {
    /// Starts to listen.
    pub(crate) fn listen() -> Self {
        let hangup = if is_hangup_heard() { signal(SignalKind::hangup()).ok() } else { None };
        Self { terminate: signal(SignalKind::terminate()).ok(), hangup }
    }

    /// The next one.
    pub(crate) async fn signalled(&mut self) {
        tokio::select! {
            () = heard(&mut self.terminate) => {}
            () = heard(&mut self.hangup) => {}
        }
    }

    /// Runs the work unless a termination signal comes first; `sentence` says what that means for
    /// the work.
    pub(crate) async fn unless_signalled<T>(
        &mut self,
        work: impl Future<Output = Result<T, CommandError>>,
        sentence: &str,
    ) -> Result<T, CommandError> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.signalled() => {
                Err(CommandError::Said { sentence: sentence.to_owned(), exit: Exit::TERMINATED })
            }
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        // The system refused the handler: then the signal ends the process itself.
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP must be handled: unless it was ignored.
fn is_hangup_heard() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_signals(&status).is_some_and(|ignored| !has(ignored, rustix::process::Signal::HUP))
}

/// The ignored signals of a process, one bit each, from `/proc/PID/status` (`proc_pid_status(5)`).
fn ignored_signals(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn has(mask: u64, signal: rustix::process::Signal) -> bool {
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Runs the work unless Ctrl-C comes first.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let mut interrupts = Interrupts::listen();
    tokio::select! {
        biased;
        done = work => done,
        () = interrupts.next() => Err(CommandError::interrupted()),
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
