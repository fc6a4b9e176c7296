//! One order of what two indexes found: a weighted sum of how well a memory answers by words and by meaning.
//!
//! *total* = *w* × *bm25* / *whole* + (1 - *w*) × max(0, *cosine*)², over the best of each, where *whole* is the best bm25
//! of this query, and at least 0.3 of what the query would get as a document: the best of bad matches is a bad match. The
//! square lets a meaning count where it is near: where even the nearest is far, it is words that tell memories apart. *w* is 0.4 with
//! the built-in model and 0.2 with one that was chosen ([`Blend`], [0016](../../../docs/decisions/0016-score-blend.md)).
//! A text in which the whole query stands comes before all of these.
//!
//! A memory whose vector is not made yet counts as if its meaning were as near, in comparison with the nearest, as its words are
//! in comparison with the query itself.

use ai_factory_schemas::memory::SearchMode;

use super::{
    lookup::{Candidate, Looked, Tier},
    scoring::{Wanted, Weighed},
};

/// How many of the nearest by meaning are looked at together with the best by words.
pub(crate) const CANDIDATES: usize = 100;
/// And how many of those. With twice as many the figures of the development collection are the same.
const WORDS_CANDIDATES: usize = 50;
/// Of the nearest by meaning, this many times as many as are wanted are scored by words before others are looked for.
const RIVALS_FACTOR: usize = 2;
/// The distance of the best memory that is not identical with the query.
const DISTANCE_MIN: f64 = 0.001;

/// How much words count where there is a meaning too, and how much the meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blend {
    words: f64,
}

impl Blend {
    /// With the model that is part of the program.
    pub(crate) const BUILT_IN: Self = Self { words: 0.4 };
    /// With a model that somebody chose: better vectors deserve more weight, as the built-in model's authors measured with the model
    /// that theirs was made from.
    pub(crate) const CHOSEN: Self = Self { words: 0.2 };

    /// A score by words, as a share of a whole one, and a cosine become one.
    fn total(self, by_words: f64, cosine: f64) -> f64 {
        self.words * by_words + (1.0 - self.words) * cosine.max(0.0).powi(2)
    }

    /// By how much a meaning as near as `one` is ahead of one that is as near as `other`, in shares of a whole score by words.
    fn lead(self, one: f32, other: f32) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "no more than about 4")]
        let weight = ((1.0 - self.words) / self.words) as f32;
        weight * (one.max(0.0).powi(2) - other.max(0.0).powi(2))
    }
}

/// A candidate with its place in the order.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    pub(crate) candidate: Candidate,
    /// The cosine with the query; 0 where one of the two has no vector.
    pub(crate) cosine: f32,
    /// 0 = identical with the query, at most 1.
    pub(crate) distance: f64,
}

/// How near memories are to a query by meaning.
pub(crate) struct Near<'a> {
    /// How much that counts.
    pub(crate) blend: Blend,
    /// The position up to which every memory has its vectors.
    pub(crate) upto: u64,
    /// The cosine of the query and the memory at a position; `None` where it has no vector.
    pub(crate) cosine: Box<dyn Fn(u64) -> Option<f32> + 'a>,
}

/// Which memories are wanted for the sake of their words, where the `count` best of all are to be found, of the `most` that may be
/// looked for later on: those have the same candidates. `near` are the cosines of
/// the nearest by meaning, nearest first; they are all there is to know of meanings only where everything `has_vectors`.
pub(crate) fn wanted(
    mode: SearchMode,
    blend: Blend,
    near: &[f32],
    has_vectors: bool,
    (count, most): (usize, usize),
) -> Wanted {
    /// By how much a cosine of two rounded vectors may be wrong.
    const NEAR_ERROR: f32 = 0.02;
    match mode {
        SearchMode::Keyword => Wanted { limit: count, ..Wanted::default() },
        // The best by words are nothing to it.
        SearchMode::Semantic => Wanted::default(),
        SearchMode::Hybrid => {
            // Who is not among the nearest has to make up for that by words.
            // Sketches hardly ever miss those that are wanted, but now and then one that is nearer than the last candidate.
            let enough = near.get(count.saturating_sub(1)).filter(|_| has_vectors);
            let lead = |enough: &f32| {
                let rivals = near.iter().take(RIVALS_FACTOR * count);
                rivals.map(|cosine| blend.lead(cosine - NEAR_ERROR, *enough)).collect()
            };
            let leads = enough.map(lead).unwrap_or_default();
            Wanted { limit: WORDS_CANDIDATES.max(most), rivals: count, leads }
        }
    }
}

/// The `count` best candidates, best first, newer first among equals. Without a vector of the query, the words alone count.
/// Scores by words are worked out only where they can make a difference. Blocks while it reads.
pub(crate) fn rank(
    looked: &mut Looked,
    mode: SearchMode,
    near: Option<&Near<'_>>,
    count: usize,
) -> tantivy::Result<Vec<Ranked>> {
    let cosine = |candidate: &Candidate| near.and_then(|near| (near.cosine)(candidate.position));
    let cosines: Vec<Option<f32>> = looked.candidates.iter().map(cosine).collect();
    let scale = Scale::new(looked, mode, near, &cosines);
    let lacking = scale.undecided(looked, &cosines, count);
    looked.score(|index| lacking[index])?;
    let mut ranked: Vec<(usize, f64)> = (0..)
        .zip(&looked.candidates)
        .zip(&cosines)
        .map(|((index, candidate), cosine)| {
            (index, scale.total(candidate, candidate.keyword.unwrap_or_default(), *cosine))
        })
        // What has neither a word nor the meaning is no answer.
        .filter(|(index, total)| *total > 0.0 || looked.candidates[*index].tier != Tier::Ranked)
        .collect();
    ranked.sort_by(|(a, a_total), (b, b_total)| {
        let (a, b) = (&looked.candidates[*a], &looked.candidates[*b]);
        let tier = a.tier.cmp(&b.tier);
        let newer = b.position.cmp(&a.position);
        match a.tier {
            Tier::Ranked => tier.then(b_total.total_cmp(a_total)).then(newer),
            // Each of them is what was asked for.
            Tier::Identical | Tier::Containing => tier.then(newer),
        }
    });
    ranked.truncate(count);
    looked.score(|index| ranked.iter().any(|(shown, _)| *shown == index))?;
    let ranked = ranked.into_iter().map(|(index, total)| {
        let candidate = looked.candidates[index].clone();
        let distance = match candidate.tier {
            Tier::Identical => 0.0,
            Tier::Containing => DISTANCE_MIN,
            Tier::Ranked => (1.0 - total).clamp(DISTANCE_MIN, 1.0),
        };
        Ranked { candidate, cosine: cosines[index].unwrap_or_default(), distance }
    });
    Ok(ranked.collect())
}

/// What a total is made with.
struct Scale {
    mode: SearchMode,
    blend: Blend,
    /// The score by words that counts as a whole one beside a meaning, and where words stand alone.
    whole: f32,
    ideal: f32,
    /// The cosine of the nearest.
    nearest: f32,
    /// The position up to which every memory has its vectors.
    upto: u64,
}

impl Scale {
    fn new(
        looked: &Looked,
        mode: SearchMode,
        near: Option<&Near<'_>>,
        cosines: &[Option<f32>],
    ) -> Self {
        let weighed = looked.weighed();
        let whole_min = weighed.map(Weighed::whole_min).unwrap_or_default();
        let keywords = looked.candidates.iter().filter_map(|candidate| candidate.keyword);
        Self {
            mode: if near.is_some() { mode } else { SearchMode::Keyword },
            blend: near.map_or(Blend::BUILT_IN, |near| near.blend),
            whole: keywords.fold(whole_min, f32::max),
            ideal: weighed.map(|weighed| weighed.ideal).unwrap_or_default(),
            nearest: cosines.iter().flatten().fold(0.0, |a, b| a.max(*b)),
            upto: near.map_or(u64::MAX, |near| near.upto),
        }
    }

    /// How well a candidate with this score by words answers. No less with a higher score.
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

    /// Which candidates may be among the `count` best or not, as long as their scores by words are not worked out.
    fn undecided(&self, looked: &Looked, cosines: &[Option<f32>], count: usize) -> Vec<bool> {
        let total = |keyword: f32| {
            let some = looked.candidates.iter().zip(cosines);
            some.map(move |(candidate, cosine)| {
                self.total(candidate, candidate.keyword.unwrap_or(keyword), *cosine)
            })
        };
        let mut least: Vec<f64> = total(0.0).collect();
        least.sort_unstable_by(|a, b| b.total_cmp(a));
        let enough = least.get(count.saturating_sub(1)).copied().unwrap_or_default();
        total(looked.keyword_max)
            .zip(&looked.candidates)
            .map(|(most, candidate)| {
                candidate.keyword.is_none() && candidate.tier == Tier::Ranked && most >= enough
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ai_factory_actors::ports::views::Sought;
    use proptest::prelude::*;

    use super::{
        super::{keyword::KeywordIndex, query::Question},
        *,
    };

    #[test]
    fn words_decide_where_nothing_is_near_and_meaning_where_something_is() {
        // By words and cosine: the one has more of the words, the other one is nearer by as much in both cases.
        let is_first =
            |blend: Blend, near: f64| blend.total(0.8, near) > blend.total(0.4, near + 0.2);
        assert!(is_first(Blend::BUILT_IN, 0.3));
        assert!(!is_first(Blend::BUILT_IN, 0.6));
        assert!(!is_first(Blend::CHOSEN, 0.3));
        // One without any word of the query is found for its meaning alone, and never ahead of one that is as near and has some.
        assert!(Blend::BUILT_IN.total(0.0, 0.5) > Blend::BUILT_IN.total(0.0, -0.5));
        assert!(Blend::BUILT_IN.total(0.1, 0.5) > Blend::BUILT_IN.total(0.0, 0.5));
    }

    /// A text whose words are the more common the lower their numbers are.
    fn text() -> impl Strategy<Value = String> {
        let word = [0_u32..60, 0..60].prop_map(|some| format!("word{}", some[0].min(some[1])));
        prop::collection::vec(word, 1..9).prop_map(|words| words.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn what_is_not_worked_out_would_change_nothing(
            texts in prop::collection::vec(text(), 1..600),
            meanings in prop::collection::vec(0.0_f32..1.0, 600),
            flatness in 1_u8..4,
            query in prop::collection::vec(0_u32..60, 1..3),
            count in 1_usize..12,
            mode in prop::sample::select(vec![SearchMode::Hybrid, SearchMode::Semantic]),
            blend in prop::sample::select(vec![Blend::BUILT_IN, Blend::CHOSEN]),
        ) {
            let (_directory, index) = KeywordIndex::sample(&texts);
            let cosines: BTreeMap<u64, f32> =
                (1..).zip(&meanings).take(texts.len()).map(|(at, meaning)| (at, meaning.powf(1.0 / f32::from(flatness)))).collect();
            let mut nearest: Vec<(u64, f32)> = cosines.iter().map(|(at, cosine)| (*at, *cosine)).collect();
            nearest.sort_by(|a, b| b.1.total_cmp(&a.1));
            nearest.truncate(CANDIDATES);
            let (near, near_cosines): (Vec<u64>, Vec<f32>) = nearest.into_iter().unzip();
            let query: Vec<String> = query.iter().map(|word| format!("word{word}")).collect();
            let question = Question::new(&Sought { text: query.join(" "), mode, limit: count, ..Sought::default() });
            let meaning = Near { blend, upto: u64::MAX, cosine: Box::new(|at| cosines.get(&at).copied()) };
            let answer = |wanted, all: bool| {
                let mut looked = index.look(&question, &near, &wanted, None).unwrap();
                looked.score(|_| all).unwrap();
                let ranked = rank(&mut looked, mode, Some(&meaning), count).unwrap();
                let ranked = ranked.iter().map(|one| (one.candidate.position, one.candidate.keyword, one.distance));
                ranked.collect::<Vec<_>>()
            };
            let found = answer(wanted(mode, blend, &near_cosines, true, (count, count)), false);
            let all = Wanted { limit: WORDS_CANDIDATES, ..Wanted::default() };
            prop_assert_eq!(found, answer(all, true));
        }
    }
}
