//! Protected stretches of a goal, which may not be cut: code, quotes, brackets, addresses and
//! character references.
//!
//! *Promises.* Linear in the text. Unpaired marks protect nothing.
//!
//! *Not here.* File names, versions, decimals and abbreviations need no span: their dots are
//! distinguished from full stops by the code that finds sentences.

use std::ops::Range;

use super::{code::CodeSpan, marker};

/// The longest character reference (`&nbsp;`), in bytes.
const REFERENCE_BYTES_MAX: usize = 10;

/// The longest scheme of an address (`https`), in bytes.
const SCHEME_BYTES_MAX: usize = 16;

/// The protection of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteKind {
    Prose,
    /// Text that is kept whole.
    Whole,
    /// Code, or a block: kept whole and unchanged.
    Verbatim,
}

/// One entry per byte of the goal.
#[derive(Debug)]
pub(super) struct ByteMask(Vec<ByteKind>);

impl ByteMask {
    /// Finds all protected stretches of `text`.
    pub(super) fn new(text: &str, code: &[CodeSpan]) -> Self {
        let mut mask = Self(vec![ByteKind::Prose; text.len()]);
        for span in code {
            mask.set(&span.range, ByteKind::Verbatim);
        }
        mask.protect_addresses(text);
        mask.protect_references(text);
        mask.protect_pairs(text);
        mask
    }

    /// Whether the goal may be cut at the character that begins at `at`.
    pub(super) fn is_free(&self, at: usize) -> bool {
        self.0.get(at).is_none_or(|kind| *kind == ByteKind::Prose)
    }

    /// Whether white space at `at` belongs to code.
    pub(super) fn is_verbatim(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|kind| *kind == ByteKind::Verbatim)
    }

    fn set(&mut self, range: &Range<usize>, kind: ByteKind) {
        for entry in &mut self.0[range.clone()] {
            if *entry != ByteKind::Verbatim {
                *entry = kind;
            }
        }
    }

    /// `https://…`, `www.…`: up to the next white space or character not allowed in addresses,
    /// without the punctuation of the sentence around it.
    fn protect_addresses(&mut self, text: &str) {
        let schemes = text.match_indices("://").map(|(colon, _)| {
            let scheme = text[..colon].bytes().rev().take(SCHEME_BYTES_MAX);
            let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-');
            colon - scheme.take_while(is_scheme).count()
        });
        let hosts =
            text.match_indices("www.").map(|(at, _)| at).filter(|at| starts_word(text, *at));
        let mut starts: Vec<usize> = schemes.chain(hosts).collect();
        starts.sort_unstable();
        let mut done = 0;
        for start in starts {
            if start < done {
                continue;
            }
            let stop = |c: char| {
                c.is_whitespace()
                    || matches!(
                        c,
                        '<' | '>'
                            | '"'
                            | '“'
                            | '”'
                            | '`'
                            | '。'
                            | '，'
                            | '；'
                            | '、'
                            | '！'
                            | '？'
                            | '）'
                            | '」'
                            | '»'
                    )
            };
            let end = text[start..].find(stop).map_or(text.len(), |found| start + found);
            let address =
                text[start..end].trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '_']);
            let address = match address.strip_suffix([')', ']', '}']) {
                Some(inner) if !address.contains(['(', '[', '{']) => inner,
                _ => address,
            };
            if self.is_free(start) {
                self.set(&(start..start + address.len()), ByteKind::Whole);
            }
            done = end;
        }
    }

    fn protect_references(&mut self, text: &str) {
        for (start, _) in text.match_indices('&') {
            let name = text[start + 1..].bytes().take(REFERENCE_BYTES_MAX);
            let name =
                name.take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'#').count();
            if name > 0 && text.as_bytes().get(start + 1 + name) == Some(&b';') {
                self.set(&(start..start + name + 2), ByteKind::Whole);
            }
        }
    }

    /// Quotes and brackets, in one pass with a stack; a closer that skips open marks discards them.
    fn protect_pairs(&mut self, text: &str) {
        let mut open: Vec<(char, usize)> = Vec::new();
        let mut whole: Vec<Range<usize>> = Vec::new();
        let mut waiting = PendingClosers::default();
        let mut before = None;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let after = chars.peek().map(|(_, next)| *next);
            if self.is_free(at) {
                if c == '\n' {
                    let rest = text[at + 1..].trim_start_matches([' ', '\t']);
                    let new_block = rest.starts_with(['\n', '-', '*', '#', '+'])
                        || rest.starts_with(|c: char| c.is_numeric());
                    // Brackets do not span lines: in goals they are too often opened and never
                    // closed.
                    while open.last().is_some_and(|(closer, _)| new_block || is_bracket(*closer)) {
                        if let Some((closer, _)) = open.pop() {
                            waiting.add(closer, -1);
                        }
                    }
                } else if closes(c, before, after) && waiting.count(c) > 0 {
                    while let Some((closer, start)) = open.pop() {
                        waiting.add(closer, -1);
                        if closer == c {
                            whole.push(start..at + c.len_utf8());
                            break;
                        }
                    }
                } else if let Some(closer) = opens(c, before, after) {
                    open.push((closer, at));
                    waiting.add(closer, 1);
                }
            }
            before = Some(c);
        }
        // Outer pairs first, so that nothing inside is set twice.
        whole.sort_by_key(|range| range.start);
        let mut done = 0;
        for range in whole {
            if range.start >= done && !is_marker(&text[range.clone()]) {
                done = range.end;
                self.set(&range, ByteKind::Whole);
            }
        }
    }
}

/// The number of marks that wait for each closer.
#[derive(Default)]
struct PendingClosers(Vec<(char, i32)>);

impl PendingClosers {
    fn count(&self, closer: char) -> i32 {
        self.0.iter().find(|(known, _)| *known == closer).map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, closer: char, by: i32) {
        match self.0.iter_mut().find(|(known, _)| *known == closer) {
            Some((_, count)) => *count += by,
            None => self.0.push((closer, by)),
        }
    }
}

fn starts_word(text: &str, at: usize) -> bool {
    !text[..at].chars().next_back().is_some_and(char::is_alphanumeric)
}

fn is_bracket(closer: char) -> bool {
    matches!(closer, ')' | ']' | '}' | '）' | '】')
}

/// `(1)`, `[x]`, `(a)`: list markers are brackets, but a goal is cut at them.
fn is_marker(text: &str) -> bool {
    let inner = text.trim_start_matches(['(', '[', '（']).trim_end_matches([')', ']', '）']);
    let is_short = inner.chars().count() <= 2 || marker::roman(inner).is_some();
    text.starts_with(['(', '[', '（']) && is_short && !inner.contains(['.', ';'])
}

/// The closer for `c`, if it opens a pair here.
fn opens(c: char, before: Option<char>, after: Option<char>) -> Option<char> {
    let in_word = before.is_some_and(char::is_alphanumeric);
    let leads = after.is_some_and(|next| !next.is_whitespace());
    match c {
        '(' => Some(')'),
        '[' => Some(']'),
        '{' => Some('}'),
        '（' => Some('）'),
        '【' => Some('】'),
        '「' => Some('」'),
        '『' => Some('』'),
        '《' => Some('》'),
        '«' => Some('»'),
        '‹' => Some('›'),
        '“' => Some('”'),
        '„' => Some('“'),
        '‘' if !in_word => Some('’'),
        '‚' => Some('‘'),
        '»' if leads && !in_word => Some('«'),
        '"' if leads && !in_word => Some('"'),
        '\'' if !in_word && after.is_some_and(|next| !next.is_whitespace() && next != '\'') => {
            Some('\'')
        }
        _ => None,
    }
}

/// Whether `c` can close a pair here; an apostrophe in a word closes none.
fn closes(c: char, before: Option<char>, after: Option<char>) -> bool {
    let in_word = after.is_some_and(char::is_alphanumeric);
    let trails = before.is_some_and(|last| !last.is_whitespace());
    match c {
        '\'' | '’' | '"' => trails && !in_word,
        ')' | ']' | '}' | '）' | '】' | '」' | '』' | '》' | '»' | '›' | '”' | '“' | '‘' | '«' => {
            true
        }
        _ => false,
    }
}
