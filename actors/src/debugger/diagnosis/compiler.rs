//! Errors of compilers, for programs that a shell builds.

use ai_factory_schemas::diagnosis::FailureKind;

use super::{
    finding::FailureFinding,
    lines::{has_extension, number, path_and_line},
    place::OwnFiles,
};

/// The first error of a compiler.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailureFinding> {
    lines.iter().enumerate().find_map(|(at, line)| {
        rust(at, line, lines, files).or_else(|| in_one_line(at, line, lines, files))
    })
}

/// `error[E0425]: text`, and below it ` --> path:line:column`.
fn rust(at: usize, line: &str, lines: &[String], files: OwnFiles<'_>) -> Option<FailureFinding> {
    let is_error = line.starts_with("error[") || line.starts_with("error: ");
    let position = lines.get(at + 1)?.trim_start().strip_prefix("--> ").filter(|_| is_error)?;
    let (path, number) = path_and_line(position)?;
    let mut finding = FailureFinding::new(at, FailureKind::SyntaxError, line);
    finding.place = files.place(path, Some(number));
    Some(finding)
}

/// `path:line:column: error: text`, `path(line,column): error TS1: text`; Go leaves out the word
/// and names the package in a line above.
fn in_one_line(
    at: usize,
    line: &str,
    lines: &[String],
    files: OwnFiles<'_>,
) -> Option<FailureFinding> {
    let (position, text) = line.split_once(": ")?;
    let is_error = text.starts_with("error") || text.starts_with("fatal error");
    let is_go = || lines[..at].iter().rev().take(20).any(|line| line.starts_with("# "));
    let (path, number) = match path_and_line(position) {
        Some((path, number)) if is_error || (has_extension(path, "go") && is_go()) => {
            (path, number)
        }
        Some(_) => return None,
        None => {
            let (path, rest) = position.split_once('(').filter(|_| is_error)?;
            (path, number(rest)?)
        }
    };
    let place = files.place(path, Some(number)).filter(|_| !path.contains(' '))?;
    let mut finding = FailureFinding::new(at, FailureKind::SyntaxError, text);
    finding.place = Some(place);
    Some(finding)
}
