//! Code in a goal: fenced blocks, inline code, and programs after a bare `python:`.
//!
//! *Promises.* Spans are in order and do not overlap. The content of a fenced block is byte for
//! byte that of `CommonMark`. Indented blocks, tables, markup, and blocks whose info string names
//! no program carry none. Time is linear in the text.
//!
//! *Limits.* [`ODD_MAX`], [`LABELS_MAX`].

use std::ops::Range;

use ai_factory_schemas::plan::Code;

use super::{
    document::{Block, GoalDocument, Kind},
    language, markdown,
    odd::{self, Odd},
    program::{code, dedent, program},
    python, word,
};

/// Stretches of invalid Markdown that are read as intended; the goal is parsed again after each.
const ODD_MAX: usize = 16;
/// Bare `python:` labels that are tried; each costs a parse.
const LABELS_MAX: usize = 16;

/// A stretch of the goal that is not prose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeSpan {
    /// Its place in the goal, fences or backticks included.
    pub(super) range: Range<usize>,
    /// Its form.
    pub(super) form: CodeForm,
    /// The code for a step; `None` for a stretch that stays text.
    pub(super) code: Option<Code>,
}

/// The form of code in a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeForm {
    /// A block: between fences, indented, a table.
    Block,
    /// Between backticks, in a sentence.
    Inline,
    /// After a bare label, to the end of the line or paragraph.
    Label,
}

/// The document of `text`, and its code spans.
pub(super) fn scan(text: &str) -> (GoalDocument, Vec<CodeSpan>) {
    let mut parsed = text.to_owned();
    let mut page = markdown::read(text, &parsed);
    let mut spans = Vec::new();
    let mut comments = Vec::new();
    for _ in 0..ODD_MAX {
        let Some(found) = odd::first(&parsed, &page) else { break };
        let range = found.range();
        let mask = match found {
            Odd::Block(_, code) => {
                spans.push(CodeSpan { range: range.clone(), form: CodeForm::Block, code });
                // One word of inline code replaces the block, so that the text around it is its
                // line.
                let marks = "`".repeat((range.len() - 1) / 2);
                format!("{marks}{}{marks}", &"xx"[..range.len() - 2 * marks.len()])
            }
            Odd::Comment(_) => {
                comments.push(range.clone());
                " ".repeat(range.len())
            }
        };
        parsed.replace_range(range, &mask);
        page = markdown::read(text, &parsed);
    }
    for range in comments {
        page.hide(range);
    }
    let odd: Vec<usize> = spans.iter().map(|span| span.range.start).collect();
    spans.extend(page.blocks.iter().map(block));
    let inlines = page.inlines.iter().filter(|range| !odd.contains(&range.start));
    spans.extend(inlines.map(|range| inline(text, range)));
    spans.sort_by_key(|span| span.range.start);
    add_labelled(text, &page, &mut spans);
    (page, spans)
}

fn block(block: &Block) -> CodeSpan {
    let code = block.fence.as_ref().and_then(|fence| {
        if fence.closed || !block.content.trim().is_empty() {
            return program(&fence.info, &block.content);
        }
        // Nothing follows: the code stands after the language, as in a goal of one line.
        let (word, source) = fence.info.split_once(char::is_whitespace)?;
        program(word, source.trim())
    });
    CodeSpan { range: block.range.clone(), form: CodeForm::Block, code }
}

fn language_of(word: &str) -> String {
    language::canonical(word.to_lowercase())
}

/// Code between backticks on one line or in one sentence.
fn inline(text: &str, range: &Range<usize>) -> CodeSpan {
    let marks = text[range.clone()].bytes().take_while(|byte| *byte == b'`').count();
    let content = &text[range.start + marks..range.end - marks];
    let inner = content.trim();
    let in_fences = |content: &str| match content.split_once('\n') {
        Some((info, body)) if info.split_whitespace().count() <= 1 => program(info, &dedent(body)),
        _ => block_in_a_line(inner),
    };
    let code = labelled_inside(inner)
        .or_else(|| if marks >= 3 { in_fences(content) } else { None })
        .or_else(|| labelled_before(text, range, inner));
    let form = if marks >= 3 { CodeForm::Block } else { CodeForm::Inline };
    CodeSpan { range: range.clone(), form, code }
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

/// A fenced block written on a single line: its language is the first word, if any.
fn block_in_a_line(inner: &str) -> Option<Code> {
    if let Some((word, source)) = inner.split_once(char::is_whitespace)
        && language::is_program(&word.to_lowercase())
    {
        return code(language_of(word), source.trim());
    }
    if python::is_program(inner) { code("python".to_owned(), inner) } else { None }
}

/// A language directly before the backticks. With a colon it always counts; without one only before
/// a Python program, or if the goal says to run it, and only if the span ends its clause: "the
/// Python `print(x)` function" names a thing.
fn labelled_before(text: &str, range: &Range<usize>, inner: &str) -> Option<Code> {
    let before = text[..range.start].trim_end_matches([' ', '\t']);
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
    let after = text[range.end..].trim_start_matches([' ', '\t']);
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

/// Adds the programs after a bare `python:`; prose after the label does not parse and stays prose.
fn add_labelled(text: &str, page: &GoalDocument, spans: &mut Vec<CodeSpan>) {
    let mut found: Vec<CodeSpan> = Vec::new();
    let mut at = 0;
    for _ in 0..LABELS_MAX {
        let Some((label, body)) = next_label(text, at) else { break };
        at = body;
        let next = spans.partition_point(|span| span.range.end <= label);
        let in_prose = page.leaf_at(label).is_some_and(|leaf| leaf.kind == Kind::Prose);
        if !in_prose
            || page.covers(label)
            || spans.get(next).is_some_and(|it| it.range.start <= label)
        {
            continue;
        }
        let ends = [spans.get(next).map(|span| span.range.start), page.next_hidden(label)];
        let mut limit = ends.into_iter().flatten().min().unwrap_or(text.len());
        let line = text[..label].rfind('\n').map_or(0, |found| found + 1);
        if text[line..].trim_start().starts_with('>') {
            limit = text[body..limit].find('\n').map_or(limit, |len| body + len);
        }
        if body < limit
            && let Some((end, code)) = program_behind(&text[body..limit])
        {
            let lead = text[body..].len() - text[body..].trim_start().len();
            found.push(CodeSpan { range: body + lead..body + end, form: CodeForm::Label, code });
            at = body + end;
        }
    }
    spans.extend(found);
    spans.sort_by_key(|span| span.range.start);
}

/// The next `python:`: where it begins, and where the text after it begins.
fn next_label(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let colon = at + text[at..].find(':')?;
        at = colon + 1;
        let start = text[from..colon]
            .char_indices()
            .rev()
            .take_while(|(_, c)| c.is_ascii_alphanumeric() || *c == '.')
            .take("python3.12".len() + 1)
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

/// The longest program at the beginning of `text`: its paragraph, its line, or its line up to a
/// connector.
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
        // The first line stands after the label, or is indented like the others.
        let source =
            dedent(&text[if text[..start].contains('\n') { line_start } else { start }..end]);
        let source = source.trim_end();
        // `python: 3.12` names a version.
        let acts = source.contains(['(', '=']) || source.starts_with("import ");
        (acts && python::is_program(source))
            .then(|| (text[..end].trim_end().len(), code("python".to_owned(), source)))
    })
}
