//! The end of a program as the port tells it: exit codes as shells have them, and a word for what a limit ended.

use std::time::Duration;

use ai_factory_actors::ports::sandbox::{Captured, Ran};
use ai_factory_schemas::run::{EndedBy, Isolation};
use rustix::process::Signal;

use super::{
    output::{show, signal_name, with_line},
    wire::{How, Stream},
};

/// The exit code of a program whose time was over, as `timeout(1)` has it.
const TIMEOUT_EXIT_CODE: i32 = 124;
/// The exit code of signal N is this and N, as shells have it.
const SIGNAL_EXIT_CODE: i32 = 128;

/// How and when a program ended.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) how: How,
    pub(super) duration: Duration,
}

impl End {
    /// With what it wrote: for stdout and stderr the kept bytes and what is known of the stream.
    pub(super) fn told(self, streams: [(&[u8], &Stream); 2], isolation: Isolation) -> Ran {
        let [stdout, stderr] = streams;
        let shown = |name, (kept, stream): (&[u8], &Stream)| {
            let (head, tail) = kept.split_at(stream.head_bytes.min(kept.len()));
            let text = show(name, head, tail, stream.total_bytes);
            Captured { text, bytes_total: stream.total_bytes }
        };
        let by = |signal: Signal| (SIGNAL_EXIT_CODE + signal.as_raw(), Some(signal.as_raw()));
        let of = |name: &str| isolation.limits.get(name).copied().unwrap_or_default();
        let ((exit_code, signal), ended_by, line) = match self.how {
            How::Exit(code) => ((code, None), EndedBy::Exit, None),
            How::Signal(number) => (
                (SIGNAL_EXIT_CODE + number, Some(number)),
                EndedBy::Signal,
                Some(format!("Killed by signal {number} ({})", signal_name(number))),
            ),
            How::Wall => {
                ((TIMEOUT_EXIT_CODE, None), EndedBy::Wall, Some("TimeoutExpired".to_owned()))
            }
            How::Cpu => (
                by(Signal::XCPU),
                EndedBy::Cpu,
                Some(format!("Ended at its limit of {} s of processor time", of("cpu_s"))),
            ),
            How::Memory => (
                by(Signal::KILL),
                EndedBy::Memory,
                Some(format!("Ended at its limit of {} bytes of memory", of("memory_bytes"))),
            ),
            How::Output => (
                by(Signal::KILL),
                EndedBy::Output,
                Some("Ended for writing without end".to_owned()),
            ),
        };
        let mut stderr = shown("stderr", stderr);
        if let Some(line) = line {
            stderr.text = with_line(stderr.text, &line);
        }
        Ran {
            exit_code,
            signal,
            ended_by,
            stdout: shown("stdout", stdout),
            stderr,
            duration: self.duration,
            isolation: Some(isolation),
            files: Vec::new(),
            files_left_out: Vec::new(),
        }
    }
}
