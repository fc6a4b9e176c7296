//! The lines of a goal: which are list items, by `CommonMark` or by another marker, which belong
//! together, and which introduce others.
//!
//! *Promises.* Units are in the goal's order and hold all of its letters and digits, except for
//! markers.

use std::ops::Range;

use super::{
    code::CodeSpan,
    document::{Kind, Leaf},
    dot,
    marker::{self, Lists, Marker},
    mask::ByteMask,
};

/// A line of at least this width without a stop was wrapped if the next one begins in lower case.
const WRAPPED_CHARS_MIN: usize = 60;
/// The width of a tab, in columns.
const TAB_COLUMNS: usize = 4;

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// A line of text.
    Prose,
    /// An item of a list.
    Item {
        /// Its marker; `None` for a check box without one.
        marker: Option<Marker>,
        /// Whether its check box is ticked; `None` without one.
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
    /// The start of its marker, or of its text if there is none.
    start: usize,
    /// Its kind.
    pub(super) block: LineKind,
    /// Its indentation, in columns.
    pub(super) column: usize,
    /// A blank line or a rule precedes it.
    pub(super) gap: bool,
    /// It only introduces the lines after it.
    pub(super) intro: bool,
}

/// The units of `text`, the visible text of the document.
pub(super) fn read(text: &str, mask: &ByteMask, code: &[CodeSpan], leaves: &[Leaf]) -> Vec<Unit> {
    let lines = lines(text, mask, code, leaves);
    let lists = Lists::of(lines.iter().map(|(line, _)| &text[line.clone()])).and_in_lines(text);
    let mut end = 0;
    let mut alone = Vec::new();
    for (line, kind) in lines {
        if text[line.clone()].contains(char::is_alphanumeric) {
            // Blank lines, rules, comments and lines without letters or digits.
            let gap = text[end..line.start].matches('\n').nth(1).is_some();
            end = line.end;
            alone.push(unit(text, mask, line, kind, lists, gap));
        }
    }
    forget_dates(text, &mut alone);
    let mut units: Vec<Unit> = Vec::new();
    for unit in alone {
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

/// The lines of the leaves; a line break in code or quotes does not end one.
fn lines(
    text: &str,
    mask: &ByteMask,
    code: &[CodeSpan],
    leaves: &[Leaf],
) -> Vec<(Range<usize>, Kind)> {
    let mut lines = Vec::new();
    let mut done = 0;
    for leaf in leaves {
        let mut start = leaf.range.start.max(done);
        while start < leaf.range.end {
            let breaks = text[start..leaf.range.end].match_indices('\n');
            let mut end = breaks
                .map(|(at, _)| start + at)
                .find(|at| mask.is_free(*at))
                .unwrap_or(leaf.range.end);
            // The program after a label may span several leaves.
            let next = code.partition_point(|span| span.range.start < end);
            if let Some(span) = next.checked_sub(1).and_then(|at| code.get(at)) {
                end = end.max(span.range.end);
            }
            lines.push((start..end, leaf.kind));
            start = end + 1;
        }
        done = start.max(done);
    }
    lines
}

fn unit(
    text: &str,
    mask: &ByteMask,
    line: Range<usize>,
    kind: Kind,
    lists: Lists,
    gap: bool,
) -> Unit {
    let line_start = text[..line.start].rfind('\n').map_or(0, |found| found + 1);
    let mut at = line.start;
    let mut column = columns(&text[line_start..at]);
    let (mut found, mut done) = (None, None);
    while let Some(c) = text[at..line.end].chars().next() {
        let rest = &text[at..line.end];
        if c.is_whitespace() {
            if found.is_none() {
                column += columns(&rest[..c.len_utf8()]);
            }
            at += c.len_utf8();
        } else if mask.is_verbatim(at)
            || is_title(kind) && (at > line.start || !marker::is_common(rest))
        {
            break;
        } else if let Some((ticked, len)) = marker::check_box(rest).filter(|_| done.is_none()) {
            done = Some(ticked);
            at += len;
        } else if let Some(marker) = lists.read(rest).filter(|it| takes(*it, found)) {
            found = Some(marker);
            at += marker.len;
        } else {
            break;
        }
    }
    let end = at + text[at..line.end].trim_end().len();
    let block = match (kind, found, done) {
        (Kind::Heading(level), None, None) => LineKind::Heading(level),
        (_, None, None) => LineKind::Prose,
        (_, marker, done) => LineKind::Item { marker, done },
    };
    Unit { range: at..end, start: line.start, block, column, gap, intro: false }
}

fn is_title(kind: Kind) -> bool {
    matches!(kind, Kind::Heading(_))
}

fn columns(text: &str) -> usize {
    text.chars()
        .filter(|c| c.is_whitespace())
        .map(|c| if c == '\t' { TAB_COLUMNS } else { 1 })
        .sum()
}

/// Turns items that begin with a day of a month back into text: `4. Juni` is no item unless it
/// continues a list's numbers.
fn forget_dates(text: &str, units: &mut [Unit]) {
    let mut days = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        if let LineKind::Item { marker: Some(marker), .. } = unit.block
            && marker.value > 0
        {
            days.push((at, marker.value, dot::month(&text[unit.range.clone()])));
        }
    }
    for (nth, &(at, value, month)) in days.iter().enumerate() {
        let counts = |other: Option<&(usize, u32, Option<usize>)>, to: u32| {
            other.is_some_and(|(_, value, other)| *value == to && *other != month)
        };
        let before = nth.checked_sub(1).and_then(|nth| days.get(nth));
        let in_list = counts(before, value - 1) || counts(days.get(nth + 1), value + 1);
        if month.is_some() && !in_list {
            units[at].range.start = units[at].start;
            units[at].block = LineKind::Prose;
        }
    }
}

fn takes(marker: Marker, before: Option<Marker>) -> bool {
    // `- 1. first` has two markers; more than that is text.
    before.is_none_or(|outer| outer.value == 0 && marker.value > 0)
}

/// Whether `next` is the rest of a wrapped line.
fn continues(text: &str, last: &Unit, next: &Unit, code: &[CodeSpan]) -> bool {
    if next.gap || next.block != LineKind::Prose || matches!(last.block, LineKind::Heading(_)) {
        return false;
    }
    let (before, after) = (&text[last.range.clone()], &text[next.range.clone()]);
    if last.range.is_empty()
        || ends_in_code(last, code)
        || starts_with_code(next, code)
        || before.ends_with([':', '：'])
    {
        return last.range.is_empty()
            && last.block != LineKind::Prose
            && !starts_with_code(next, code);
    }
    if matches!(last.block, LineKind::Item { .. }) && next.column > last.column {
        return true;
    }
    let stopped = before.ends_with(['.', '!', '?', ';', '。', '！', '？', '；', '।']);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let word = line.rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
    let goes_on = after.starts_with(char::is_lowercase)
        || hangs(&word) && after.starts_with(|c: char| c.is_numeric());
    if stopped || !goes_on {
        return false;
    }
    before.ends_with(',')
        || hangs(&word) && line.contains(' ')
        || line.chars().count() >= WRAPPED_CHARS_MIN
}

/// Whether a line that ends in `word` is incomplete.
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
    }) && code[at].form != super::code::CodeForm::Inline
}

fn starts_with_code(unit: &Unit, code: &[CodeSpan]) -> bool {
    let at = code.partition_point(|span| span.range.start < unit.range.start);
    code.get(at).is_some_and(|span| span.range.start == unit.range.start)
        && code[at].form != super::code::CodeForm::Inline
}

/// Whether `unit` only introduces what follows: it ends in a colon, or is the bold line above a
/// list.
fn introduces(text: &str, unit: &Unit, next: Option<&Unit>, code: &[CodeSpan]) -> bool {
    let Some(next) = next else { return false };
    let line = text[unit.range.clone()].trim_end_matches(['*', '_', ' ']);
    let colon = line.ends_with([':', '：']);
    let raw = &text[unit.range.clone()];
    let bold = raw.len() > 4 && raw.starts_with("**") && raw.ends_with("**");
    match (unit.block, next.block) {
        (LineKind::Prose, LineKind::Item { .. }) => colon || bold,
        (LineKind::Prose, LineKind::Prose) => colon && !starts_with_code(next, code),
        (LineKind::Item { .. }, LineKind::Item { .. }) => colon && next.column > unit.column,
        _ => false,
    }
}
