//! The keyword score of a document: the sum of its terms' scores ([BM25](super::bm25)). Documents
//! on disk and in memory are scored with the statistics of both together, so a commit changes no
//! score.

use std::{collections::BTreeMap, sync::Arc};

use tantivy::{DocAddress, Score, error::DataCorruption, fieldnorm::FieldNormReader};

use super::{
    bm25::{Lengths, Weight},
    committed::CommittedIndex,
    documents::Document,
    overlay::Overlay,
    query_term::QueryTerm,
};

/// Distinct terms of a query that are looked up, the first ones.
const QUERY_TOKENS_MAX: usize = 128;
/// Terms of a query that are searched for: the rarest that occur at all.
const SEARCHED_TOKENS_MAX: usize = 32;
/// Two scores that differ by less than this factor are equal: sums are rounded differently in
/// different orders.
pub(crate) const SCORE_TOLERANCE: Score = 1.0 + 1e-5;

/// The terms of a query with their weights.
pub(crate) struct WeightedQuery {
    /// The terms to search for, rarest first: scores are summed in this order.
    pub(crate) words: Vec<QueryTerm>,
    /// Terms that no document on disk has.
    pub(crate) missing: Vec<String>,
    /// The score that the query would have as a document.
    pub(crate) ideal: Score,
}

impl WeightedQuery {
    /// Looks up and weighs the terms of a query; `None` if no document has any of them.
    pub(crate) fn new(
        query: &[String],
        committed: &CommittedIndex,
        overlays: &[&Overlay],
    ) -> tantivy::Result<Option<Self>> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for word in query {
            if counts.len() < QUERY_TOKENS_MAX || counts.contains_key(word.as_str()) {
                *counts.entry(word).or_default() += 1;
            }
        }
        let corpus = committed.corpus(overlays.iter().map(|overlay| overlay.corpus()));
        let mut found = Vec::new();
        let mut missing = Vec::new();
        let mut ideal = 0.0;
        let length =
            FieldNormReader::fieldnorm_to_id(u32::try_from(query.len()).unwrap_or(u32::MAX));
        if corpus.documents == 0 {
            return Ok(None);
        }
        let lengths = Lengths::new(corpus);
        for (token, count) in counts {
            let lists = committed.lists(token)?;
            let on_disk: u64 = lists.iter().flatten().map(|list| u64::from(list.doc_freq)).sum();
            let waiting: u64 = overlays.iter().map(|overlay| overlay.documents_with(token)).sum();
            let documents =
                (on_disk + waiting).saturating_sub(committed.tombstones.documents_with(token));
            if documents > corpus.documents {
                let more =
                    format!("`{token}` stands in {documents} of {} documents", corpus.documents);
                return Err(DataCorruption::comment_only(more).into());
            }
            let weight = Weight::new(documents, corpus.documents, &lengths);
            ideal += weight.score(length, count);
            if documents > 0 {
                found.push((documents, QueryTerm { text: token.to_owned(), weight, lists }));
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

    /// Least score that counts as 1 in the blend: the best of bad matches is a bad match.
    pub(crate) fn whole_min(&self) -> Score {
        /// The share of the query's own score below which even the best match counts as less than a
        /// whole score. Up to 0.3 changes nothing on the development collection.
        const WHOLE_SHARE_MIN: Score = 0.3;
        WHOLE_SHARE_MIN * self.ideal
    }

    /// Upper bound of all scores.
    pub(crate) fn score_max(&self) -> Score {
        self.words.iter().map(|word| word.weight.score(0, u32::MAX)).sum()
    }

    /// The terms searched for that occur in a phrase, rarest first; `None` if a word of the phrase
    /// is in no document on disk.
    pub(crate) fn of_phrase(&self, phrase: &[String]) -> Option<Vec<&QueryTerm>> {
        if phrase.iter().any(|text| self.missing.contains(text)) {
            return None;
        }
        Some(self.words.iter().filter(|word| phrase.contains(&word.text)).collect())
    }
}

/// A score without the digits in which equal documents can differ.
pub(crate) fn rounded(score: Score) -> Score {
    /// Dropped bits of a single-precision number: about 1e-5 of its value.
    const DROPPED_BITS: u32 = 6;
    let half = 1 << (DROPPED_BITS - 1);
    Score::from_bits(score.to_bits().saturating_add(half) & !((1 << DROPPED_BITS) - 1))
}

/// Location of a document.
#[derive(Clone, Debug)]
pub(crate) enum DocumentLocation {
    /// On disk.
    Committed(DocAddress),
    /// In memory, waiting for a commit.
    Pending(Arc<Document>),
}

/// Which documents to search for by keywords.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScoreTarget {
    /// Number of best documents.
    pub(crate) limit: usize,
    /// Number of rivals that exclude a document: one behind this many rivals, by blended score, is
    /// not wanted.
    pub(crate) rivals: usize,
    /// Leads of the nearest by vector, nearest first: the advantage of each by its cosine over
    /// every document that was not found by vector, in shares of a whole score; may be negative.
    /// Empty if not known.
    pub(crate) leads: Vec<Score>,
}

/// The best documents so far, best first. Documents are offered newest first, so a later one must
/// be better to come before another.
pub(crate) struct TopDocuments {
    limit: usize,
    rivals: Rivals,
    scored: Vec<(Score, DocumentLocation)>,
}

/// Documents near by vector, and the keyword score that others need to come before them.
struct Rivals {
    /// Number of rivals that exclude a document.
    count: usize,
    /// Their keyword scores and leads.
    known: Vec<(Score, Score)>,
    /// Bounds of the whole score: that of the best, and no less than [`WeightedQuery::whole_min`].
    whole: Score,
    whole_max: Score,
    /// A document with up to this score is behind `count` rivals.
    passed_at: Score,
}

impl Rivals {
    /// Notes the score of a document.
    fn note_score(&mut self, score: Score) {
        if score > self.whole {
            self.whole = score;
            self.update();
        }
    }

    /// With a whole score of *whole*, a rival with score *s* and lead *l* equals another document
    /// with score *s* + *l* × *whole*.
    fn update(&mut self) {
        let by_words = |(score, lead): &(Score, Score)| {
            score + lead * if *lead > 0.0 { self.whole } else { self.whole_max }
        };
        let mut scores: Vec<Score> = self.known.iter().map(by_words).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        let enough = scores.get(self.count.saturating_sub(1)).copied().unwrap_or_default();
        // The best by keywords is always wanted: it determines the whole score.
        self.passed_at = enough.clamp(0.0, self.whole);
    }
}

impl TopDocuments {
    /// Without documents yet.
    pub(crate) fn new(wanted: &ScoreTarget, weighted: Option<&WeightedQuery>) -> Self {
        let whole = weighted.map(WeightedQuery::whole_min).unwrap_or_default();
        let whole_max = weighted.map(WeightedQuery::score_max).unwrap_or_default();
        let (count, known) = (wanted.rivals, Vec::new());
        let rivals = Rivals { count, known, whole, whole_max, passed_at: 0.0 };
        let limit = wanted.limit;
        Self { limit, rivals, scored: Vec::with_capacity(limit.min(64)) }
    }

    /// Whether no documents are searched for.
    pub(crate) fn is_empty_target(&self) -> bool {
        self.limit == 0
    }

    /// The score that a document must exceed to be kept.
    pub(crate) fn threshold(&self) -> Score {
        let worst = self.scored.get(self.limit.saturating_sub(1));
        let worst = worst.map_or(0.0, |(worst, _)| worst * SCORE_TOLERANCE);
        worst.max(self.rivals.passed_at)
    }

    /// Sets the rivals: keyword score and lead of each.
    pub(crate) fn set_rivals(&mut self, known: Vec<(Score, Score)>) {
        let rivals = &mut self.rivals;
        rivals.whole = known.iter().fold(rivals.whole, |whole, (score, _)| whole.max(*score));
        rivals.known = known;
        rivals.update();
    }

    /// Keeps a document if it is good enough.
    pub(crate) fn offer(&mut self, score: Score, location: impl FnOnce() -> DocumentLocation) {
        if self.is_empty_target() || score <= self.threshold() {
            return;
        }
        let score = rounded(score);
        self.rivals.note_score(score);
        let at = self.scored.partition_point(|(other, _)| *other >= score);
        self.scored.insert(at, (score, location()));
        self.scored.truncate(self.limit);
    }

    /// Moves the documents out.
    pub(crate) fn take(&mut self) -> Vec<(Score, DocumentLocation)> {
        std::mem::take(&mut self.scored)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn who_is_left_out_has_enough_rivals_before_them_in_the_end(
            rivals in prop::collection::vec((0.0_f32..10.0, -0.6_f32..0.6), 0..30),
            count in 1_usize..12,
            mut offered in prop::collection::vec(0.0_f32..12.0, 1..200),
            is_rising: bool,
            whole_min in 0.0_f32..6.0,
        ) {
            if is_rising {
                offered.sort_by(f32::total_cmp);
            }
            let known = Vec::new();
            let marks = Rivals { count, known, whole: whole_min, whole_max: 14.0, passed_at: 0.0 };
            let mut best = TopDocuments { limit: offered.len(), rivals: marks, scored: Vec::new() };
            best.set_rivals(rivals.clone());
            for (number, score) in (0..).zip(&offered) {
                best.offer(*score, || DocumentLocation::Committed(DocAddress::new(0, number)));
            }
            let scores = rivals.iter().map(|(score, _)| *score).chain(offered.iter().copied());
            let whole = scores.fold(whole_min, Score::max);
            let kept = best.take().into_iter().map(|(_, location)| match location {
                DocumentLocation::Committed(location) => location.doc_id,
                DocumentLocation::Pending(_) => unreachable!("none waits"),
            });
            let kept: BTreeSet<u32> = kept.collect();
            for (_, score) in (0..).zip(&offered).filter(|(number, _)| !kept.contains(number)) {
                let is_before = |(rival, lead): &&(Score, Score)| rival + lead * whole >= score - 1e-3;
                let before = rivals.iter().filter(is_before).count();
                prop_assert!(before >= count, "{} before {}", before, score);
                prop_assert!(*score < whole + 1e-3);
            }
        }
    }
}
