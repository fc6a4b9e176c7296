//! Failures of shell programs: `main.sh: line 3: …`.

use ai_factory_schemas::diagnosis::FailureKind;

use super::{finding::FailureFinding, lines::number, place::OwnFiles};

/// The exit code for a command that was found and cannot be executed.
const NOT_EXECUTABLE: i32 = 126;
/// The exit code for a command that was not found.
const NOT_FOUND: i32 = 127;
/// What the system says about a path that does not exist.
const NO_FILE: &str = "No such file or directory";

/// The last failure that a shell reports.
pub(super) fn find(
    lines: &[String],
    exit_code: i32,
    files: OwnFiles<'_>,
) -> Option<FailureFinding> {
    let last = lines.iter().rposition(|line| !line.trim().is_empty())?;
    let found =
        lines.iter().enumerate().rev().find_map(|(at, line)| report(at, line, exit_code, files));
    // A script goes on after most failures, and its end then has another reason.
    let ended = found.filter(|finding| {
        finding.at == last
            || finding.kind == FailureKind::SyntaxError
            || matches!(exit_code, NOT_EXECUTABLE | NOT_FOUND)
    });
    ended.or_else(|| other_launcher(last, &lines[last], exit_code))
}

/// A line `file: line N: text`.
fn report(at: usize, line: &str, exit_code: i32, files: OwnFiles<'_>) -> Option<FailureFinding> {
    let (file, rest) = line.split_once(": line ")?;
    let number = number(rest)?;
    let text = rest.split_once(": ")?.1.trim();
    // The second line of a syntax error quotes the source.
    if file.contains(' ') || text.starts_with('`') {
        return None;
    }
    let (kind, missing) = classify(text, exit_code);
    // A job that a signal ended is reported with its process id.
    let shown = match kind {
        FailureKind::Signal => text.trim_start_matches(|char: char| char.is_ascii_digit()),
        _ => text,
    };
    let shown: Vec<_> = shown.split_whitespace().collect();
    let mut finding = FailureFinding::new(at, kind, shown.join(" "));
    finding.missing = missing.map(str::to_owned);
    finding.place = match file {
        "bash" | "sh" | "environment" => None,
        _ => files.place(file, Some(number)),
    };
    Some(finding)
}

fn classify(text: &str, exit_code: i32) -> (FailureKind, Option<&str>) {
    if let Some(command) = text.strip_suffix(": command not found") {
        return (FailureKind::CommandNotFound, Some(command));
    }
    if let Some(command) = text.strip_suffix(NO_FILE).filter(|_| exit_code == NOT_FOUND) {
        return (FailureKind::CommandNotFound, Some(command.trim_end_matches(": ")));
    }
    if text.starts_with("syntax error") || text.starts_with("unexpected EOF") {
        return (FailureKind::SyntaxError, None);
    }
    let is_job = text.starts_with(|char: char| char.is_ascii_digit());
    if is_job && exit_code > 128 {
        return (FailureKind::Signal, None);
    }
    (FailureKind::ExitCode, None)
}

/// `env: ‘x’: No such file or directory`, with the exit code for a missing command.
fn other_launcher(at: usize, line: &str, exit_code: i32) -> Option<FailureFinding> {
    if exit_code != NOT_FOUND {
        return None;
    }
    let (launcher, rest) = line.split_once(": ")?;
    let command = rest
        .strip_suffix(NO_FILE)
        .or_else(|| rest.strip_suffix("not found"))
        .or_else(|| rest.strip_suffix("command not found"))?;
    let command = command.trim_end_matches(": ").trim_matches(['‘', '’', '\'', '"', '`']);
    if launcher.contains(' ') || command.is_empty() {
        return None;
    }
    let mut finding = FailureFinding::new(at, FailureKind::CommandNotFound, line);
    finding.missing = Some(command.to_owned());
    Some(finding)
}
