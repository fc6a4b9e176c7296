//! Converts the end of a program into the port's answer: shell exit codes, and a line in stderr
//! that names the limit that ended it.

use std::time::Duration;

use ai_factory_ports::sandbox::{CapturedOutput, ProgramOutcome};
use ai_factory_schemas::run::{EndedBy, Isolation};
use rustix::process::Signal;

use super::{
    frames::{CapturedStream, EndCause},
    output::{show, signal_name, with_line},
};

/// The exit code of a program that exceeded its wall limit, as in `timeout(1)`.
const TIMEOUT_EXIT_CODE: i32 = 124;
/// A program killed by signal N has the exit code 128 + N, as in shells.
const SIGNAL_EXIT_CODE: i32 = 128;

/// How and when a program ended.
#[derive(Clone, Copy)]
pub(super) struct ProgramEnd {
    pub(super) how: EndCause,
    pub(super) duration: Duration,
}

impl ProgramEnd {
    /// The port's answer. `streams` are stdout and stderr: the kept bytes and the counters of each.
    pub(super) fn outcome(
        self,
        streams: [(&[u8], &CapturedStream); 2],
        isolation: Isolation,
    ) -> ProgramOutcome {
        let [stdout, stderr] = streams;
        let shown = |name, (kept, stream): (&[u8], &CapturedStream)| {
            let (head, tail) = kept.split_at(stream.head_bytes.min(kept.len()));
            let text = show(name, head, tail, stream.total_bytes);
            CapturedOutput { text, bytes_total: stream.total_bytes }
        };
        let by = |signal: Signal| (SIGNAL_EXIT_CODE + signal.as_raw(), Some(signal.as_raw()));
        let of = |name: &str| isolation.limits.get(name).copied().unwrap_or_default();
        let ((exit_code, signal), ended_by, line) = match self.how {
            EndCause::Exit(code) => ((code, None), EndedBy::Exit, None),
            EndCause::Signal(number) => (
                (SIGNAL_EXIT_CODE + number, Some(number)),
                EndedBy::Signal,
                Some(format!("Killed by signal {number} ({})", signal_name(number))),
            ),
            EndCause::Wall => {
                ((TIMEOUT_EXIT_CODE, None), EndedBy::Wall, Some("TimeoutExpired".to_owned()))
            }
            EndCause::Cpu => (
                by(Signal::XCPU),
                EndedBy::Cpu,
                Some(format!("Ended at its limit of {} s of processor time", of("cpu_s"))),
            ),
            EndCause::Memory => (
                by(Signal::KILL),
                EndedBy::Memory,
                Some(format!("Ended at its limit of {} bytes of memory", of("memory_bytes"))),
            ),
            EndCause::Output => (
                by(Signal::KILL),
                EndedBy::Output,
                Some("Ended for writing without end".to_owned()),
            ),
        };
        let mut stderr = shown("stderr", stderr);
        if let Some(line) = line {
            stderr.text = with_line(stderr.text, &line);
        }
        ProgramOutcome {
            exit_code,
            signal,
            ended_by,
            stdout: shown("stdout", stdout),
            stderr,
            duration: self.duration,
            isolation: Some(isolation),
            files: Vec::new(),
            files_left_out: Vec::new(),
            workspace: None,
        }
    }
}
