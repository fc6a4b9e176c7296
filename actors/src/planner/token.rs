//! The words of a goal with the punctuation around them, and the connectors they form.

use std::ops::Range;

use super::{
    mask::ByteMask,
    word::{self, Connector},
};

/// A stretch between white space, at which a goal may be cut.
#[derive(Debug)]
pub(super) struct ProseToken {
    /// Its start.
    pub(super) start: usize,
    /// Its end.
    pub(super) end: usize,
    /// Its text without the punctuation around it.
    pub(super) core: Range<usize>,
    /// The core in lower case, if it is prose.
    pub(super) word: String,
}

/// The tokens of `range`; white space in code, quotes and brackets does not separate them.
pub(super) fn tokens(text: &str, mask: &ByteMask, range: Range<usize>) -> Vec<ProseToken> {
    let mut tokens = Vec::new();
    let mut start = None;
    let ends = text[range.clone()].char_indices().map(|(at, c)| (range.start + at, Some(c)));
    for (at, c) in ends.chain(std::iter::once((range.end, None))) {
        let is_space = c.is_none_or(|c| c.is_whitespace() && mask.is_free(at));
        match start {
            None if !is_space => start = Some(at),
            Some(from) if is_space => {
                tokens.push(token(text, mask, from, at));
                start = None;
            }
            _ => {}
        }
    }
    tokens
}

fn token(text: &str, mask: &ByteMask, start: usize, end: usize) -> ProseToken {
    let whole = &text[start..end];
    let core = whole.trim_matches(|c: char| !c.is_alphanumeric());
    let from = if core.is_empty() { end } else { start + whole.find(core).unwrap_or(0) };
    let core = from..from + core.len();
    let word =
        if mask.is_free(core.start) { text[core.clone()].to_lowercase() } else { String::new() };
    let word = if text[start..end] == *"&" { "&".to_owned() } else { word };
    ProseToken { start, end, core, word }
}

/// The longest connector that begins with the token at `at`, and its number of tokens.
pub(super) fn phrase_at(
    text: &str,
    tokens: &[ProseToken],
    at: usize,
) -> Option<(&'static Connector, usize)> {
    let first = tokens.get(at)?;
    if first.word.is_empty() || !word::begins_connector(&first.word) {
        return None;
    }
    let mut found = None;
    let mut phrase = String::new();
    for (words, token) in tokens[at..].iter().take(word::PHRASE_WORDS_MAX).enumerate() {
        if words > 0 {
            phrase.push(' ');
        }
        phrase.push_str(&token.word);
        if let Some(connector) = word::connector(&phrase) {
            found = Some((connector, words + 1));
        }
        if text[token.core.end..token.end].contains(|c: char| !c.is_whitespace())
            || token.word.is_empty()
        {
            break;
        }
    }
    found
}
