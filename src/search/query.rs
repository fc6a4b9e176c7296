//! Query syntax: words, phrases, exclusions, and filters.
//!
//! `"keyword_index in a row"` is a phrase that a memory must contain; `-word` and `-"keyword_index
//! in a row"` exclude. No query is an error: what is no valid syntax is searched as words. So are a
//! lone quote, a `-` before a single letter, and any `-` in a line with the punctuation of a path,
//! a shell command or a program, which was probably pasted.

use ai_factory_ports::views::SearchQuery;
use ai_factory_schemas::{
    id::SessionId,
    limit::QUERY_BYTES_MAX,
    memory::{MemoryKind, SearchMode},
    time::Timestamp,
};

use super::{
    documents::{Document, identity},
    tokens::{Token, simple, tokens},
};

/// A single word in quotes is a mentioned name, not a phrase.
const PHRASE_WORDS_MIN: usize = 2;

/// A parsed query.
#[derive(Clone, Debug)]
pub(crate) struct ParsedQuery {
    /// The query as written, trimmed, at most [`QUERY_BYTES_MAX`] bytes.
    pub(crate) literal: String,
    /// Identity of the whole query, to recognise identical texts.
    pub(crate) identity: u64,
    /// The text to search for, without syntax and exclusions.
    pub(crate) text: String,
    /// The tokens of `text` in order, including compound ones.
    pub(crate) words: Vec<String>,
    /// The simple words of the query as written, if it is specific enough that a memory containing
    /// it verbatim is certainly wanted: it contains compound words or digits, or is a whole
    /// sentence.
    pub(crate) distinctive: Option<Vec<String>>,
    /// Which memories are searched.
    pub(crate) filter: MemoryFilter,
    /// Keyword, vector or hybrid search.
    pub(crate) mode: SearchMode,
    /// Number of results.
    pub(crate) limit: usize,
    /// Whether only the best of several near duplicates is a result.
    pub(crate) fold: bool,
}

/// Conditions that a memory must meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryFilter {
    /// Of this kind.
    pub(crate) kind: Option<MemoryKind>,
    /// Not before this time.
    pub(crate) since: Option<Timestamp>,
    /// Before this time.
    pub(crate) until: Option<Timestamp>,
    /// With this tag.
    pub(crate) tag: Option<String>,
    /// Not of this session.
    pub(crate) without: Option<SessionId>,
    /// Not the memory with this id.
    pub(crate) but: Option<String>,
    /// Contains all of these phrases.
    pub(crate) phrases: Vec<Vec<String>>,
    /// Contains none of these phrases.
    pub(crate) excluded: Vec<Vec<String>>,
}

impl MemoryFilter {
    /// Whether it admits every memory.
    pub(crate) fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it only excludes memories.
    pub(crate) fn only_leaves_out(&self) -> bool {
        let Self { kind, since, until, tag, without: _, but: _, phrases, excluded: _ } = self;
        kind.is_none() && since.is_none() && until.is_none() && tag.is_none() && phrases.is_empty()
    }

    /// Whether a memory meets the conditions other than phrases and exclusions.
    pub(crate) fn covers(&self, document: &Document) -> bool {
        self.kind.is_none_or(|kind| kind == document.kind)
            && self.since.is_none_or(|since| document.time >= since)
            && self.until.is_none_or(|until| document.time < until)
            && self.tag.as_ref().is_none_or(|tag| document.tags.iter().any(|has| has == tag))
            && (self.without.is_none() || self.without != document.session)
            && self.but.as_ref() != Some(&document.id)
    }
}

impl ParsedQuery {
    /// Number of best memories that may be read for the results.
    pub(crate) fn scan_limit(&self) -> usize {
        /// Memories read per result to skip near duplicates.
        const FOLDED_FACTOR: usize = 6;
        self.limit * if self.fold { FOLDED_FACTOR } else { 1 }
    }

    /// Number of best memories to search for at first, and after that if near duplicates left too
    /// few results.
    pub(crate) fn result_limits(&self) -> [usize; 2] {
        /// Most memories are no near duplicates.
        const FIRST_FACTOR: usize = 2;
        let most = self.scan_limit();
        [most.min(FIRST_FACTOR * self.limit), most]
    }

    /// The text to embed; `None` if only keywords count.
    pub(crate) fn semantic_text(&self) -> Option<&str> {
        // Models have vectors for punctuation too, which by itself means nothing.
        let is_meant = self.mode != SearchMode::Keyword && !self.words.is_empty();
        is_meant.then_some(self.text.as_str())
    }

    /// Parses a query.
    pub(crate) fn new(query: &SearchQuery) -> Self {
        let cut = &query.text[..query.text.floor_char_boundary(QUERY_BYTES_MAX)];
        let literal = cut.trim().to_owned();
        let is_text = query.plain || query.similar_to.is_some();
        let Syntax { text, phrases, excluded } =
            if is_text { Syntax::none(&literal) } else { Syntax::read(&literal) };
        let written = tokens(&literal);
        let distinctive = is_distinctive(&written).then(|| {
            let simple = written.iter().filter(|token| token.is_simple);
            simple.map(|token| token.text.clone()).collect()
        });
        let words = if text.trim_end() == literal { written } else { tokens(&text) };
        Self {
            identity: identity(&query.text),
            text,
            words: words.into_iter().map(|token| token.text).collect(),
            distinctive,
            filter: MemoryFilter {
                kind: query.kind,
                since: query.since,
                until: query.until,
                tag: query.tag.clone(),
                without: query.without,
                but: query.similar_to.clone(),
                phrases,
                excluded,
            },
            mode: query.mode,
            limit: query.limit,
            fold: query.fold,
            literal,
        }
    }
}

/// Whether a query with these words is specific.
fn is_distinctive(written: &[Token]) -> bool {
    /// Words from which a query is a sentence.
    const SENTENCE_WORDS_MIN: usize = 5;
    let is_odd =
        |token: &Token| !token.is_simple || token.text.contains(|c: char| c.is_ascii_digit());
    written.iter().any(is_odd)
        || written.iter().filter(|token| token.is_simple).count() >= SENTENCE_WORDS_MIN
}

#[derive(Debug, PartialEq, Eq)]
struct Syntax {
    text: String,
    phrases: Vec<Vec<String>>,
    excluded: Vec<Vec<String>>,
}

impl Syntax {
    fn none(literal: &str) -> Self {
        Self { text: literal.to_owned(), phrases: Vec::new(), excluded: Vec::new() }
    }

    fn read(literal: &str) -> Self {
        let mut syntax = Self { text: String::new(), phrases: Vec::new(), excluded: Vec::new() };
        let is_pasted = is_pasted(literal);
        let mut rest = literal;
        while !rest.is_empty() {
            let (is_negated, begun) = match rest.strip_prefix('-') {
                Some(after) if !is_pasted => (true, after),
                _ => (false, rest),
            };
            let (part, after) = if let Some((inside, after)) = quoted(begun) {
                (simple(inside), after)
            } else {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (Vec::new(), &rest[end..])
            };
            let is_phrase = !part.is_empty();
            let chunk = &rest[..rest.len() - after.len()];
            let word = if is_phrase { part } else { simple(chunk) };
            if is_negated && (is_phrase || can_be_excluded(chunk)) {
                syntax.excluded.push(word);
            } else {
                if is_phrase && word.len() >= PHRASE_WORDS_MIN {
                    syntax.phrases.push(word);
                }
                syntax.text.push_str(chunk.trim_matches('"'));
                syntax.text.push(' ');
            }
            rest = after.trim_start();
        }
        // If nothing is left to search for, it was not meant as syntax.
        if simple(&syntax.text).is_empty() { Self::none(literal) } else { syntax }
    }
}

/// Splits at the quote that ends a word: the text from the quote at the beginning to there, and the
/// rest.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let end = inside.match_indices('"').map(|(at, _)| at).find(|at| {
        let behind = &inside[at + 1..];
        behind.is_empty() || behind.starts_with(char::is_whitespace)
    })?;
    Some((&inside[..end], &inside[end + 1..]))
}

/// Whether a text is a line of a shell, a log or a program rather than a question.
fn is_pasted(text: &str) -> bool {
    text.contains(['/', '|', '$', '=', '{', '}', '\\', ';', '<', '>', '\n'])
        || text
            .split_whitespace()
            .any(|chunk| chunk.starts_with("--") || chunk == "-" || chunk == ".")
}

/// Whether `-word` is an exclusion, rather than a flag of one letter or a negative number.
fn can_be_excluded(chunk: &str) -> bool {
    let word = chunk.trim_start_matches('-');
    word.chars().nth(1).is_some() && word.starts_with(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, text: &str, phrases: &[&str], excluded: &[&str]) {
        let syntax = Syntax::read(query);
        let joined = |all: &[Vec<String>]| all.iter().map(|one| one.join(" ")).collect::<Vec<_>>();
        assert_eq!(syntax.text.trim(), text, "{query}");
        assert_eq!(joined(&syntax.phrases), phrases, "{query}");
        assert_eq!(joined(&syntax.excluded), excluded, "{query}");
    }

    #[test]
    fn phrases_must_be_there_and_words_with_a_minus_must_not() {
        check("zebra crossing", "zebra crossing", &[], &[]);
        check(r#""zebra crossing" rules"#, "zebra crossing rules", &["zebra crossing"], &[]);
        check("zebra -lion", "zebra", &[], &["lion"]);
        check(r#"-"big lion" zebra"#, "zebra", &[], &["big lion"]);
        check("zebra -snake_case", "zebra", &[], &["snake case"]);
    }

    #[test]
    fn a_slip_is_words() {
        check(r#""zebra crossing"#, "zebra crossing", &[], &[]);
        check("-lion", "-lion", &[], &[]);
        check("zebra - lion", "zebra - lion", &[], &[]);
        check(r#"zebra """#, "zebra", &[], &[]);
        check(r#"the file "zebra""#, "the file zebra", &[], &[]);
        check("zebra -5 -x", "zebra -5 -x", &[], &[]);
        check(r#"say"hello"now"#, r#"say"hello"now"#, &[], &[]);
        check("?!", "?!", &[], &[]);
        check("", "", &[], &[]);
    }

    #[test]
    fn a_pasted_command_leaves_nothing_out() {
        for command in ["find . -name foo", "tar -xzf a/b.tar", "ls -la --all", "a | sort -rn"] {
            check(command, command, &[], &[]);
        }
    }
}
