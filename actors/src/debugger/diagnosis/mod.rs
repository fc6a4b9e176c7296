//! Why a run failed, read from its end and its outputs.
//!
//! *Promises.* A run that ended with exit code 0 has no diagnosis; every other end of a program has
//! one. The time is linear in what is read, and what is read of an output is bounded. The readers
//! look for what interpreters and test runners print; which language the program has does not
//! matter, since a shell may start them all.

mod compiler;
mod failed_program;
mod finding;
mod javascript;
mod lines;
mod place;
mod python;
mod runner;
mod shell;
mod signal;
pub(super) mod sources;

#[cfg(test)]
mod cases;

use ai_factory_schemas::{
    diagnosis::{Diagnosis, FailureKind, SourceLine},
    run::EndedBy,
};

use self::{
    failed_program::FailedProgram,
    finding::FailureFinding,
    lines::{lines, message, source_line},
    place::OwnFiles,
};

/// The lines of an excerpt before the line of the failure, and after it.
const EXCERPT_LINES: u32 = 2;
/// The longest name of an exception, module or command, in characters.
const NAME_CHARS_MAX: usize = 200;

/// A diagnosis without the lines around the failure.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Diagnosed {
    /// The diagnosis.
    diagnosis: Diagnosis,
    /// Whether its file is the text of the program; else it is one of the run's files.
    is_program: bool,
}

/// Whether a program failed that ended so, and is the one that ended the run.
fn is_failure(ended_by: EndedBy, exit_code: i32) -> bool {
    match ended_by {
        EndedBy::Exit => exit_code != 0,
        EndedBy::Cancel | EndedBy::Unsupported | EndedBy::Sandbox => false,
        _ => true,
    }
}

/// Why the program failed; `None` if it did not, or if it is not the one that ended the run.
fn diagnose(end: &FailedProgram<'_>) -> Option<Diagnosed> {
    if !is_failure(end.ended_by, end.exit_code) {
        return None;
    }
    let (stdout, stderr) = (lines(end.stdout), lines(end.stderr));
    let files =
        OwnFiles { language: end.language, is_file: end.is_file, has_workspace: end.has_workspace };
    let finding = match end.ended_by {
        EndedBy::Exit => exit(end, &stdout, &stderr, files),
        _ => signal::ended(end, &stderr, files),
    };
    Some(diagnosed(finding))
}

/// The lines around one line of a source text.
fn excerpt(source: &str, line: u32) -> Vec<SourceLine> {
    let first = line.saturating_sub(EXCERPT_LINES).max(1);
    let last = line.saturating_add(EXCERPT_LINES);
    let numbered = source.lines().zip(1_u32..);
    let around = numbered.skip_while(|(_, number)| *number < first);
    let mut lines: Vec<_> = around
        .take_while(|(_, number)| *number <= last)
        .map(|(text, line)| SourceLine { line, text: source_line(text) })
        .collect();
    // A line behind the end has no neighbours.
    if lines.last().is_none_or(|it| it.line < line) {
        lines.clear();
    }
    lines
}

/// The failure of a program that ended by itself.
fn exit(
    end: &FailedProgram<'_>,
    stdout: &[String],
    stderr: &[String],
    files: OwnFiles<'_>,
) -> FailureFinding {
    let shell = shell::find(stderr, end.exit_code, files);
    let is_missing_command =
        shell.as_ref().is_some_and(|found| found.kind == FailureKind::CommandNotFound);
    let tests = || {
        let outputs = [stdout, stderr];
        runner::find(outputs, files).or_else(|| runner::find_not_run(outputs, end.exit_code, files))
    };
    if let Some(tests) = Some(()).filter(|()| !is_missing_command).and_then(|()| tests()) {
        return tests;
    }
    // The interpreters end with 1 for what nothing caught; a shell passes on what it likes.
    let is_uncaught = end.exit_code == 1 || !is_interpreter(end.language);
    let errors = [
        python::find(stderr, files).filter(|found| is_uncaught || found.exception.is_none()),
        javascript::find(stderr, files).filter(|_| is_uncaught),
        shell,
    ];
    let last = errors.into_iter().flatten().max_by_key(|finding| finding.at);
    last.or_else(|| compiler::find(stderr, files))
        .or_else(|| compiler::find(stdout, files))
        .unwrap_or_else(|| exit_code(end.exit_code, stdout, stderr))
}

/// Whether the program runs in an interpreter that reports what nothing caught.
fn is_interpreter(language: &str) -> bool {
    !matches!(language, "bash" | "sh" | "shell" | "zsh" | "ksh" | "dash")
}

/// The exit code with the last line that the program wrote.
fn exit_code(code: i32, stdout: &[String], stderr: &[String]) -> FailureFinding {
    let last = |lines: &[String]| {
        lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    };
    let message = match (last(stderr), last(stdout)) {
        (Some(line), _) => format!("exit code {code}: {line}"),
        (None, Some(line)) => format!("exit code {code}; the last line of its output: {line}"),
        (None, None) => format!("exit code {code}, without any output"),
    };
    FailureFinding::new(0, FailureKind::ExitCode, message)
}

fn diagnosed(finding: FailureFinding) -> Diagnosed {
    let FailureFinding { kind, message: text, exception, missing, place, tests, .. } = finding;
    let name = |name: String| lines::cut(name.trim(), NAME_CHARS_MAX);
    let is_program = place.as_ref().is_some_and(|place| place.is_program);
    let (file, line) = place.map_or((None, None), |place| (Some(place.path), place.line));
    let diagnosis = Diagnosis {
        kind,
        message: message(&text),
        exception: exception.map(name),
        missing: missing.map(name),
        file,
        line: line.filter(|line| *line > 0),
        excerpt: Vec::new(),
        failing_tests: tests,
    };
    Diagnosed { diagnosis, is_program }
}
