//! Documents waiting for a commit: a small index in memory, so that search sees every write at once
//! (I-13).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tantivy::fieldnorm::FieldNormReader;

use super::{
    bm25::Weight, corpus::Corpus, documents::Document, query::MemoryFilter, query_term::QueryTerm,
    tokens::contains,
};

/// An index in memory.
#[derive(Default)]
pub(crate) struct Overlay {
    documents: Vec<Arc<Document>>,
    /// Rounded length of each document, as the index on disk rounds it.
    lengths: Vec<u8>,
    /// Word -> its postings.
    postings: HashMap<String, Postings>,
    /// Identity -> places of the documents that have it.
    identities: HashMap<u64, Vec<usize>>,
    corpus: Corpus,
    bytes: usize,
}

/// The documents that contain a word, oldest first.
#[derive(Default)]
struct Postings {
    /// Place of each document, and the term frequency in it.
    places: Vec<(usize, u32)>,
    /// Highest term frequency, and least length, of any document: the two give an upper bound of
    /// the score.
    count_max: u32,
    length_min: Option<u8>,
}

impl Postings {
    fn add(&mut self, place: usize, count: u32, length: u8) {
        self.places.push((place, count));
        self.count_max = self.count_max.max(count);
        self.length_min = Some(self.length_min.map_or(length, |least| least.min(length)));
    }

    fn score_max(&self, weight: &Weight) -> f32 {
        weight.score(self.length_min.unwrap_or_default(), self.count_max)
    }

    fn count(&self, place: usize) -> Option<u32> {
        let at = self.places.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(self.places[at].1)
    }
}

impl Overlay {
    /// Adds a document that is newer than all others.
    pub(crate) fn add(&mut self, document: Arc<Document>) {
        let words = document.tokens();
        let length = u32::try_from(words.len()).unwrap_or(u32::MAX);
        self.corpus.documents += 1;
        self.corpus.tokens += u64::from(length);
        self.bytes += document.bytes();
        let place = self.documents.len();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for word in words {
            *counts.entry(word.text).or_default() += 1;
        }
        let length = FieldNormReader::fieldnorm_to_id(length);
        for (word, count) in counts {
            self.bytes += word.len() + size_of::<(usize, u32)>();
            self.postings.entry(word).or_default().add(place, count, length);
        }
        self.identities.entry(document.identity).or_default().push(place);
        self.lengths.push(length);
        self.documents.push(document);
    }

    /// All documents, oldest first.
    pub(crate) fn documents(&self) -> &[Arc<Document>] {
        &self.documents
    }

    /// Approximate memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Size of these documents.
    pub(crate) fn corpus(&self) -> Corpus {
        self.corpus
    }

    /// Number of documents with this word.
    pub(crate) fn documents_with(&self, token: &str) -> u64 {
        self.postings.get(token).map_or(0, |postings| postings.places.len() as u64)
    }

    /// The documents with this identity, newest first.
    pub(crate) fn identical(&self, identity: u64) -> impl Iterator<Item = &Arc<Document>> {
        let places = self.identities.get(&identity).into_iter().flatten().rev();
        places.map(|place| &self.documents[*place])
    }

    /// The documents that contain all of these words, newest first.
    pub(crate) fn with_all(&self, words: &[String]) -> impl Iterator<Item = &Arc<Document>> {
        let lists: Option<Vec<&Postings>> =
            words.iter().map(|word| self.postings.get(word)).collect();
        let lists = lists.unwrap_or_default();
        let shortest = lists.iter().min_by_key(|list| list.places.len()).copied();
        let places = shortest.into_iter().flat_map(|list| list.places.iter().rev());
        let places = places.map(|(place, _)| *place);
        places
            .filter(move |place| lists.iter().all(|list| list.count(*place).is_some()))
            .map(|place| &self.documents[place])
    }

    /// Positions of the documents that a filter admits, or of those that it does not, oldest first.
    pub(crate) fn sorted_out(&self, filter: &MemoryFilter, is_let_through: bool) -> Vec<u64> {
        let having = |phrases: &[Vec<String>]| -> Vec<HashSet<u64>> {
            phrases.iter().map(|words| self.with_phrase(words)).collect()
        };
        let (phrases, excluded) = (having(&filter.phrases), having(&filter.excluded));
        let is_admitted = |document: &&Arc<Document>| {
            filter.covers(document)
                && phrases.iter().all(|some| some.contains(&document.position))
                && !excluded.iter().any(|some| some.contains(&document.position))
        };
        let wanted = self.documents.iter().filter(|some| is_admitted(some) == is_let_through);
        wanted.map(|document| document.position).collect()
    }

    /// Positions of the documents that contain these words as a phrase. Only those with all words
    /// are tokenized for it.
    fn with_phrase(&self, words: &[String]) -> HashSet<u64> {
        let is_there = |document: &&Arc<Document>| contains(&document.tokens(), words);
        self.with_all(words).filter(is_there).map(|document| document.position).collect()
    }

    /// The document at a journal position.
    pub(crate) fn at(&self, position: u64) -> Option<&Arc<Document>> {
        let at =
            self.documents.binary_search_by_key(&position, |document| document.position).ok()?;
        self.documents.get(at)
    }

    /// The document at a journal position, with its score.
    pub(crate) fn scored(
        &self,
        position: u64,
        words: &[QueryTerm],
    ) -> Option<(f32, &Arc<Document>)> {
        let place =
            self.documents.binary_search_by_key(&position, |document| document.position).ok()?;
        let score = |word: &QueryTerm| {
            let count = self.postings.get(&word.text)?.count(place)?;
            Some(word.weight.score(self.lengths[place], count))
        };
        // From positive zero: the sum of nothing is a negative zero otherwise.
        let score = words.iter().filter_map(score).fold(0.0, |sum, score| sum + score);
        Some((score, &self.documents[place]))
    }

    /// Calls `visit` with the documents that have one of the words, newest first, with their
    /// scores. `visit` returns the score that later ones must exceed; it stops when none can.
    pub(crate) fn score(
        &self,
        words: &[QueryTerm],
        mut visit: impl FnMut(f32, &Arc<Document>) -> f32,
    ) {
        let mut lists: Vec<_> = words
            .iter()
            .filter_map(|word| Some((self.postings.get(&word.text)?, &word.weight)))
            .map(|(postings, weight)| (&postings.places[..], postings.score_max(weight), weight))
            .collect();
        loop {
            let newest = lists.iter().filter_map(|(rest, ..)| Some(rest.last()?.0)).max();
            let Some(place) = newest else { return };
            let (mut score, mut score_max) = (0.0, 0.0);
            for (rest, list_max, weight) in &mut lists {
                let Some((&(last, count), before)) = rest.split_last() else { continue };
                score_max += *list_max;
                if last == place {
                    score += weight.score(self.lengths[place], count);
                    *rest = before;
                }
            }
            if visit(score, &self.documents[place]) >= score_max {
                return;
            }
        }
    }
}
