//! What a person asks for: words, phrases, words that must not be there, and which memories at all.
//!
//! `"words in a row"` must stand in a memory so; a memory with `-word` or `-"words in a row"` is left out. Nothing a
//! query says is an error: what is no syntax are words to look for. A lone quote is, and so are a `-` before a single
//! letter and any `-` in a line with the marks of a path, a shell or a program, which somebody has pasted.

use ai_factory_actors::ports::views::Sought;
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

/// A single word in quotes is a name that somebody mentions.
const PHRASE_WORDS_MIN: usize = 2;

/// A query, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// As it was written, without the space around it, at most [`QUERY_BYTES_MAX`] bytes.
    pub(crate) literal: String,
    /// Says which texts are identical with the whole query.
    pub(crate) identity: u64,
    /// What to look for, without the syntax and without what must not be there.
    pub(crate) text: String,
    /// The words of that, in order, those that consist of others among them.
    pub(crate) words: Vec<String>,
    /// The simple words of the query as it was written, if it is so particular that a memory in which it stands word for word is what
    /// was meant: it has words of several parts or with digits in them, or it is a whole sentence.
    pub(crate) particular: Option<Vec<String>>,
    /// Which memories at all.
    pub(crate) filter: Filter,
    /// By words, by meaning, or both.
    pub(crate) mode: SearchMode,
    /// How many results.
    pub(crate) limit: usize,
    /// Whether of memories that say nearly the same only the best is a result.
    pub(crate) fold: bool,
}

/// Which memories are to be found at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Of this kind.
    pub(crate) kind: Option<MemoryKind>,
    /// From this time on.
    pub(crate) since: Option<Timestamp>,
    /// Before this time.
    pub(crate) until: Option<Timestamp>,
    /// With this tag.
    pub(crate) tag: Option<String>,
    /// Not of this session.
    pub(crate) without: Option<SessionId>,
    /// Not this one.
    pub(crate) but: Option<String>,
    /// With all of these.
    pub(crate) phrases: Vec<Vec<String>>,
    /// With none of these.
    pub(crate) excluded: Vec<Vec<String>>,
}

impl Filter {
    /// Whether it lets every memory through.
    pub(crate) fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it asks for nothing, and only names what is to be left out.
    pub(crate) fn only_leaves_out(&self) -> bool {
        let Self { kind, since, until, tag, without: _, but: _, phrases, excluded: _ } = self;
        kind.is_none() && since.is_none() && until.is_none() && tag.is_none() && phrases.is_empty()
    }

    /// Whether a memory is one of those that were asked for, whatever its words are.
    pub(crate) fn covers(&self, document: &Document) -> bool {
        self.kind.is_none_or(|kind| kind == document.kind)
            && self.since.is_none_or(|since| document.time >= since)
            && self.until.is_none_or(|until| document.time < until)
            && self.tag.as_ref().is_none_or(|tag| document.tags.iter().any(|has| has == tag))
            && (self.without.is_none() || self.without != document.session)
            && self.but.as_ref() != Some(&document.id)
    }
}

impl Question {
    /// How many of the best may be read for the results.
    pub(crate) fn looked_through(&self) -> usize {
        /// Of memories that say nearly the same, so many are looked through for the best of each.
        const FOLDED_FACTOR: usize = 6;
        self.limit * if self.fold { FOLDED_FACTOR } else { 1 }
    }

    /// How many of the best are looked for at first, and how many where those have too few results.
    pub(crate) fn looked_for(&self) -> [usize; 2] {
        /// Most memories say different things.
        const FIRST_FACTOR: usize = 2;
        let most = self.looked_through();
        [most.min(FIRST_FACTOR * self.limit), most]
    }

    /// What a vector is wanted of; `None` where words alone are to count.
    pub(crate) fn meant(&self) -> Option<&str> {
        // A model has vectors for signs too; nobody means anything by them alone.
        let is_meant = self.mode != SearchMode::Keyword && !self.words.is_empty();
        is_meant.then_some(self.text.as_str())
    }

    /// Takes a query apart.
    pub(crate) fn new(sought: &Sought) -> Self {
        let cut = &sought.text[..sought.text.floor_char_boundary(QUERY_BYTES_MAX)];
        let literal = cut.trim().to_owned();
        let is_text = sought.plain || sought.similar_to.is_some();
        let Syntax { text, phrases, excluded } =
            if is_text { Syntax::none(&literal) } else { Syntax::read(&literal) };
        let written = tokens(&literal);
        let particular = is_particular(&written).then(|| {
            let simple = written.iter().filter(|token| token.is_simple);
            simple.map(|token| token.text.clone()).collect()
        });
        let words = if text.trim_end() == literal { written } else { tokens(&text) };
        Self {
            identity: identity(&sought.text),
            text,
            words: words.into_iter().map(|token| token.text).collect(),
            particular,
            filter: Filter {
                kind: sought.kind,
                since: sought.since,
                until: sought.until,
                tag: sought.tag.clone(),
                without: sought.without,
                but: sought.similar_to.clone(),
                phrases,
                excluded,
            },
            mode: sought.mode,
            limit: sought.limit,
            fold: sought.fold,
            literal,
        }
    }
}

/// Whether a query with these words is particular.
fn is_particular(written: &[Token]) -> bool {
    /// A sentence has at least so many words.
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
        // Where nothing is left to look for, it was no syntax.
        if simple(&syntax.text).is_empty() { Self::none(literal) } else { syntax }
    }
}

/// What stands between a quote at the beginning and the next one that ends a word, and what comes behind it.
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

/// Whether `-word` is meant to leave something out: not a flag of one letter, not a number below zero.
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
