//! Documents that wait for a commit: a small index in memory, so that search sees every write at once (I-13).

use std::collections::{BTreeMap, HashMap};

use tantivy::{fieldnorm::FieldNormReader, query::Bm25Weight};

use super::{documents::Document, tokens::tokens};

/// How many documents there are and how many words they have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Corpus {
    /// Documents.
    pub(crate) documents: u64,
    /// Words, each occurrence counted.
    pub(crate) tokens: u64,
}

/// An index in memory.
#[derive(Default)]
pub(crate) struct Overlay {
    documents: Vec<Document>,
    /// The length of each document, rounded as the index on disk rounds it.
    lengths: Vec<u8>,
    /// Word -> the places of the documents that have it, and how often they do.
    postings: HashMap<String, Vec<(usize, u32)>>,
    corpus: Corpus,
    bytes: usize,
}

impl Overlay {
    /// Adds a document that is newer than all others.
    pub(crate) fn add(&mut self, document: Document) {
        let words = words(&document);
        let length = u32::try_from(words.len()).unwrap_or(u32::MAX);
        self.corpus.documents += 1;
        self.corpus.tokens += u64::from(length);
        self.bytes += document.text.len() + document.tags.len() + size_of::<Document>();
        let place = self.documents.len();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for word in words {
            *counts.entry(word).or_default() += 1;
        }
        for (word, count) in counts {
            self.bytes += word.len() + size_of::<(usize, u32)>();
            self.postings.entry(word).or_default().push((place, count));
        }
        self.lengths.push(FieldNormReader::fieldnorm_to_id(length));
        self.documents.push(document);
    }

    /// All documents, oldest first.
    pub(crate) fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// What they take in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much there is.
    pub(crate) fn corpus(&self) -> Corpus {
        self.corpus
    }

    /// How many documents have this word.
    pub(crate) fn documents_with(&self, token: &str) -> u64 {
        self.postings.get(token).map_or(0, |places| places.len() as u64)
    }

    /// Shows every document that has one of the words, newest first, with its score.
    pub(crate) fn score(
        &self,
        terms: &[(String, Bm25Weight)],
        mut visit: impl FnMut(f32, &Document),
    ) {
        let mut scores = vec![0.0; self.documents.len()];
        for (token, weight) in terms {
            for &(place, count) in self.postings.get(token).into_iter().flatten() {
                scores[place] += weight.score(self.lengths[place], count);
            }
        }
        for (score, document) in scores.into_iter().zip(&self.documents).rev() {
            if score > 0.0 {
                visit(score, document);
            }
        }
    }
}

/// The words that a document is found by.
pub(crate) fn words(document: &Document) -> Vec<String> {
    let mut words = tokens(&document.text);
    words.extend(tokens(&document.tags));
    words
}
