//! BM25: how well a document answers a query.
//!
//! The formula, its constants and the rounding of lengths are the index library's own ([`Bm25Weight`];
//! Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009; idf =
//! ln(1 + (N - n + 0.5) / (n + 0.5)), k1 = 1.2, b = 0.75), for committed and for waiting documents alike,
//! over the statistics of both together: a commit changes no score.

use std::{collections::BTreeMap, sync::Arc};

use tantivy::{
    DocAddress, Score, Term,
    fieldnorm::FieldNormReader,
    query::{Bm25StatisticsProvider, Bm25Weight},
    schema::Field,
};

use super::{
    committed::Committed,
    documents::Document,
    overlay::{Corpus, Overlay},
    tokens::tokens,
};

/// How many words of a query are looked up, the first ones.
const QUERY_TOKENS_MAX: usize = 128;
/// How many words of a query are searched for: the rarest that occur at all.
const SEARCHED_TOKENS_MAX: usize = 32;
/// Two scores that differ by less than this factor are equal: sums are rounded differently in different orders.
pub(crate) const SCORE_TOLERANCE: Score = 1.0 + 1e-5;
/// A query's words with their weights.
pub(crate) struct Weighed {
    /// The words to search for, each with its weight.
    pub(crate) terms: Vec<(String, Bm25Weight)>,
    /// The statistics of all documents, waiting or not.
    pub(crate) statistics: Statistics,
    /// The score that the query would have as a document.
    pub(crate) ideal: Score,
}

impl Weighed {
    /// Weighs `query`; `None` where it has no words, or none that any document has.
    pub(crate) fn new(
        query: &str,
        committed: &Committed,
        overlays: &[&Overlay],
    ) -> tantivy::Result<Option<Self>> {
        let all = tokens(query);
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for token in &all {
            if counts.len() < QUERY_TOKENS_MAX || counts.contains_key(token.text.as_str()) {
                *counts.entry(&token.text).or_default() += 1;
            }
        }
        let mut statistics = Statistics::new(committed, overlays);
        let mut found = Vec::new();
        let mut ideal = 0.0;
        let length = FieldNormReader::fieldnorm_to_id(u32::try_from(all.len()).unwrap_or(u32::MAX));
        if statistics.corpus.documents == 0 {
            return Ok(None);
        }
        for (token, count) in counts {
            let documents = statistics.count(token, committed, overlays)?;
            let weight = statistics.weight(documents);
            ideal += weight.score(length, count);
            if documents > 0 {
                found.push((documents, token.to_owned(), weight));
            }
        }
        found.sort_by(|(a, x, _), (b, y, _)| a.cmp(b).then_with(|| x.cmp(y)));
        found.truncate(SEARCHED_TOKENS_MAX);
        if found.is_empty() {
            return Ok(None);
        }
        let terms = found.into_iter().map(|(_, token, weight)| (token, weight)).collect();
        Ok(Some(Self { terms, statistics, ideal }))
    }
}

/// A score without the digits in which equal documents can differ.
pub(crate) fn rounded(score: Score) -> Score {
    /// The bits of a single-precision number that are rounded away: some 1e-5 of its value.
    const DROPPED_BITS: u32 = 6;
    let half = 1 << (DROPPED_BITS - 1);
    Score::from_bits(score.to_bits().saturating_add(half) & !((1 << DROPPED_BITS) - 1))
}

/// The statistics of committed and waiting documents together.
pub(crate) struct Statistics {
    field: Field,
    corpus: Corpus,
    documents_with: BTreeMap<Term, u64>,
}

impl Statistics {
    fn new(committed: &Committed, overlays: &[&Overlay]) -> Self {
        let corpus = committed.corpus(overlays.iter().map(|overlay| overlay.corpus()));
        Self { field: committed.fields().words(), corpus, documents_with: BTreeMap::new() }
    }

    fn count(
        &mut self,
        token: &str,
        committed: &Committed,
        overlays: &[&Overlay],
    ) -> tantivy::Result<u64> {
        let term = Term::from_field_text(self.field, token);
        let waiting: u64 = overlays.iter().map(|overlay| overlay.documents_with(token)).sum();
        let all = committed.searcher().doc_freq(&term)? + waiting;
        let documents = all.saturating_sub(committed.gone.documents_with(token));
        self.documents_with.insert(term, documents);
        Ok(documents)
    }

    #[expect(clippy::cast_precision_loss, reason = "an average needs no more precision")]
    fn weight(&self, documents: u64) -> Bm25Weight {
        let average = self.corpus.tokens as Score / self.corpus.documents as Score;
        Bm25Weight::for_one_term_without_explain(documents, self.corpus.documents, average)
    }
}

impl Bm25StatisticsProvider for Statistics {
    fn total_num_tokens(&self, _: Field) -> tantivy::Result<u64> {
        Ok(self.corpus.tokens)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.corpus.documents)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        Ok(self.documents_with.get(term).copied().unwrap_or_default())
    }
}

/// Where a document is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In the index on disk.
    Committed(DocAddress),
    /// Here.
    Waiting(Arc<Document>),
}

/// The best documents so far, best first. What is offered later has to be better to come before what is
/// there: documents are offered newest first.
pub(crate) struct Best {
    limit: usize,
    scored: Vec<(Score, Place)>,
}

impl Best {
    /// Room for `limit` documents.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, scored: Vec::with_capacity(limit.min(64)) }
    }

    /// The score that a document must exceed to get in.
    pub(crate) fn threshold(&self) -> Score {
        match self.scored.last() {
            Some((worst, _)) if self.scored.len() >= self.limit => worst * SCORE_TOLERANCE,
            _ => 0.0,
        }
    }

    /// Takes a document in, if it is good enough.
    pub(crate) fn offer(&mut self, score: Score, place: impl FnOnce() -> Place) {
        if self.limit == 0 || score <= self.threshold() {
            return;
        }
        let score = rounded(score);
        let at = self.scored.partition_point(|(other, _)| *other >= score);
        self.scored.insert(at, (score, place()));
        self.scored.truncate(self.limit);
    }

    /// All of them.
    pub(crate) fn into_vec(self) -> Vec<(Score, Place)> {
        self.scored
    }
}
