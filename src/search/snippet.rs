//! Snippets: the part of a memory that matches best, with marks around the words of the query.

use std::{collections::HashSet, ops::Range};

use ai_factory_schemas::limit::MEMORY_SNIPPET_CHARS_MAX;

use super::tokens::cut;

/// Mark before and after a word of the query.
const MARK: &str = "**";
/// Limit of the text that is searched, in bytes.
const LOOKED_BYTES_MAX: usize = 4 * 1024;
/// Stands for text that was left out.
const ELLIPSIS: &str = "…";

/// The distinct words of a query.
pub(super) struct HighlightTerms<'a> {
    /// Sorted.
    words: Vec<&'a str>,
    /// Which first bytes they have: rules most words of a text out.
    begin: [bool; 1 << u8::BITS],
}

impl<'a> HighlightTerms<'a> {
    /// From words with possible repetitions.
    pub(super) fn new(words: impl Iterator<Item = &'a str>) -> Self {
        let mut words: Vec<&str> = words.collect();
        words.sort_unstable();
        words.dedup();
        let mut begin = [false; 1 << u8::BITS];
        for first in words.iter().filter_map(|word| word.bytes().next()) {
            begin[usize::from(first)] = true;
        }
        Self { words, begin }
    }

    /// Index of a word.
    fn number(&self, word: &str) -> Option<usize> {
        let first = word.bytes().next()?;
        if self.begin[usize::from(first)] { self.words.binary_search(&word).ok() } else { None }
    }
}

/// An occurrence of a word of the query, with the word's index.
struct Hit {
    span: Range<usize>,
    word: usize,
}

/// The part of `text` with the most distinct words of `terms`, with marks.
pub(super) fn snippet(text: &str, terms: &HighlightTerms<'_>) -> String {
    let looked = &text[..text.floor_char_boundary(LOOKED_BYTES_MAX)];
    let mut hits = Vec::new();
    cut(looked, |token| {
        if let Some(word) = terms.number(token.text) {
            hits.push(Hit { span: token.span, word });
        }
    });
    let start = best_start(text, &hits);
    let end = after_chars(text, start, MEMORY_SNIPPET_CHARS_MAX);
    let mut snippet = String::new();
    if start > 0 {
        snippet.push_str(ELLIPSIS);
    }
    let mut at = start;
    for token in &hits {
        // A compound word takes precedence over its parts.
        if token.span.start < at || token.span.end > end {
            continue;
        }
        let longest = hits.iter().filter(|other| other.span.start == token.span.start);
        let stop = longest.map(|other| other.span.end).filter(|stop| *stop <= end).max();
        let stop = stop.unwrap_or(token.span.end);
        snippet.push_str(&text[at..token.span.start]);
        for part in [MARK, &text[token.span.start..stop], MARK] {
            snippet.push_str(part);
        }
        at = stop;
    }
    snippet.push_str(text[at..end].trim_end());
    if end < text.trim_end().len() {
        snippet.push_str(ELLIPSIS);
    }
    snippet
}

/// Start of the snippet: a little before the hits, between two words; at the beginning of a text
/// that fits as a whole.
fn best_start(text: &str, hits: &[Hit]) -> usize {
    /// Text shown before the first hit, in characters.
    const BEFORE_CHARS: usize = 40;
    if after_chars(text, 0, MEMORY_SNIPPET_CHARS_MAX) == text.len() {
        return 0;
    }
    let mut best = (0, 0);
    for (index, first) in hits.iter().enumerate() {
        if hits.len() - index <= best.0 {
            break;
        }
        let end = after_chars(text, first.span.start, MEMORY_SNIPPET_CHARS_MAX - BEFORE_CHARS);
        let within = hits[index..].iter().take_while(|token| token.span.end <= end);
        let different: HashSet<usize> = within.map(|hit| hit.word).collect();
        if different.len() > best.0 {
            best = (different.len(), first.span.start);
        }
    }
    let before = &text[..best.1];
    if before.chars().count() <= BEFORE_CHARS {
        return 0;
    }
    let window = before.char_indices().rev().nth(BEFORE_CHARS - 1).map_or(0, |(at, _)| at);
    let space = before[window..].find(char::is_whitespace);
    let start = space.map_or(best.1, |space| window + space);
    start + (text[start..].len() - text[start..].trim_start().len())
}

/// The byte offset so many characters behind `start`, or the end of the text.
fn after_chars(text: &str, start: usize, chars: usize) -> usize {
    let text = &text[start..];
    let end = match text.as_bytes().get(..chars) {
        None => text.len(),
        Some(first) if first.is_ascii() => chars,
        Some(_) => text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at),
    };
    start + end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tokens::tokens, *};

    fn made(text: &str, query: &str) -> String {
        let words = tokens(query);
        snippet(text, &HighlightTerms::new(words.iter().map(|token| token.text.as_str())))
    }

    #[track_caller]
    fn check(text: &str, query: &str, expected: &str) {
        assert_eq!(made(text, query), expected);
    }

    #[test]
    fn the_words_that_were_looked_for_are_marked() {
        check("Build a shop", "shops build", "**Build** a **shop**");
        check("call getUserName()", "user name", "call get**User****Name**()");
        check("call getUserName() now", "getUserName", "call **getUserName**() now");
        check("nothing here", "zebra", "nothing here");
        check("数据库", "据", "数**据**库");
    }

    #[test]
    fn a_text_that_is_short_enough_is_shown_whole() {
        let text = format!("{}the zebra crossed the river", "lorem ipsum ".repeat(15));
        check(&text, "zebra", &text.replace("zebra", "**zebra**"));
    }

    #[test]
    fn of_a_long_text_the_part_with_the_words_is_shown() {
        let text = format!(
            "{}the zebra crossed the river{}",
            "lorem ipsum ".repeat(50),
            " dolor".repeat(50)
        );
        let snippet = made(&text, "zebra river");
        assert!(snippet.starts_with('…') && snippet.ends_with('…'), "{snippet}");
        assert!(snippet.contains("the **zebra** crossed the **river**"), "{snippet}");
    }

    proptest! {
        #[test]
        fn a_snippet_is_a_part_of_the_text_with_marks(text in "[a-c ü\\n]{0,600}", query in "[a-cü ]{0,9}") {
            let made = made(&text, &query);
            let plain = made.replace(MARK, "");
            let plain = plain.trim_matches('…');
            prop_assert!(text.contains(plain), "{:?}", made);
            prop_assert!(plain.chars().count() <= MEMORY_SNIPPET_CHARS_MAX);
        }
    }
}
