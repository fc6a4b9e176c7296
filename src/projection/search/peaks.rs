//! How much documents can get at most for one word, as the word's list on disk has it: the less that is, the fewer lists are read.
//!
//! More occurrences and fewer words in all score higher: so the highest score is that of one of the few documents of a list that no
//! other has both more occurrences and fewer words than. Which these are depends on the list alone, not on what the word is worth by
//! now, and they are found once.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use tantivy::{
    Score,
    fieldnorm::FieldNormReader,
    postings::{BlockSegmentPostings, TermInfo},
    query::Bm25Weight,
};

/// So many lists of a segment are remembered before all are forgotten, each in some hundred bytes.
const REMEMBERED_LISTS_MAX: usize = 4_096;

/// Of the documents of one list those that no other outdoes: the rounded length of each, and how often it has the word.
#[derive(Debug, PartialEq, Eq)]
struct Peaks(Vec<(u8, u32)>);

impl Peaks {
    /// Looks through a list.
    fn of(mut list: BlockSegmentPostings, lengths: &FieldNormReader) -> Self {
        let mut most = [0; 1 << u8::BITS];
        while !list.docs().is_empty() {
            for (document, count) in list.docs().iter().zip(list.freqs()) {
                let most = &mut most[usize::from(lengths.fieldnorm_id(*document))];
                *most = (*most).max(*count);
            }
            list.advance();
        }
        let mut highest = 0;
        let mut peaks: Vec<(u8, u32)> = (0..=u8::MAX).zip(most).collect();
        peaks.retain(|(_, count)| {
            let is_higher = *count > highest;
            highest = highest.max(*count);
            is_higher
        });
        peaks.shrink_to_fit();
        Self(peaks)
    }

    fn score_max(&self, weight: &Bm25Weight) -> Score {
        let scores = self.0.iter().map(|(length, count)| weight.score(*length, *count));
        scores.fold(0.0, Score::max)
    }
}

/// The peaks of the lists of one segment, as far as they were asked for.
#[derive(Default)]
pub(super) struct Remembered(RwLock<HashMap<usize, Peaks>>);

impl Remembered {
    /// No document of a list has a higher score. The list begins at a place of the file and is not read yet.
    pub(super) fn score_max(
        &self,
        place: &TermInfo,
        list: &BlockSegmentPostings,
        lengths: &FieldNormReader,
        weight: &Bm25Weight,
    ) -> Score {
        if list.docs().len() == list.doc_freq() as usize {
            // So short that there is nothing to gain from lengths.
            let count_max = list.freqs().iter().copied().max().unwrap_or_default();
            return weight.score(0, count_max);
        }
        let key = place.postings_range.start;
        if let Some(peaks) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return peaks.score_max(weight);
        }
        let peaks = Peaks::of(list.clone(), lengths);
        let score_max = peaks.score_max(weight);
        let mut remembered = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_LISTS_MAX {
            remembered.clear();
        }
        remembered.insert(key, peaks);
        score_max
    }
}
