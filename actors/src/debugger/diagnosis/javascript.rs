//! Failures of Node.js programs: uncaught errors, syntax errors, missing modules.

use ai_factory_schemas::diagnosis::FailureKind;

use super::{
    finding::FailureFinding,
    lines::{exception, path_and_line, quoted},
    place::{OwnFiles, SourcePlace},
};

/// What Node.js prints when its heap is full.
const HEAP_FULL: &str = "JavaScript heap out of memory";

/// The last uncaught error, or the last error that was printed with its stack.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailureFinding> {
    let mut reader = StackReader { files, thrown_at: None, error: None, found: None };
    for (at, line) in lines.iter().enumerate() {
        reader.read(at, line, lines);
    }
    reader.close();
    reader.found
}

/// The line that reports a full heap.
pub(super) fn heap_full(lines: &[String]) -> Option<&str> {
    lines.iter().map(String::as_str).rfind(|line| line.contains(HEAP_FULL))
}

/// The place of a stack's line: `    at name (path:line:column)`, `    at path:line:column`.
pub(super) fn frame(line: &str) -> Option<(&str, u32)> {
    let text = line.trim_start().strip_prefix("at ")?;
    let inner = match text.rfind('(') {
        Some(open) if text.ends_with(')') => &text[open + 1..text.len() - 1],
        _ => text.strip_prefix("async ").unwrap_or(text),
    };
    path_and_line(inner)
}

/// An error whose stack is being read.
struct PrintedError {
    at: usize,
    text: String,
    /// The place above the error that shows its source line.
    shown: Option<(String, u32)>,
    is_uncaught: bool,
    has_stack: bool,
    /// The innermost own frame, or the module that asked for a missing one.
    place: Option<SourcePlace>,
}

struct StackReader<'a> {
    files: OwnFiles<'a>,
    /// The place that Node.js shows above an uncaught error, and the number of the mark's line.
    thrown_at: Option<(String, u32)>,
    error: Option<PrintedError>,
    found: Option<FailureFinding>,
}

impl StackReader<'_> {
    fn read(&mut self, at: usize, line: &str, lines: &[String]) {
        let previous = at.checked_sub(1).and_then(|at| lines.get(at));
        if let Some(place) = shown_place(line).filter(|_| has_mark(&lines[at..])) {
            self.close();
            self.thrown_at = Some(place);
        } else if line.starts_with("    at ") {
            self.read_frame(line);
        } else if let Some(module) = line.strip_prefix("- ") {
            self.required_by(module);
        } else if self.thrown_at.is_some() && previous.is_some_and(|it| is_mark(it)) {
            // After the mark follows an empty line, or at once the error.
            let text = if line.is_empty() { lines.get(at + 1) } else { lines.get(at) };
            let text = text.map_or("", String::as_str);
            let mut more = lines.iter().skip(at + 1).take(3).map(|line| line.trim());
            let more = more.find(|line| !line.is_empty() && *line != text);
            match more.filter(|_| text.ends_with(':')) {
                Some(more) => self.begin(at, &format!("{text} {more}"), true),
                None => self.begin(at, text, true),
            }
        } else if self.error.as_ref().is_none_or(|it| it.has_stack || !it.is_uncaught)
            && exception(line).is_some_and(|(name, _)| name.ends_with("Error"))
        {
            self.close();
            self.begin(at, line, false);
        }
    }

    fn begin(&mut self, at: usize, text: &str, is_uncaught: bool) {
        self.error = Some(PrintedError {
            at,
            text: text.to_owned(),
            shown: self.thrown_at.take(),
            is_uncaught,
            has_stack: false,
            place: None,
        });
    }

    fn read_frame(&mut self, line: &str) {
        let Some(error) = &mut self.error else { return };
        error.has_stack = true;
        if error.place.is_none()
            && let Some((path, line)) = frame(line)
        {
            error.place = self.files.place(path, Some(line));
        }
    }

    /// A line of the `Require stack:`.
    fn required_by(&mut self, module: &str) {
        let Some(error) = &mut self.error else { return };
        if error.place.is_none() && !error.has_stack && error.text.contains("Cannot find") {
            error.place = None;
            error.shown = Some((module.to_owned(), 0));
        }
    }

    /// The error is complete.
    fn close(&mut self) {
        let Some(error) = self.error.take() else { return };
        if error.is_uncaught || error.has_stack {
            self.found = Some(self.finding(error));
        }
    }

    fn finding(&self, error: PrintedError) -> FailureFinding {
        let PrintedError { at, text, shown, place, .. } = error;
        let shown = shown
            .and_then(|(path, line)| self.files.place(&path, Some(line).filter(|line| *line > 0)));
        let (name, rest) = exception(&text).unwrap_or_default();
        let missing = missing_module(rest);
        let kind = match (&missing, name) {
            (Some(_), _) => FailureKind::MissingModule,
            // A text that is parsed while the program runs has no place of its own.
            (None, "SyntaxError") if shown.is_some() => FailureKind::SyntaxError,
            _ => FailureKind::Exception,
        };
        let importer = rest.split_once(" imported from ").map(|(_, path)| path);
        let importer = importer.and_then(|path| self.files.place(path, None));
        let shown_line = shown.as_ref().and_then(|place| place.line);
        let mut finding = FailureFinding::new(at, kind, text.clone());
        finding.exception = (!name.is_empty() && text != name || name.ends_with("Error"))
            .then(|| name.to_owned())
            .filter(|name| !name.is_empty());
        finding.place = match shown_line {
            Some(_) => shown,
            None => place.or(shown).or(importer),
        };
        finding.missing = missing.map(|name| match self.files.place(name, None) {
            Some(place) if name.starts_with('/') => place.path,
            _ => name.to_owned(),
        });
        finding
    }
}

/// The module in `Cannot find module 'x'` and `Cannot find package 'x'`.
fn missing_module(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("Cannot find ")?;
    (rest.starts_with("module ") || rest.starts_with("package ")).then(|| quoted(rest)).flatten()
}

/// `path:line` alone in a line.
fn shown_place(line: &str) -> Option<(String, u32)> {
    let is_path = ["/", "node:", "file://", "<"].iter().any(|begin| line.starts_with(begin));
    let (path, line) = path_and_line(line).filter(|_| is_path)?;
    Some((path.to_owned(), line))
}

/// Whether the mark below a source line is among the next lines.
fn has_mark(lines: &[String]) -> bool {
    lines.iter().skip(2).take(2).any(|line| is_mark(line))
}

/// A line of spaces and carets.
fn is_mark(line: &str) -> bool {
    let mark = line.trim();
    !mark.is_empty() && mark.bytes().all(|byte| byte == b'^')
}
