//! One order of what two indexes found: a weighted sum of how well a memory answers by words and by meaning.
//!
//! *total* = 0.25 × *bm25* / *whole* + 0.75 × max(0, *cosine*), over the best 100 of each, where *whole* is the best bm25
//! of this query, and at least 0.3 of what the query would get as a document: the best of bad matches is a bad match. The
//! weights are what was best for the built-in model on the development collection; from 0.65 to 0.8 for the meaning
//! makes little difference ([docs/memory.md](../../../docs/memory.md)). A text in which the whole query stands comes
//! before all of these.
//!
//! A memory whose vector is not made yet counts as if its meaning were as near, in comparison with the nearest, as its words are
//! in comparison with the query itself.

use ai_factory_schemas::memory::SearchMode;

use super::lookup::{Candidate, Looked, Tier};

/// How much the words count where there is a meaning too.
const KEYWORD_WEIGHT: f64 = 0.25;
/// The share of the query's own score below which even the best match by words counts as less than a whole one. Up to 0.3
/// changes nothing on the development collection.
const WHOLE_SHARE_MIN: f32 = 0.3;
/// The distance of the best memory that is not identical with the query.
const DISTANCE_MIN: f64 = 0.001;

/// A candidate with its place in the order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked<'a> {
    pub(crate) candidate: &'a Candidate,
    /// The cosine with the query; 0 where one of the two has no vector.
    pub(crate) cosine: f32,
    /// 0 = identical with the query, at most 1.
    pub(crate) distance: f64,
}

/// How near memories are to a query by meaning.
pub(crate) struct Near<'a> {
    /// The position up to which every memory has its vectors.
    pub(crate) upto: u64,
    /// The cosine of the query and the memory at a position; `None` where it has no vector.
    pub(crate) cosine: Box<dyn Fn(u64) -> Option<f32> + 'a>,
}

/// The candidates, best first, newer first among equals. Without a vector of the query, the words alone count.
pub(crate) fn rank<'a>(
    looked: &'a Looked,
    mode: SearchMode,
    near: Option<&Near<'_>>,
) -> Vec<Ranked<'a>> {
    let whole_min = WHOLE_SHARE_MIN * looked.ideal.unwrap_or_default();
    let keywords = looked.candidates.iter().map(|candidate| candidate.keyword);
    let whole = keywords.fold(whole_min, f32::max);
    let cosines: Vec<Option<f32>> = looked
        .candidates
        .iter()
        .map(|candidate| near.and_then(|near| (near.cosine)(candidate.position)))
        .collect();
    let nearest = f64::from(cosines.iter().flatten().fold(0.0_f32, |a, b| a.max(*b)));
    let mut ranked: Vec<(f64, Ranked<'a>)> = looked
        .candidates
        .iter()
        .zip(&cosines)
        .map(|(candidate, cosine)| {
            let is_made =
                cosine.is_some() || near.is_none_or(|near| candidate.position <= near.upto);
            let cosine = cosine.unwrap_or_default();
            let by_meaning = f64::from(cosine.max(0.0));
            let by_words = |whole: f32| {
                if whole > 0.0 { f64::from(candidate.keyword) / f64::from(whole) } else { 0.0 }
            };
            let total = match mode {
                SearchMode::Keyword => by_words(looked.ideal.unwrap_or_default()),
                _ if near.is_none() => by_words(looked.ideal.unwrap_or_default()),
                SearchMode::Semantic => by_meaning,
                SearchMode::Hybrid if !is_made => {
                    let by_meaning = nearest * by_words(looked.ideal.unwrap_or_default()).min(1.0);
                    KEYWORD_WEIGHT * by_words(whole) + (1.0 - KEYWORD_WEIGHT) * by_meaning
                }
                SearchMode::Hybrid => {
                    KEYWORD_WEIGHT * by_words(whole) + (1.0 - KEYWORD_WEIGHT) * by_meaning
                }
            };
            let distance = match candidate.tier {
                Tier::Identical => 0.0,
                Tier::Containing => DISTANCE_MIN,
                Tier::Ranked => (1.0 - total).clamp(DISTANCE_MIN, 1.0),
            };
            (total, Ranked { candidate, cosine, distance })
        })
        // What has neither a word nor the meaning is no answer.
        .filter(|(total, ranked)| *total > 0.0 || ranked.candidate.tier != Tier::Ranked)
        .collect();
    ranked.sort_by(|(a_total, a), (b_total, b)| {
        let tier = a.candidate.tier.cmp(&b.candidate.tier);
        let newer = b.candidate.position.cmp(&a.candidate.position);
        match a.candidate.tier {
            Tier::Ranked => tier.then(b_total.total_cmp(a_total)).then(newer),
            // Each of them is what was asked for.
            Tier::Identical | Tier::Containing => tier.then(newer),
        }
    });
    ranked.into_iter().map(|(_, ranked)| ranked).collect()
}
