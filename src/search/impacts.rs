//! Impacts: the score upper bound of a posting list. The lower it is, the fewer lists a search
//! reads.
//!
//! More occurrences and a shorter document both raise the score. So the highest score is that of
//! one of the few documents for which no other document has more occurrences and is at most as
//! long. Which these are depends on the list alone, not on the term's current weight, so they are
//! computed once ([`super::posting_stats`]).

use tantivy::Score;

use super::bm25::Weight;

/// (length, term frequency) of those documents of a list that no other dominates; lengths are
/// rounded.
pub(super) struct Impacts(Vec<(u8, u32)>);

impl Impacts {
    /// From the highest term frequency for each rounded length.
    pub(super) fn of(most: &[u32; 1 << u8::BITS]) -> Self {
        let mut highest = 0;
        let mut impacts: Vec<(u8, u32)> = (0..=u8::MAX).zip(most.iter().copied()).collect();
        impacts.retain(|(_, count)| {
            let is_higher = *count > highest;
            highest = highest.max(*count);
            is_higher
        });
        impacts.shrink_to_fit();
        Self(impacts)
    }

    /// Upper bound of the scores in this list.
    pub(super) fn score_max(&self, weight: &Weight) -> Score {
        let scores = self.0.iter().map(|(length, count)| weight.score(*length, *count));
        scores.fold(0.0, Score::max)
    }
}
