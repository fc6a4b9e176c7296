//! Ends by a signal or a limit.

use ai_factory_schemas::{diagnosis::FailureKind, run::EndedBy};

use super::{
    failed_program::FailedProgram, finding::FailureFinding, javascript, place::OwnFiles, python,
};

/// The finding for a program that did not end by itself. Python prints its stack at some signals;
/// then the place is known.
pub(super) fn ended(
    end: &FailedProgram<'_>,
    stderr: &[String],
    files: OwnFiles<'_>,
) -> FailureFinding {
    if end.ended_by == EndedBy::Signal
        && let Some(line) = javascript::heap_full(stderr)
    {
        return FailureFinding::new(
            0,
            FailureKind::Memory,
            line.trim_start_matches("FATAL ERROR: "),
        );
    }
    let said = |begin: &str, otherwise: &str| {
        let line = stderr.iter().rev().find(|line| line.starts_with(begin));
        line.cloned().unwrap_or_else(|| otherwise.to_owned())
    };
    let (kind, message) = match end.ended_by {
        EndedBy::Wall => {
            (FailureKind::Timeout, "did not end within its wall time limit".to_owned())
        }
        EndedBy::Cpu => (
            FailureKind::Timeout,
            said("Ended at its limit", "used up its limit of processor time"),
        ),
        EndedBy::Memory => {
            (FailureKind::Memory, said("Ended at its limit", "used more memory than its limit"))
        }
        EndedBy::Output => (FailureKind::Output, "wrote far more output than is kept".to_owned()),
        _ => {
            let number = end.signal.unwrap_or(end.exit_code - 128);
            (FailureKind::Signal, format!("ended by {}", described(number)))
        }
    };
    let mut finding = FailureFinding::new(0, kind, message);
    finding.place = python::stack_place(stderr, files);
    finding
}

/// A signal by its number and name, with what it means for programs that did not ask for it.
fn described(number: i32) -> String {
    let (name, meaning) = match number {
        1 => ("SIGHUP", ""),
        2 => ("SIGINT", ", an interrupt"),
        3 => ("SIGQUIT", ""),
        4 => ("SIGILL", ", an instruction that the processor does not know"),
        5 => ("SIGTRAP", ""),
        6 => ("SIGABRT", ", called by the program itself"),
        7 => ("SIGBUS", ", an access to memory that is not there"),
        8 => ("SIGFPE", ", a wrong calculation such as a division by zero"),
        9 => ("SIGKILL", ""),
        10 => ("SIGUSR1", ""),
        11 => ("SIGSEGV", ", an access to memory that is not the program's"),
        12 => ("SIGUSR2", ""),
        13 => ("SIGPIPE", ", a write to a pipe that nobody reads"),
        14 => ("SIGALRM", ""),
        15 => ("SIGTERM", ""),
        24 => ("SIGXCPU", ", its limit of processor time"),
        25 => ("SIGXFSZ", ", a file larger than its limit"),
        31 => ("SIGSYS", ", a system call that the sandbox refuses"),
        _ => return format!("signal {number}"),
    };
    format!("signal {number} ({name}{meaning})")
}
