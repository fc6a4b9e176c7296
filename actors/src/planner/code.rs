//! The code of a goal: fenced blocks, inline code, and programs behind a bare `python:`.
//!
//! *Promises.* Spans are in order and do not overlap. One pass, in time linear in the text.
//!
//! *Limits.* [`LOOSE_CLOSERS_MAX`], [`LABELS_MAX`].
//!
//! The rules are those of `CommonMark` (fenced code blocks, code spans), with what people do in a goal on
//! top: a fence may open behind text and may be closed behind the last line of code; one that is never
//! closed runs to the end.

use std::{collections::HashMap, ops::Range};

use ai_factory_schemas::plan::Code;

use super::{
    language::{self, Info},
    python, word,
};

/// How many doubtful closers of one fence are looked at; each costs a parse.
const LOOSE_CLOSERS_MAX: usize = 4;
/// How many bare `python:` labels are looked at; each costs a parse.
const LABELS_MAX: usize = 16;

/// A stretch of the goal that is not prose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeSpan {
    /// Where it stands in the goal, with its fences or backticks.
    pub(super) range: Range<usize>,
    /// How it stands there.
    pub(super) form: Form,
    /// What a step carries; none for what stays text.
    pub(super) code: Option<Code>,
}

/// How code stands in a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A block between fences.
    Fence,
    /// Between backticks, in a sentence.
    Inline,
    /// Behind a bare label, to the end of the line or paragraph.
    Label,
}

/// A run of backticks or tildes.
#[derive(Clone, Copy)]
struct Run {
    mark: u8,
    start: usize,
    end: usize,
    /// Nothing but white space, quote marks or a list marker stands before it on its line.
    opens_line: bool,
}

impl Run {
    fn len(self) -> usize {
        self.end - self.start
    }
}

/// Every code span of `text`, whose lines end in `\n`.
pub(super) fn scan(text: &str) -> Vec<CodeSpan> {
    let runs = runs(text);
    let twins = twins(text, &runs);
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some(&run) = runs.get(at) {
        if let Some(fence) = fence(text, &runs, at) {
            let end = fence.range.end;
            spans.push(fence);
            at += runs[at..].partition_point(|later| later.start < end);
        } else if let Some(twin) = twins[at] {
            spans.push(inline(text, run, runs[twin]));
            at = twin + 1;
        } else {
            at += 1;
        }
    }
    add_labelled(text, &mut spans);
    spans
}

fn runs(text: &str) -> Vec<Run> {
    let bytes = text.as_bytes();
    let mut runs = Vec::new();
    let (mut at, mut opens_line) = (0, true);
    while let Some(&byte) = bytes.get(at) {
        if byte == b'`' || byte == b'~' {
            let end = at + bytes[at..].iter().take_while(|&&next| next == byte).count();
            // Single tildes are home directories and rough numbers.
            if byte == b'`' || end - at >= 3 {
                runs.push(Run { mark: byte, start: at, end, opens_line });
            }
            opens_line = false;
            at = end;
            continue;
        }
        match byte {
            b'\n' => opens_line = true,
            b' ' | b'\t' | b'>' => {}
            _ => opens_line = false,
        }
        at += 1;
    }
    runs
}

/// For each run of backticks the next one of the same length in the same paragraph: its closer.
fn twins(text: &str, runs: &[Run]) -> Vec<Option<usize>> {
    let mut twins = vec![None; runs.len()];
    let mut next: HashMap<usize, usize> = HashMap::new();
    for (at, run) in runs.iter().enumerate().rev() {
        let ends_paragraph = runs.get(at + 1).is_some_and(|later| {
            later.opens_line && later.len() >= 3 || text[run.end..later.start].contains("\n\n")
        });
        if ends_paragraph {
            next.clear();
        }
        if run.mark == b'`' {
            twins[at] = next.insert(run.len(), at);
        }
    }
    twins
}

/// The fenced block that the run at `at` opens, if it opens one.
fn fence(text: &str, runs: &[Run], at: usize) -> Option<CodeSpan> {
    let run = runs[at];
    if run.len() < 3 {
        return None;
    }
    // Looking no further than the next run keeps a line of many runs linear.
    if let Some(later) = runs.get(at + 1)
        && !text[run.end..later.start].contains('\n')
    {
        return None;
    }
    let line_end = text[run.end..].find('\n').map_or(text.len(), |found| run.end + found);
    let info = &text[run.end..line_end];
    let words = info.split_whitespace().count();
    let named = info.split_whitespace().next().map(str::to_lowercase);
    let named = named.is_some_and(|word| language::is_program(&word));
    if line_end == text.len() {
        // Nothing follows: what stands behind the language is the code, as in a goal of one line.
        let rest = info.trim_start();
        let cut = rest.find(char::is_whitespace)?;
        let code = named.then(|| code(language_of(&rest[..cut]), rest[cut..].trim()))?;
        return Some(CodeSpan { range: run.start..text.trim_end().len(), form: Form::Fence, code });
    }
    if !(run.opens_line || words <= 1 || named) {
        return None;
    }
    let body_start = line_end + 1;
    let (body_end, end) = closer(text, runs, at, body_start, info);
    let body = dedent(&text[body_start..body_end], indent_of(text, run.start));
    let code = match language::read_info(info) {
        Info::Program(language) => code(language, &body),
        Info::Silent if python::is_program(&body) => code("python".to_owned(), &body),
        Info::Silent | Info::Text => None,
    };
    Some(CodeSpan { range: run.start..end, form: Form::Fence, code })
}

/// Where the body ends and where the block ends. A closer stands alone at the beginning of a line; one
/// behind the last line of code, or with prose behind it, counts if what it closes is a whole program.
fn closer(text: &str, runs: &[Run], at: usize, body_start: usize, info: &str) -> (usize, usize) {
    let opener = runs[at];
    let is_python = match language::read_info(info) {
        Info::Program(language) => language::is_python(&language),
        Info::Silent => true,
        Info::Text => false,
    };
    let mut loose = 0;
    for run in &runs[at + 1..] {
        if run.start < body_start || run.mark != opener.mark || run.len() < opener.len() {
            continue;
        }
        let after = text[run.end..].chars().next();
        if run.opens_line && !after.is_some_and(|c| c.is_alphanumeric() || c == '{') {
            let line_start = text[..run.start].rfind('\n').map_or(0, |found| found + 1);
            return (line_start.max(body_start), run.end);
        }
        let is_loose = !run.opens_line
            && run.len() == opener.len()
            && after.is_none_or(|c| c.is_whitespace() || matches!(c, '.' | ',' | ';'));
        if is_loose && loose < LOOSE_CLOSERS_MAX {
            loose += 1;
            let body = &text[body_start..run.start];
            if !is_python || python::is_program(&dedent(body, indent_of(text, opener.start))) {
                return (run.start, run.end);
            }
        }
    }
    (text.len(), text.trim_end().len().max(body_start - 1))
}

fn language_of(word: &str) -> String {
    language::canonical(word.to_lowercase())
}

fn code(language: String, source: &str) -> Option<Code> {
    (!source.trim().is_empty()).then(|| Code { language, source: source.to_owned() })
}

/// How many bytes of white space the line of `at` begins with.
fn indent_of(text: &str, at: usize) -> usize {
    let line = text[..at].rfind('\n').map_or(0, |found| found + 1);
    text[line..at].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// `body` without the white space that all its lines share, or else without the `indent` of its fence.
fn dedent(body: &str, indent: usize) -> String {
    let width = |line: &str| line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let lines = || body.split_inclusive('\n');
    let shared = lines().filter(|line| !line.trim().is_empty()).map(width).min().unwrap_or(0);
    let cut = if shared > 0 { shared } else { indent };
    lines().map(|line| &line[cut.min(width(line))..]).collect()
}

/// Code between backticks on one line or in one sentence.
fn inline(text: &str, open: Run, close: Run) -> CodeSpan {
    let inner = text[open.end..close.start].trim();
    let code = labelled_inside(inner)
        .or_else(|| if open.len() >= 3 { block_in_a_line(inner) } else { None })
        .or_else(|| labelled_before(text, open, close, inner));
    let form = if open.len() >= 3 { Form::Fence } else { Form::Inline };
    CodeSpan { range: open.start..close.end, form, code }
}

/// `python: print(1)`
fn labelled_inside(inner: &str) -> Option<Code> {
    let (word, source) = inner.split_once(':')?;
    let word = word.to_lowercase();
    if source.starts_with([':', '/']) || !language::is_program(&word) {
        return None;
    }
    code(language::canonical(word), source.trim())
}

/// A fenced block that somebody wrote on a single line: its language is the first word, if any.
fn block_in_a_line(inner: &str) -> Option<Code> {
    if let Some((word, source)) = inner.split_once(char::is_whitespace)
        && language::is_program(&word.to_lowercase())
    {
        return code(language_of(word), source.trim());
    }
    if python::is_program(inner) { code("python".to_owned(), inner) } else { None }
}

/// A language directly before the backticks: with a colon always, without one only where Python is named,
/// or the goal says to run it, and the span ends its clause: the Python `print(x)` function is a thing.
fn labelled_before(text: &str, open: Run, close: Run, inner: &str) -> Option<Code> {
    let before = text[..open.start].trim_end_matches([' ', '\t']);
    let (before, colon) = match before.strip_suffix(':') {
        Some(rest) => (rest, true),
        None => (before, false),
    };
    let start = before
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_alphanumeric() || matches!(c, '+' | '#'))
        .last()
        .map_or(before.len(), |(at, _)| at);
    let word = before[start..].to_lowercase();
    if !language::is_program(&word) {
        return None;
    }
    let after = text[close.end..].trim_start_matches([' ', '\t']);
    let next = after.split(char::is_whitespace).next().unwrap_or_default();
    let ends_clause = after.is_empty()
        || after.starts_with(['\n', '.', ',', ';', '!', '?', '-', '→'])
        || matches!(next, "then" | "and" | "finally");
    let verb = before[..start].trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
    let is_run = word::is_run(&verb.to_lowercase());
    let is_program = is_run || language::is_python(&word) && python::is_program(inner);
    if colon || ends_clause && is_program {
        return code(language::canonical(word), inner);
    }
    None
}

/// Adds the programs behind a bare `python:`; prose behind the label does not parse and stays prose.
fn add_labelled(text: &str, spans: &mut Vec<CodeSpan>) {
    let mut found: Vec<CodeSpan> = Vec::new();
    let mut at = 0;
    for _ in 0..LABELS_MAX {
        let Some((label, body)) = next_label(text, at) else { break };
        at = body;
        let next = spans.partition_point(|span| span.range.end <= label);
        if spans.get(next).is_some_and(|span| span.range.start <= label) {
            continue;
        }
        let limit = spans.get(next).map_or(text.len(), |span| span.range.start);
        if let Some((end, code)) = program_behind(&text[body..limit]) {
            let lead = text[body..].len() - text[body..].trim_start().len();
            found.push(CodeSpan { range: body + lead..body + end, form: Form::Label, code });
            at = body + end;
        }
    }
    spans.extend(found);
    spans.sort_by_key(|span| span.range.start);
}

/// Where the next `python:` begins and where the text behind it does.
fn next_label(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let colon = at + text[at..].find(':')?;
        at = colon + 1;
        let start = text[from..colon]
            .char_indices()
            .rev()
            .take_while(|(_, c)| c.is_ascii_alphanumeric())
            .take("python3".len() + 1)
            .last()
            .map_or(colon, |(found, _)| from + found);
        let whole = text[..start].chars().next_back().is_none_or(|c| c.is_whitespace() || c == '(');
        if whole
            && text[at..].starts_with(char::is_whitespace)
            && language::is_python(&text[start..colon].to_ascii_lowercase())
        {
            return Some((start, at));
        }
    }
}

/// The longest program at the beginning of `text`: its paragraph, its line, or its line up to a connector.
fn program_behind(text: &str) -> Option<(usize, Option<Code>)> {
    let start = text.len() - text.trim_start_matches([' ', '\t', '\n']).len();
    let paragraph = text[start..].find("\n\n").map_or(text.len(), |found| start + found);
    let line = text[start..].find('\n').map_or(text.len(), |found| start + found);
    let clause = [", and then ", " and then ", ", then ", " then ", " -> ", ". "]
        .iter()
        .filter_map(|stop| text[start..line].find(stop))
        .min()
        .map_or(line, |found| start + found);
    let line_start = text[..start].rfind('\n').map_or(0, |found| found + 1);
    [paragraph, line, clause].into_iter().find_map(|end| {
        // The first line stands behind the label, or is indented as the others are.
        let source =
            dedent(&text[if text[..start].contains('\n') { line_start } else { start }..end], 0);
        let source = source.trim_end();
        // `python: 3.12` asks for a version.
        let acts = source.contains(['(', '=']) || source.starts_with("import ");
        (acts && python::is_program(source))
            .then(|| (text[..end].trim_end().len(), code("python".to_owned(), source)))
    })
}
