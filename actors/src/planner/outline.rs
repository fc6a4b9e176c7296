//! The lines of a goal: which are headings, items of lists and prose, which belong together, and which
//! introduce others.
//!
//! *Promises.* Units come in the goal's order and hold all of its letters and digits, markers aside.

use std::ops::Range;

use super::{
    code::CodeSpan,
    marker::{self, Marker, Style},
    mask::Mask,
};

/// From this width on, a line without a stop whose successor begins in lower case was wrapped.
const WRAPPED_CHARS_MIN: usize = 60;
/// How many columns a tab stands for.
const TAB_COLUMNS: usize = 4;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A line of text.
    Prose,
    /// An item of a list.
    Item {
        /// Its marker; none for a check box without one.
        marker: Option<Marker>,
        /// Whether its check box is ticked; none without one.
        done: Option<bool>,
    },
    /// A heading of this level, from 1.
    Heading(usize),
}

/// One line of a goal, or several that belong together.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Its text, without marker and indentation.
    pub(super) range: Range<usize>,
    /// What it is.
    pub(super) block: Block,
    /// How far it is indented, in columns.
    pub(super) column: usize,
    /// A blank line or a rule stands before it.
    pub(super) gap: bool,
    /// It is there to introduce the lines behind it.
    pub(super) intro: bool,
}

/// The units of `text`.
pub(super) fn read(text: &str, mask: &Mask, code: &[CodeSpan]) -> Vec<Unit> {
    let letters = has_letter_list(text, mask);
    let mut units: Vec<Unit> = Vec::new();
    let mut gap = false;
    for line in lines(text, mask) {
        let raw = &text[line.clone()];
        let bare = raw.trim();
        if !raw.contains(char::is_alphanumeric) {
            match units.last_mut() {
                Some(last)
                    if bare.len() > 2
                        && bare.bytes().all(|byte| byte == b'=')
                        && !gap
                        && last.block == Block::Prose =>
                {
                    last.block = Block::Heading(1);
                }
                _ => gap = true,
            }
            continue;
        }
        let unit = unit(text, line, letters, gap);
        gap = false;
        match units.last_mut() {
            Some(last) if continues(text, last, &unit, code) => last.range.end = unit.range.end,
            _ => units.push(unit),
        }
    }
    for at in 0..units.len() {
        units[at].intro = introduces(text, &units[at], units.get(at + 1), code);
    }
    units
}

/// The lines of `text`; a line break in code or quotes ends none.
fn lines(text: &str, mask: &Mask) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let breaks = text.match_indices('\n').map(|(at, _)| at).filter(|at| mask.is_free(*at));
    breaks.chain(std::iter::once(text.len())).map(move |end| {
        let line = start..end;
        start = end + 1;
        line
    })
}

/// Whether lines begin with `a.` and with `b.`: one alone is somebody's initial.
fn has_letter_list(text: &str, mask: &Mask) -> bool {
    let (mut a, mut b) = (false, false);
    for line in lines(text, mask) {
        if let Some(Marker { style: Style::LetterDot, value, .. }) =
            marker::read(text[line].trim_start())
        {
            a |= value == 1;
            b |= value == 2;
        }
    }
    a && b
}

fn unit(text: &str, line: Range<usize>, letters: bool, gap: bool) -> Unit {
    let mut at = line.start;
    let mut column = 0;
    let (mut found, mut done) = (None, None);
    let mut heading = 0;
    while let Some(c) = text[at..line.end].chars().next() {
        let rest = &text[at..line.end];
        if c.is_whitespace() {
            if found.is_none() {
                column += if c == '\t' { TAB_COLUMNS } else { 1 };
            }
            at += c.len_utf8();
        } else if c == '>' && found.is_none() {
            at += 1;
        } else if let Some(level) = heading_level(rest).filter(|_| found.is_none()) {
            heading = level;
            at += level;
            break;
        } else if let Some((ticked, len)) = marker::check_box(rest).filter(|_| done.is_none()) {
            done = Some(ticked);
            at += len;
        } else if let Some(marker) = marker::read(rest).filter(|it| takes(*it, found, letters)) {
            found = Some(marker);
            at += marker.len;
        } else {
            break;
        }
    }
    let content = &text[at..line.end];
    let content =
        if heading > 0 { content.trim_end_matches(['#', ' ']) } else { content.trim_end() };
    let lead = content.len() - content.trim_start().len();
    let range = at + lead..at + content.len();
    let block = match (heading, found, done) {
        (1.., ..) => Block::Heading(heading),
        (_, None, None) => Block::Prose,
        (_, marker, done) => Block::Item { marker, done },
    };
    Unit { range, block, column, gap, intro: false }
}

fn takes(marker: Marker, before: Option<Marker>, letters: bool) -> bool {
    (letters || marker.style != Style::LetterDot)
        // `- 1. first` has two markers; more than that is text.
        && before.is_none_or(|outer| outer.value == 0 && marker.value > 0)
}

fn heading_level(text: &str) -> Option<usize> {
    let level = text.bytes().take(7).take_while(|byte| *byte == b'#').count();
    ((1..=6).contains(&level) && text[level..].starts_with([' ', '\t'])).then_some(level)
}

/// Whether `next` is the rest of a line that was wrapped.
fn continues(text: &str, last: &Unit, next: &Unit, code: &[CodeSpan]) -> bool {
    if next.gap || next.block != Block::Prose || matches!(last.block, Block::Heading(_)) {
        return false;
    }
    let (before, after) = (&text[last.range.clone()], &text[next.range.clone()]);
    if last.range.is_empty()
        || ends_in_code(last, code)
        || starts_with_code(next, code)
        || before.ends_with([':', '：'])
    {
        return last.range.is_empty()
            && last.block != Block::Prose
            && !starts_with_code(next, code);
    }
    if matches!(last.block, Block::Item { .. }) && next.column > last.column {
        return true;
    }
    let stopped = before.ends_with(['.', '!', '?', ';', '。', '！', '？', '；', '।']);
    if stopped || !after.starts_with(char::is_lowercase) {
        return false;
    }
    let line = before.rsplit('\n').next().unwrap_or_default();
    let word = line.rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
    before.ends_with(',')
        || hangs(&word) && line.contains(' ')
        || line.chars().count() >= WRAPPED_CHARS_MIN
}

/// Whether a line that ends in `word` cannot be complete.
fn hangs(word: &str) -> bool {
    matches!(
        word,
        "a" | "an"
            | "the"
            | "and"
            | "or"
            | "of"
            | "to"
            | "with"
            | "for"
            | "from"
            | "in"
            | "on"
            | "at"
            | "by"
            | "that"
            | "which"
            | "is"
            | "are"
            | "as"
            | "into"
            | "its"
            | "their"
            | "than"
            | "und"
            | "oder"
            | "der"
            | "die"
            | "das"
            | "et"
            | "ou"
            | "le"
            | "la"
            | "les"
            | "de"
            | "y"
            | "el"
    )
}

fn ends_in_code(unit: &Unit, code: &[CodeSpan]) -> bool {
    let at = code.partition_point(|span| span.range.end < unit.range.end);
    code.get(at).is_some_and(|span| {
        span.range.end == unit.range.end && span.range.start >= unit.range.start
    }) && code[at].form != super::code::Form::Inline
}

fn starts_with_code(unit: &Unit, code: &[CodeSpan]) -> bool {
    let at = code.partition_point(|span| span.range.start < unit.range.start);
    code.get(at).is_some_and(|span| span.range.start == unit.range.start)
        && code[at].form != super::code::Form::Inline
}

/// Whether `unit` only introduces what follows: it ends in a colon, or is the bold line over a list.
fn introduces(text: &str, unit: &Unit, next: Option<&Unit>, code: &[CodeSpan]) -> bool {
    let Some(next) = next else { return false };
    let line = text[unit.range.clone()].trim_end_matches(['*', '_', ' ']);
    let colon = line.ends_with([':', '：']);
    let raw = &text[unit.range.clone()];
    let bold = raw.len() > 4 && raw.starts_with("**") && raw.ends_with("**");
    match (unit.block, next.block) {
        (Block::Prose, Block::Item { .. }) => colon || bold,
        (Block::Prose, Block::Prose) => colon && !starts_with_code(next, code),
        (Block::Item { .. }, Block::Item { .. }) => colon && next.column > unit.column,
        _ => false,
    }
}
