//! Ranking: one order of the results of two indexes, by a weighted sum of keyword score and cosine.
//!
//! *total* = *w* × *bm25* / *whole* + (1 - *w*) × max(0, *cosine*)², over the best of each. *whole*
//! is the best bm25 of this query, and at least 0.3 of the score that the query would have as a
//! document: the best of bad matches is a bad match. Squaring discounts low cosines: if even the
//! nearest memory is far, keywords decide. *w* is 0.4 with the built-in model and 0.2 with a chosen
//! one ([`Blend`], [0016](../../../docs/decisions/0016-score-blend.md)). A text that contains the
//! whole query comes before all of these.
//!
//! A memory without a vector (not made yet) is given a cosine whose ratio to the nearest one's is
//! that of its keyword score to the query's own.

use ai_factory_schemas::memory::SearchMode;

use super::{
    candidate_search::{Candidate, CandidateSet, Tier},
    scoring::{ScoreTarget, WeightedQuery},
};

/// Number of nearest memories by vector that are candidates.
pub(crate) const CANDIDATES: usize = 100;
/// Number of best memories by keywords that are candidates. Twice as many gave the same figures on
/// the development collection.
const WORDS_CANDIDATES: usize = 50;
/// Rivals per wanted result: so many of the nearest by vector are scored by keywords before other
/// documents are searched.
const RIVALS_FACTOR: usize = 2;
/// Distance of the best memory that is not identical with the query.
const DISTANCE_MIN: f64 = 0.001;

/// Weights of keyword score and cosine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blend {
    words: f64,
}

impl Blend {
    /// For the built-in model.
    pub(crate) const BUILT_IN: Self = Self { words: 0.4 };
    /// For a chosen model: better vectors deserve more weight. The authors of the built-in model
    /// measured that with the model from which it was distilled.
    pub(crate) const CHOSEN: Self = Self { words: 0.2 };

    /// Combines a keyword score, as a share of *whole*, and a cosine.
    fn total(self, by_words: f64, cosine: f64) -> f64 {
        self.words * by_words + (1.0 - self.words) * cosine.max(0.0).powi(2)
    }

    /// Lead of a memory with cosine `one` over a memory with cosine `other`, in shares of *whole*.
    fn lead(self, one: f32, other: f32) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "no more than about 4")]
        let weight = ((1.0 - self.words) / self.words) as f32;
        weight * (one.max(0.0).powi(2) - other.max(0.0).powi(2))
    }
}

/// A candidate with its place in the order.
#[derive(Clone, Debug)]
pub(crate) struct RankedCandidate {
    pub(crate) candidate: Candidate,
    /// Cosine with the query; 0 if one of the two has no vector.
    pub(crate) cosine: f32,
    /// 0 = identical with the query, at most 1.
    pub(crate) distance: f64,
}

/// Cosines of memories with a query.
pub(crate) struct VectorScores<'a> {
    /// Weights of the model.
    pub(crate) blend: Blend,
    /// Position up to which every memory has its vectors.
    pub(crate) upto: u64,
    /// Cosine of the query and the memory at a position; `None` if it has no vector.
    pub(crate) cosine: Box<dyn Fn(u64) -> Option<f32> + 'a>,
}

/// Which memories to search for by keywords, when the `count` best of all are wanted and up to
/// `most` may be wanted later: both have the same candidates. `near` are the cosines of the nearest
/// by vector, nearest first. They bound the cosines of all others only if every memory
/// `has_vectors`.
pub(crate) fn score_target(
    mode: SearchMode,
    blend: Blend,
    near: &[f32],
    has_vectors: bool,
    (count, most): (usize, usize),
) -> ScoreTarget {
    /// Error bound of the cosine of two quantised vectors.
    const NEAR_ERROR: f32 = 0.02;
    match mode {
        SearchMode::Keyword => ScoreTarget { limit: count, ..ScoreTarget::default() },
        // Keyword scores do not count.
        SearchMode::Semantic => ScoreTarget::default(),
        SearchMode::Hybrid => {
            // A document that is not among the nearest must make up for it by keywords. Sketches
            // hardly ever miss the wanted ones, but occasionally a vector that is nearer than the
            // last candidate.
            let enough = near.get(count.saturating_sub(1)).filter(|_| has_vectors);
            let lead = |enough: &f32| {
                let rivals = near.iter().take(RIVALS_FACTOR * count);
                rivals.map(|cosine| blend.lead(cosine - NEAR_ERROR, *enough)).collect()
            };
            let leads = enough.map(lead).unwrap_or_default();
            ScoreTarget { limit: WORDS_CANDIDATES.max(most), rivals: count, leads }
        }
    }
}

/// The `count` best candidates, best first, newer first among equals; by keywords alone if the
/// query has no vector. Keyword scores are computed only where they can make a difference. Blocks
/// while it reads.
pub(crate) fn rank(
    candidates: &mut CandidateSet,
    mode: SearchMode,
    near: Option<&VectorScores<'_>>,
    count: usize,
) -> tantivy::Result<Vec<RankedCandidate>> {
    let cosine = |candidate: &Candidate| near.and_then(|near| (near.cosine)(candidate.position));
    let cosines: Vec<Option<f32>> = candidates.candidates.iter().map(cosine).collect();
    let scale = Scale::new(candidates, mode, near, &cosines);
    let lacking = scale.undecided(candidates, &cosines, count);
    candidates.score(|index| lacking[index])?;
    let mut ranked: Vec<(usize, f64)> = (0..)
        .zip(&candidates.candidates)
        .zip(&cosines)
        .map(|((index, candidate), cosine)| {
            (index, scale.total(candidate, candidate.keyword.unwrap_or_default(), *cosine))
        })
        // A candidate with neither a term of the query nor a positive cosine is no result.
        .filter(|(index, total)| *total > 0.0 || candidates.candidates[*index].tier != Tier::Ranked)
        .collect();
    ranked.sort_by(|(a, a_total), (b, b_total)| {
        let (a, b) = (&candidates.candidates[*a], &candidates.candidates[*b]);
        let tier = a.tier.cmp(&b.tier);
        let newer = b.position.cmp(&a.position);
        match a.tier {
            Tier::Ranked => tier.then(b_total.total_cmp(a_total)).then(newer),
            // All of them are exact matches.
            Tier::Identical | Tier::Containing => tier.then(newer),
        }
    });
    ranked.truncate(count);
    candidates.score(|index| ranked.iter().any(|(shown, _)| *shown == index))?;
    let ranked = ranked.into_iter().map(|(index, total)| {
        let candidate = candidates.candidates[index].clone();
        let distance = match candidate.tier {
            Tier::Identical => 0.0,
            Tier::Containing => DISTANCE_MIN,
            Tier::Ranked => (1.0 - total).clamp(DISTANCE_MIN, 1.0),
        };
        RankedCandidate { candidate, cosine: cosines[index].unwrap_or_default(), distance }
    });
    Ok(ranked.collect())
}

/// Parameters of a total.
struct Scale {
    mode: SearchMode,
    blend: Blend,
    /// The keyword score that counts as 1: beside cosines (`whole`), and by itself (`ideal`).
    whole: f32,
    ideal: f32,
    /// The highest cosine.
    nearest: f32,
    /// Position up to which every memory has its vectors.
    upto: u64,
}

impl Scale {
    fn new(
        candidates: &CandidateSet,
        mode: SearchMode,
        near: Option<&VectorScores<'_>>,
        cosines: &[Option<f32>],
    ) -> Self {
        let weighted = candidates.weighted();
        let whole_min = weighted.map(WeightedQuery::whole_min).unwrap_or_default();
        let keywords = candidates.candidates.iter().filter_map(|candidate| candidate.keyword);
        Self {
            mode: if near.is_some() { mode } else { SearchMode::Keyword },
            blend: near.map_or(Blend::BUILT_IN, |near| near.blend),
            whole: keywords.fold(whole_min, f32::max),
            ideal: weighted.map(|weighted| weighted.ideal).unwrap_or_default(),
            nearest: cosines.iter().flatten().fold(0.0, |a, b| a.max(*b)),
            upto: near.map_or(u64::MAX, |near| near.upto),
        }
    }

    /// Total of a candidate with this keyword score; does not fall with a higher score.
    fn total(&self, candidate: &Candidate, keyword: f32, cosine: Option<f32>) -> f64 {
        let by_words = |whole: f32| {
            if whole > 0.0 { f64::from(keyword) / f64::from(whole) } else { 0.0 }
        };
        let near = match cosine {
            Some(cosine) => f64::from(cosine),
            None if candidate.position <= self.upto => 0.0,
            None => f64::from(self.nearest) * by_words(self.ideal).min(1.0),
        };
        match self.mode {
            SearchMode::Keyword => by_words(self.ideal),
            SearchMode::Semantic => f64::from(cosine.unwrap_or_default().max(0.0)),
            SearchMode::Hybrid => self.blend.total(by_words(self.whole), near),
        }
    }

    /// Candidates that may be among the `count` best, depending on their missing keyword scores.
    fn undecided(
        &self,
        candidates: &CandidateSet,
        cosines: &[Option<f32>],
        count: usize,
    ) -> Vec<bool> {
        let total = |keyword: f32| {
            let some = candidates.candidates.iter().zip(cosines);
            some.map(move |(candidate, cosine)| {
                self.total(candidate, candidate.keyword.unwrap_or(keyword), *cosine)
            })
        };
        let mut least: Vec<f64> = total(0.0).collect();
        least.sort_unstable_by(|a, b| b.total_cmp(a));
        let enough = least.get(count.saturating_sub(1)).copied().unwrap_or_default();
        total(candidates.keyword_max)
            .zip(&candidates.candidates)
            .map(|(most, candidate)| {
                candidate.keyword.is_none() && candidate.tier == Tier::Ranked && most >= enough
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ai_factory_ports::views::SearchQuery;
    use proptest::prelude::*;

    use super::{
        super::{keyword_index::KeywordIndex, query::ParsedQuery},
        *,
    };

    #[test]
    fn words_decide_where_nothing_is_near_and_meaning_where_something_is() {
        // (bm25 share, cosine) pairs: the one has more of the terms, the other is nearer, by as
        // much in both cases.
        let is_first =
            |blend: Blend, near: f64| blend.total(0.8, near) > blend.total(0.4, near + 0.2);
        assert!(is_first(Blend::BUILT_IN, 0.3));
        assert!(!is_first(Blend::BUILT_IN, 0.6));
        assert!(!is_first(Blend::CHOSEN, 0.3));
        // A memory without a term of the query is found by its cosine alone, never before one that
        // is as near and has terms.
        assert!(Blend::BUILT_IN.total(0.0, 0.5) > Blend::BUILT_IN.total(0.0, -0.5));
        assert!(Blend::BUILT_IN.total(0.1, 0.5) > Blend::BUILT_IN.total(0.0, 0.5));
    }

    /// A text in which words with lower numbers are more common.
    fn text() -> impl Strategy<Value = String> {
        let word = [0_u32..60, 0..60].prop_map(|some| format!("word{}", some[0].min(some[1])));
        prop::collection::vec(word, 1..9).prop_map(|words| words.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn what_is_not_worked_out_would_change_nothing(
            texts in prop::collection::vec(text(), 1..600),
            vector_indexes in prop::collection::vec(0.0_f32..1.0, 600),
            flatness in 1_u8..4,
            query in prop::collection::vec(0_u32..60, 1..3),
            count in 1_usize..12,
            mode in prop::sample::select(vec![SearchMode::Hybrid, SearchMode::Semantic]),
            blend in prop::sample::select(vec![Blend::BUILT_IN, Blend::CHOSEN]),
        ) {
            let (_directory, index) = KeywordIndex::sample(&texts);
            let cosines: BTreeMap<u64, f32> =
                (1..).zip(&vector_indexes).take(texts.len()).map(|(at, meaning)| (at, meaning.powf(1.0 / f32::from(flatness)))).collect();
            let mut nearest: Vec<(u64, f32)> = cosines.iter().map(|(at, cosine)| (*at, *cosine)).collect();
            nearest.sort_by(|a, b| b.1.total_cmp(&a.1));
            nearest.truncate(CANDIDATES);
            let (near, near_cosines): (Vec<u64>, Vec<f32>) = nearest.into_iter().unzip();
            let query: Vec<String> = query.iter().map(|word| format!("word{word}")).collect();
            let question = ParsedQuery::new(&SearchQuery { text: query.join(" "), mode, limit: count, ..SearchQuery::default() });
            let meaning = VectorScores { blend, upto: u64::MAX, cosine: Box::new(|at| cosines.get(&at).copied()) };
            let answer = |wanted, all: bool| {
                let mut candidates = index.candidates(&question, &near, &wanted, None).unwrap();
                candidates.score(|_| all).unwrap();
                let ranked = rank(&mut candidates, mode, Some(&meaning), count).unwrap();
                let ranked = ranked.iter().map(|one| (one.candidate.position, one.candidate.keyword, one.distance));
                ranked.collect::<Vec<_>>()
            };
            let found = answer(score_target(mode, blend, &near_cosines, true, (count, count)), false);
            let all = ScoreTarget { limit: WORDS_CANDIDATES, ..ScoreTarget::default() };
            prop_assert_eq!(found, answer(all, true));
        }
    }
}
