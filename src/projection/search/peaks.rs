//! How much documents can get at most for one word, as the word's list on disk has it: the less that is, the fewer lists are read.
//!
//! More occurrences and fewer words in all score higher: so the highest score is that of one of the few documents of a list that no
//! other has both more occurrences and fewer words than. Which these are depends on the list alone, not on what the word is worth by
//! now, and they are found once ([`super::known`]).

use tantivy::Score;

use super::bm25::Weight;

/// Of the documents of one list those that no other outdoes: the rounded length of each, and how often it has the word.
pub(super) struct Peaks(Vec<(u8, u32)>);

impl Peaks {
    /// Of how often documents of each rounded length have the word at most.
    pub(super) fn of(most: &[u32; 1 << u8::BITS]) -> Self {
        let mut highest = 0;
        let mut peaks: Vec<(u8, u32)> = (0..=u8::MAX).zip(most.iter().copied()).collect();
        peaks.retain(|(_, count)| {
            let is_higher = *count > highest;
            highest = highest.max(*count);
            is_higher
        });
        peaks.shrink_to_fit();
        Self(peaks)
    }

    /// No document of the list has a higher score.
    pub(super) fn score_max(&self, weight: &Weight) -> Score {
        let scores = self.0.iter().map(|(length, count)| weight.score(*length, *count));
        scores.fold(0.0, Score::max)
    }
}
