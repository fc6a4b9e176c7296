//! Invisible parts of a block of markup: comments and tags.

use std::ops::Range;

/// Elements whose content is data, or a program of the page itself.
const DATA: [&str; 4] = ["pre", "script", "style", "textarea"];

/// Whether `block` is an element whose content is kept as it is.
pub(super) fn is_data(block: &str) -> bool {
    let name = block.strip_prefix('<').unwrap_or_default();
    let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
    DATA.iter().any(|it| name[..end].eq_ignore_ascii_case(it))
}

/// A tag, comment, declaration or instruction.
#[derive(Clone, Debug)]
pub(super) struct Markup {
    /// Its place.
    pub(super) range: Range<usize>,
    /// A tag; otherwise a comment, a declaration or an instruction.
    pub(super) is_tag: bool,
}

/// The marks of `block`, which begins at `offset`.
pub(super) fn marks(block: &str, offset: usize) -> Vec<Markup> {
    let mut marks = Vec::new();
    let mut at = 0;
    while let Some(found) = block[at..].find('<') {
        let start = at + found;
        let rest = &block[start..];
        let next = rest[1..].chars().next();
        let closer = if rest.starts_with("<!--") {
            "-->"
        } else if rest.starts_with("<?") {
            "?>"
        } else if rest.starts_with("<![CDATA[") {
            "]]>"
        } else if next.is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '/' | '!')) {
            ">"
        } else {
            at = start + 1;
            continue;
        };
        let is_tag = closer == ">" && next != Some('!');
        let end = rest.find(closer).map(|len| start + len + closer.len());
        // A comment without an end extends to the end of its block; a tag without one is text.
        if end.is_none() && is_tag {
            break;
        }
        let end = end.unwrap_or(block.len());
        marks.push(Markup { range: offset + start..offset + end, is_tag });
        at = end;
    }
    marks
}

/// The `marks` in `range`.
pub(super) fn within<'a>(marks: &'a [Markup], range: &Range<usize>) -> &'a [Markup] {
    let first = marks.partition_point(|mark| mark.range.end <= range.start);
    let last = marks.partition_point(|mark| mark.range.start < range.end);
    &marks[first..last.max(first)]
}

/// Whether `range` of `text` has letters or digits outside of `marks`.
pub(super) fn has_words(text: &str, range: &Range<usize>, marks: &[Markup]) -> bool {
    let mut marks = marks.iter().peekable();
    text[range.clone()].char_indices().any(|(offset, c)| {
        let at = range.start + offset;
        while marks.next_if(|mark| mark.range.end <= at).is_some() {}
        c.is_alphanumeric() && marks.peek().is_none_or(|mark| mark.range.start > at)
    })
}
