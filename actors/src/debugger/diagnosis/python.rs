//! Failures of Python programs: tracebacks, syntax errors, missing modules.

use ai_factory_schemas::diagnosis::FailureKind;

use super::{
    finding::FailureFinding,
    lines::{exception, number, quoted},
    place::{OwnFiles, SourcePlace},
};

const HEADER: &str = "Traceback (most recent call last):";
const GROUP_HEADER: &str = "Exception Group Traceback (most recent call last):";

/// The last failure that Python reports.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailureFinding> {
    let mut reader = TracebackReader::new(files);
    for (at, line) in lines.iter().enumerate() {
        reader.read(at, line);
    }
    let traced = reader.finish();
    let started = lines.iter().enumerate().rev().find_map(|(at, line)| not_started(at, line));
    [traced, started].into_iter().flatten().max_by_key(|finding| finding.at)
}

/// The innermost own frame of a stack that Python printed at a signal, innermost frame first.
pub(super) fn stack_place(lines: &[String], files: OwnFiles<'_>) -> Option<SourcePlace> {
    let begin = lines.iter().rposition(|line| line.ends_with("(most recent call first):"))?;
    let frames = lines.iter().skip(begin + 1).take_while(|line| line.starts_with("  File \""));
    frames.filter_map(|line| frame(line)).find_map(|(path, line)| files.place(path, Some(line)))
}

/// `python3: No module named x`, `python3: can't open file …`.
fn not_started(at: usize, line: &str) -> Option<FailureFinding> {
    let (interpreter, text) = line.split_once(": ")?;
    let name = interpreter.rsplit('/').next()?;
    if !name.starts_with("python") || interpreter.contains(' ') {
        return None;
    }
    if let Some(module) = text.strip_prefix("No module named ") {
        let module = module.split(';').next()?.trim().trim_matches('\'');
        let mut finding = FailureFinding::new(at, FailureKind::MissingModule, text);
        finding.missing = Some(module.trim_end_matches(".__main__").to_owned());
        return Some(finding);
    }
    let is_refused = text.starts_with("can't open file") || text.starts_with("can't find");
    is_refused.then(|| FailureFinding::new(at, FailureKind::ExitCode, line))
}

/// The path and line of `File "…", line N`.
fn frame(line: &str) -> Option<(&str, u32)> {
    let (path, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
    Some((path, number(rest)?))
}

/// Reads tracebacks line by line.
struct TracebackReader<'a> {
    files: OwnFiles<'a>,
    /// Whether a header was read, and the exception not yet.
    is_inside: bool,
    /// Whether the header was that of an exception group.
    is_group: bool,
    /// Whether there was a frame since the header.
    has_frame: bool,
    /// The innermost own frame.
    place: Option<SourcePlace>,
    last: Option<FailureFinding>,
    /// The exception group that the later findings belong to.
    group: Option<FailureFinding>,
    /// The first exception of the group.
    member: Option<FailureFinding>,
}

impl<'a> TracebackReader<'a> {
    fn new(files: OwnFiles<'a>) -> Self {
        Self {
            files,
            is_inside: false,
            is_group: false,
            has_frame: false,
            place: None,
            last: None,
            group: None,
            member: None,
        }
    }

    fn read(&mut self, at: usize, line: &str) {
        let is_member = line.trim_start().starts_with(['|', '+']);
        let line = if is_member { without_rule(line) } else { line };
        if line.ends_with(HEADER) && (line == HEADER || line == GROUP_HEADER) {
            (self.is_inside, self.has_frame, self.place) = (true, false, None);
            self.is_group = line == GROUP_HEADER;
        } else if let Some((path, number)) = frame(line).filter(|_| line.starts_with("  ")) {
            self.has_frame = true;
            self.place = self.files.place(path, Some(number)).or(self.place.take());
        } else if line.starts_with(' ') || line.trim().is_empty() {
            // Source text, marks below it, or an empty line.
        } else {
            if self.is_inside || self.has_frame {
                self.end(at, line, is_member);
            }
            (self.is_inside, self.has_frame, self.place) = (false, false, None);
        }
    }

    /// A traceback ends with its exception.
    fn end(&mut self, at: usize, line: &str, is_member: bool) {
        let Some((name, text)) = exception(line) else { return };
        let is_syntax = matches!(name, "SyntaxError" | "IndentationError" | "TabError");
        if !self.is_inside && !is_syntax {
            return;
        }
        let mut finding = FailureFinding::new(at, kind(name), line);
        finding.exception = Some(name.to_owned());
        finding.missing = missing(name, text);
        finding.place = self.place.take();
        match (is_member, self.is_group) {
            (true, true) if self.group.is_none() || self.member.is_some() => {
                (self.group, self.member) = (Some(finding), None);
            }
            (true, _) if self.group.is_some() => {
                if self.member.is_none() {
                    self.member = Some(finding);
                }
                if let Some(group) = &mut self.group {
                    group.at = at;
                }
            }
            _ => self.last = Some(finding),
        }
    }

    /// The last exception; a group says which one its first is, and where.
    fn finish(self) -> Option<FailureFinding> {
        let group = self.group.map(|mut group| {
            if let Some(member) = self.member {
                group.message = format!("{}, first {}", group.message, member.message);
                group.place = member.place.or(group.place);
            }
            group
        });
        [group, self.last].into_iter().flatten().max_by_key(|finding| finding.at)
    }
}

/// A line of an exception group without the rule on its left.
fn without_rule(line: &str) -> &str {
    let text = line.trim_start().trim_start_matches(['|', '+', '-']);
    text.strip_prefix(' ').unwrap_or(text)
}

fn kind(exception: &str) -> FailureKind {
    match exception {
        "SyntaxError" | "IndentationError" | "TabError" => FailureKind::SyntaxError,
        "ModuleNotFoundError" | "ImportError" => FailureKind::MissingModule,
        _ => FailureKind::Exception,
    }
}

/// The module of an import that failed; of a name that its module does not have, both.
pub(super) fn missing(exception: &str, text: &str) -> Option<String> {
    match exception {
        "ModuleNotFoundError" => quoted(text).map(str::to_owned),
        "ImportError" => {
            let name = quoted(text)?;
            match text.split_once(" from '").and_then(|(_, rest)| rest.split_once('\'')) {
                Some((module, _)) => Some(format!("{module}.{name}")),
                None => Some(name.to_owned()),
            }
        }
        _ => None,
    }
}
