//! The fields of a document on disk, and queries over them.

use std::ops::Bound;

use ai_factory_schemas::time::Timestamp;
use tantivy::{
    Term,
    query::{AllQuery, BooleanQuery, Occur, PhraseQuery, Query, RangeQuery, TermQuery},
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing,
        TextOptions,
    },
};

use super::query::MemoryFilter;

/// Handles of the fields.
#[derive(Clone, Copy)]
pub(crate) struct IndexFields {
    pub(super) id: Field,
    pub(super) position: Field,
    pub(super) kind: Field,
    pub(super) time: Field,
    pub(super) request: Field,
    pub(super) session: Field,
    pub(super) text: Field,
    pub(super) tag: Field,
    pub(super) identity: Field,
    words: Field,
}

/// The schema of an index, with the handles of its fields.
pub(super) fn schema() -> (Schema, IndexFields) {
    let mut schema = Schema::builder();
    let counted = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let fields = IndexFields {
        id: schema.add_text_field("id", STRING | STORED),
        position: schema.add_u64_field("position", FAST | STORED),
        kind: schema.add_text_field("kind", STRING | STORED),
        time: schema.add_i64_field("time", FAST | STORED),
        request: schema.add_text_field("request", STORED),
        session: schema.add_text_field("session", STRING | STORED),
        text: schema.add_text_field("text", STORED),
        tag: schema.add_text_field("tag", STRING | STORED),
        identity: schema.add_u64_field("identity", INDEXED | STORED),
        words: schema.add_text_field("words", TextOptions::default().set_indexing_options(counted)),
    };
    (schema.build(), fields)
}

impl IndexFields {
    /// Matches documents that contain these words as a phrase.
    pub(super) fn phrase(self, words: &[String]) -> Box<dyn Query> {
        let mut terms: Vec<Term> =
            words.iter().map(|word| Term::from_field_text(self.words, word)).collect();
        if terms.len() == 1 {
            return Box::new(TermQuery::new(terms.remove(0), IndexRecordOption::Basic));
        }
        Box::new(PhraseQuery::new(terms))
    }

    /// Matches documents with this identity.
    pub(super) fn identical(self, identity: u64) -> TermQuery {
        TermQuery::new(Term::from_field_u64(self.identity, identity), IndexRecordOption::Basic)
    }

    /// The text field.
    pub(super) fn keyword_index(self) -> Field {
        self.words
    }

    /// The term of a word in the text field.
    pub(super) fn word(self, word: &str) -> Term {
        Term::from_field_text(self.words, word)
    }

    /// Matches the documents that a filter excludes.
    pub(super) fn excluded(self, filter: &MemoryFilter) -> BooleanQuery {
        let exact = |field, text: &str| -> (Occur, Box<dyn Query>) {
            let term = Term::from_field_text(field, text);
            (Occur::Should, Box::new(TermQuery::new(term, IndexRecordOption::Basic)))
        };
        let memory = filter.but.iter().map(|id| exact(self.id, id));
        let session = filter.without.map(|session| exact(self.session, &session.to_string()));
        let excluded = filter.excluded.iter().map(|phrase| (Occur::Should, self.phrase(phrase)));
        BooleanQuery::new(memory.chain(session).chain(excluded).collect())
    }

    /// Matches the documents that satisfy the positive conditions of a filter; its exclusions are
    /// not applied.
    pub(super) fn filter(self, filter: &MemoryFilter) -> BooleanQuery {
        let exact = |field, text: &str| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::Basic))
        };
        let mut parts: Vec<(Occur, Box<dyn Query>)> = vec![(Occur::Must, Box::new(AllQuery))];
        parts.extend(filter.kind.map(|kind| (Occur::Must, exact(self.kind, kind.as_str()))));
        parts.extend(filter.tag.iter().map(|tag| (Occur::Must, exact(self.tag, tag))));
        if filter.since.is_some() || filter.until.is_some() {
            let at = |time: Timestamp| Term::from_field_i64(self.time, time.as_micros());
            let from = filter.since.map_or(Bound::Unbounded, |since| Bound::Included(at(since)));
            let to = filter.until.map_or(Bound::Unbounded, |until| Bound::Excluded(at(until)));
            parts.push((Occur::Must, Box::new(RangeQuery::new(from, to))));
        }
        parts.extend(filter.phrases.iter().map(|phrase| (Occur::Must, self.phrase(phrase))));
        BooleanQuery::new(parts)
    }
}
