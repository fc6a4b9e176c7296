//! BM25: how well a document answers a query.
//!
//! The formula, its constants and the rounding of lengths are the index library's own ([`Bm25Weight`];
//! Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009; idf =
//! ln(1 + (N - n + 0.5) / (n + 0.5)), k1 = 1.2, b = 0.75), for committed and for waiting documents alike,
//! over the statistics of both together: a commit changes no score.

use std::{collections::BTreeMap, sync::Arc};

use tantivy::{
    DocAddress, Score, fieldnorm::FieldNormReader, postings::TermInfo, query::Bm25Weight,
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

/// A word that is searched for.
pub(crate) struct Word {
    /// The word.
    pub(crate) text: String,
    /// What it is worth.
    pub(crate) weight: Bm25Weight,
    /// Where its list is in each segment, the newest first.
    pub(crate) lists: Vec<Option<TermInfo>>,
}

/// A query's words with their weights.
pub(crate) struct Weighed {
    /// The words to search for, the rarest first: scores are summed in this order.
    pub(crate) words: Vec<Word>,
    /// Those that are in no document on disk.
    pub(crate) missing: Vec<String>,
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
        let corpus = committed.corpus(overlays.iter().map(|overlay| overlay.corpus()));
        let mut found = Vec::new();
        let mut missing = Vec::new();
        let mut ideal = 0.0;
        let length = FieldNormReader::fieldnorm_to_id(u32::try_from(all.len()).unwrap_or(u32::MAX));
        if corpus.documents == 0 {
            return Ok(None);
        }
        for (token, count) in counts {
            let lists = committed.lists(token)?;
            let on_disk: u64 = lists.iter().flatten().map(|list| u64::from(list.doc_freq)).sum();
            let waiting: u64 = overlays.iter().map(|overlay| overlay.documents_with(token)).sum();
            let documents =
                (on_disk + waiting).saturating_sub(committed.gone.documents_with(token));
            let weight = weight(corpus, documents);
            ideal += weight.score(length, count);
            if documents > 0 {
                found.push((documents, Word { text: token.to_owned(), weight, lists }));
            }
            if on_disk == 0 {
                missing.push(token.to_owned());
            }
        }
        found.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.text.cmp(&y.text)));
        found.truncate(SEARCHED_TOKENS_MAX);
        if found.is_empty() {
            return Ok(None);
        }
        let words = found.into_iter().map(|(_, word)| word).collect();
        Ok(Some(Self { words, missing, ideal }))
    }

    /// The least score that counts as a whole one: the best of bad matches is a bad match.
    pub(crate) fn whole_min(&self) -> Score {
        /// The share of the query's own score below which even the best match counts as less than a whole one. Up to 0.3
        /// changes nothing on the development collection.
        const WHOLE_SHARE_MIN: Score = 0.3;
        WHOLE_SHARE_MIN * self.ideal
    }

    /// Whether all of these words can stand in one document of a segment, as far as is known.
    pub(crate) fn may_have_all(&self, phrase: &[String], segment: usize) -> bool {
        let is_there = |word: &Word| word.lists.get(segment).is_some_and(Option::is_some);
        phrase.iter().all(|text| {
            !self.missing.contains(text)
                && self.words.iter().find(|word| word.text == *text).is_none_or(is_there)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an average needs no more precision")]
fn weight(corpus: Corpus, documents: u64) -> Bm25Weight {
    let average = corpus.tokens as Score / corpus.documents as Score;
    Bm25Weight::for_one_term_without_explain(documents, corpus.documents, average)
}

/// A score without the digits in which equal documents can differ.
pub(crate) fn rounded(score: Score) -> Score {
    /// The bits of a single-precision number that are rounded away: some 1e-5 of its value.
    const DROPPED_BITS: u32 = 6;
    let half = 1 << (DROPPED_BITS - 1);
    Score::from_bits(score.to_bits().saturating_add(half) & !((1 << DROPPED_BITS) - 1))
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
    wanted: Wanted,
    whole_min: Score,
    scored: Vec<(Score, Place)>,
}

/// Which documents are wanted for the sake of their words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// So many of the best.
    pub(crate) limit: usize,
    /// And of these only those with more than this share of a whole score: that of the best, and no less than
    /// [`Weighed::whole_min`].
    pub(crate) share: Score,
}

impl Best {
    /// None yet.
    pub(crate) fn new(wanted: Wanted, whole_min: Score) -> Self {
        Self { wanted, whole_min, scored: Vec::with_capacity(wanted.limit.min(64)) }
    }

    /// Whether none are wanted at all.
    pub(crate) fn wants_none(&self) -> bool {
        self.wanted.limit == 0
    }

    /// The score that a document must exceed to get in.
    pub(crate) fn threshold(&self) -> Score {
        let whole = self.scored.first().map_or(0.0, |(best, _)| *best).max(self.whole_min);
        let worst = self.scored.get(self.wanted.limit.saturating_sub(1));
        let worst = worst.map_or(0.0, |(worst, _)| worst * SCORE_TOLERANCE);
        worst.max(self.wanted.share * whole)
    }

    /// Takes a document in, if it is good enough.
    pub(crate) fn offer(&mut self, score: Score, place: impl FnOnce() -> Place) {
        if self.wants_none() || score <= self.threshold() {
            return;
        }
        let score = rounded(score);
        let at = self.scored.partition_point(|(other, _)| *other >= score);
        self.scored.insert(at, (score, place()));
        self.scored.truncate(self.wanted.limit);
    }

    /// All of them, which are not kept here any more.
    pub(crate) fn take(&mut self) -> Vec<(Score, Place)> {
        std::mem::take(&mut self.scored)
    }
}
