//! Wording of a step: a piece of the goal without the words and marks that only join it to its
//! neighbours.

use std::ops::Range;

use super::{
    mask::ByteMask,
    word::{self, ConnectorPosition},
};

/// A piece of the goal, worded as a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wording {
    /// What to do; empty if the piece has only connectors and marks.
    pub(super) action: String,
    /// The connectors at its beginning, as written in the goal.
    pub(super) lead: String,
    /// The connectors at its end, which join it to nothing.
    pub(super) tail: String,
    /// Its connector marks the last step.
    pub(super) last: bool,
}

/// The neighbourhood of the piece.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Surroundings {
    /// Text precedes it in the goal.
    pub(super) after_other: bool,
    /// Text follows it in the goal.
    pub(super) before_other: bool,
    /// The goal has connectors, so a bare `first` is one too.
    pub(super) sequence: bool,
}

/// Marks at the edges of a piece that belong to the sentence around it.
const EDGE: &[char] = &[
    ',', ';', ':', '.', '，', '；', '：', '、', '。', '·', '|', '>', '=', '-', '–', '—', '―', '→',
    '⇒', '➜', '➔', '⟶', '،', '؛', '।', '۔', '։', '።', '။', '&', '+', '*', '•', '#',
];

/// Words the piece at `range` as a step.
pub(super) fn wording(
    text: &str,
    mask: &ByteMask,
    range: Range<usize>,
    around: Surroundings,
) -> Wording {
    let mut wording = Wording::default();
    let (mut start, mut end) = (range.start, range.end);
    loop {
        start = skip_marks(text, mask, start, end);
        let Some((len, last)) = leading(text, mask, start..end, around) else { break };
        push_word(&mut wording.lead, &text[start..start + len]);
        wording.last |= last;
        start += len;
    }
    loop {
        end = trim_marks(text, mask, start, end);
        let Some(len) = trailing(text, mask, start..end, around) else { break };
        let word = &text[end - len..end];
        wording.tail = if wording.tail.is_empty() {
            word.to_owned()
        } else {
            format!("{word} {}", wording.tail)
        };
        end -= len;
    }
    wording.action = collapse(text, mask, start..end);
    wording
}

fn push_word(lead: &mut String, word: &str) {
    if !lead.is_empty() {
        lead.push(' ');
    }
    lead.push_str(&word.split_whitespace().collect::<Vec<_>>().join(" "));
}

fn skip_marks(text: &str, mask: &ByteMask, start: usize, end: usize) -> usize {
    let mut at = start;
    while let Some(c) = text[at..end].chars().next() {
        let rest = &text[at + c.len_utf8()..end];
        // `.env`, `-5`, `#1` and `*this*` begin with a mark of their own.
        let loose = !c.is_ascii()
            || rest.is_empty()
            || rest.starts_with(char::is_whitespace)
            || matches!(c, ',' | ';' | ':')
            || c == '-' && rest.starts_with(['>', '-'])
            || c == '=' && rest.starts_with(['>', '=']);
        if !mask.is_free(at)
            || !(c.is_whitespace() || is_invisible(c) || EDGE.contains(&c) && loose)
        {
            break;
        }
        at += c.len_utf8();
    }
    at
}

fn trim_marks(text: &str, mask: &ByteMask, start: usize, end: usize) -> usize {
    let mut at = end;
    while let Some(c) = text[start..at].chars().next_back() {
        let mut begin = at - c.len_utf8();
        let is_edge = match c {
            '.' => !ends_abbreviation(&text[start..begin]),
            ',' | ';' | ':' => true,
            c if c.is_ascii() && EDGE.contains(&c) => {
                // C++, C#, x-> and a* keep their marks; a dash on its own is removed at any length.
                let before = text[start..at].trim_end_matches(EDGE);
                if !before.is_empty() && !before.ends_with(char::is_whitespace) {
                    break;
                }
                // Removing the whole run at once keeps long runs linear.
                if mask.is_free(begin) {
                    begin = start + before.len();
                }
                true
            }
            c => EDGE.contains(&c),
        };
        if !mask.is_free(begin) || !(c.is_whitespace() || is_invisible(c) || is_edge) {
            break;
        }
        at = begin;
    }
    at
}

/// Whether the dot after `before` is part of its last word.
fn ends_abbreviation(before: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let dotted = word.contains('.') && word.split('.').all(|part| part.chars().count() == 1);
    let letters = dotted && !word.contains(|c: char| c.is_numeric());
    letters
        || matches!(
            word.as_str(),
            "etc" | "inc" | "ltd" | "corp" | "jr" | "sr" | "al" | "usw" | "ph.d"
        )
}

/// The connector at the beginning of `range`, if text remains after it: its length, and whether it
/// marks the last step.
fn leading(
    text: &str,
    mask: &ByteMask,
    range: Range<usize>,
    around: Surroundings,
) -> Option<(usize, bool)> {
    let rest = &text[range.clone()];
    if !mask.is_free(range.start) {
        return None;
    }
    if let Some((phrase, last)) = word::unspaced(rest) {
        return has_words(&rest[phrase.len()..]).then_some((phrase.len(), last));
    }
    let mut ends = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut at = 0;
    for _ in 0..=word::PHRASE_WORDS_MAX {
        let tail = &rest[at..];
        let gap = tail.len() - tail.trim_start().len();
        let len = tail[gap..].find(char::is_whitespace).unwrap_or(tail.len() - gap);
        let raw = &tail[gap..gap + len];
        let core = raw.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '&');
        if core.is_empty() || core.len() > 24 || !mask.is_free(range.start + at + gap) {
            break;
        }
        words.push(core.to_lowercase());
        ends.push((at + gap + core.len(), raw.len() > core.len()));
        at += gap + len;
        if raw.len() > core.len() {
            break;
        }
    }
    let from = usize::from(words.len() > 1 && word::is_and(&words[0]));
    for skip in [from, 0] {
        for count in (1..=words.len().saturating_sub(skip)).rev() {
            let phrase = words[skip..skip + count].join(" ");
            let (end, marked) = ends[skip + count - 1];
            let tail = &rest[end..];
            let comma = marked && tail.starts_with([',', ':', '，', '،', '.']);
            let next =
                tail.split_whitespace().find(|candidate| has_words(candidate)).unwrap_or_default();
            if marked && !comma || next.is_empty() {
                continue;
            }
            if let Some(connector) = word::connector(&phrase)
                && (skip > 0 || strips(connector, comma, next, around))
            {
                return Some((end, connector.last));
            }
        }
    }
    // A joining `and` stays if nothing precedes it.
    let and = words.first().filter(|candidate| {
        word::is_and(candidate) && (candidate.chars().count() > 1 || *candidate == "&")
    });
    let (end, marked) = *ends.first()?;
    (and.is_some() && around.after_other && !marked && has_words(&rest[end..]))
        .then_some((end, false))
}

/// Whether a connector at the beginning of a step says nothing but its place in the order.
fn strips(connector: &word::Connector, comma: bool, next: &str, around: Surroundings) -> bool {
    let next = next.trim_matches(|c: char| !c.is_alphanumeric());
    let lower = next.starts_with(char::is_lowercase);
    let next = next.to_lowercase();
    match connector.phrase {
        "first" => comma || around.sequence && lower && !word::is_described(&next),
        "next" => comma || !word::is_described(&next),
        "finally" => comma || !word::is_plain_finally("", &next),
        "after that" => comma || !word::is_noun_of_that(&next),
        "then" => comma || next != "and",
        "dopo" | "sonra" => comma,
        phrase => match connector.place {
            ConnectorPosition::Anywhere => true,
            ConnectorPosition::AfterPause => comma || !phrase.contains(' ') || !phrase.is_ascii(),
            ConnectorPosition::Opening => comma,
        },
    }
}

/// The length in bytes of the connectors at the end of `range` that join it to nothing.
fn trailing(
    text: &str,
    mask: &ByteMask,
    range: Range<usize>,
    around: Surroundings,
) -> Option<usize> {
    let rest = &text[range.clone()];
    let (before, word) = rest.rsplit_once(char::is_whitespace)?;
    if word.len() > 12 || !mask.is_free(range.end - word.len()) || !has_words(before) {
        return None;
    }
    let lower = word.to_lowercase();
    let previous = before.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
    if before.to_lowercase().ends_with("now and") {
        return None;
    }
    let joined = previous.ends_with(',') || word::is_and(&previous.to_lowercase());
    let is_and = word::is_and(&lower) && lower.chars().count() > 1;
    let leads_nowhere = match lower.as_str() {
        "then" | "dann" | "puis" | "finally" => {
            joined || around.before_other && !word::is_time_then(previous)
        }
        _ => is_and && (around.before_other || previous.ends_with(',')),
    };
    leads_nowhere.then_some(word.len())
}

fn has_words(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

/// Invisible characters: byte order marks, zero-width spaces, controls.
pub(super) fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{2060}' | '\u{200e}' | '\u{200f}')
}

/// The text of `range` with each run of white space outside of code as one space.
pub(super) fn collapse(text: &str, mask: &ByteMask, range: Range<usize>) -> String {
    let mut collapsed = String::with_capacity(range.len());
    let mut space = false;
    for (offset, c) in text[range.clone()].char_indices() {
        // The container mark before a line of a block.
        if c == '\0' {
            continue;
        }
        if (c.is_whitespace() || c.is_control()) && !mask.is_verbatim(range.start + offset) {
            space = true;
            continue;
        }
        if space && !collapsed.is_empty() {
            collapsed.push(' ');
        }
        space = false;
        collapsed.push(c);
    }
    collapsed.truncate(collapsed.trim_end().len());
    collapsed
}
