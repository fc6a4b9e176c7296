//! What was found out about the lists of a segment when they were first asked for: the segment does not change, and each is read as a
//! whole once only.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tantivy::{
    Score,
    fieldnorm::FieldNormReader,
    postings::{BlockSegmentPostings, TermInfo},
};

use super::{bm25::Weight, counts::Counts, peaks::Peaks};

/// So many lists of a segment are remembered before all are forgotten, each in some hundred bytes but for counts.
const REMEMBERED_LISTS_MAX: usize = 4_096;
/// The counts of a word that at least one document of so many has are kept: the list of such a word is long.
const COUNTED_PART: u32 = 16;
/// As long as those of all words of a segment do not take more bytes than this: those that are asked for first.
const COUNTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is known of one list.
pub(super) struct Known {
    peaks: Peaks,
    /// Of a common word.
    pub(super) counts: Option<Counts>,
}

impl Known {
    /// Reads a list, with counts for so many documents, if any are to be kept.
    fn read(
        mut list: BlockSegmentPostings,
        lengths: &FieldNormReader,
        counted: Option<u32>,
    ) -> Self {
        let mut counts = counted.map(Counts::none);
        let mut most = [0; 1 << u8::BITS];
        while !list.docs().is_empty() {
            for (document, count) in list.docs().iter().zip(list.freqs()) {
                let most = &mut most[usize::from(lengths.fieldnorm_id(*document))];
                *most = (*most).max(*count);
                if let Some(counts) = &mut counts {
                    counts.note(*document, *count);
                }
            }
            list.advance();
        }
        Self { peaks: Peaks::of(&most), counts }
    }

    /// No document of the list has a higher score.
    pub(super) fn score_max(&self, weight: &Weight) -> Score {
        self.peaks.score_max(weight)
    }
}

/// What is known of the lists of one segment.
#[derive(Default)]
pub(super) struct Remembered(RwLock<Lists>);

#[derive(Default)]
struct Lists {
    /// By where a list begins in its file.
    known: HashMap<usize, Arc<Known>>,
    /// What all counts take together.
    counts_bytes: usize,
}

impl Remembered {
    /// What is known of a list that is at its beginning; `None` where it is so short that there is nothing to gain.
    pub(super) fn list(
        &self,
        place: &TermInfo,
        list: &BlockSegmentPostings,
        lengths: &FieldNormReader,
    ) -> Option<Arc<Known>> {
        if list.docs().len() == list.doc_freq() as usize {
            return None;
        }
        let key = place.postings_range.start;
        let counts_bytes = {
            let lists = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = lists.known.get(&key) {
                return Some(Arc::clone(known));
            }
            lists.counts_bytes
        };
        let documents = lengths.num_docs();
        let is_counted = list.doc_freq() >= documents / COUNTED_PART
            && counts_bytes + Counts::bytes(documents) <= COUNTS_BYTES_MAX;
        let known = Arc::new(Known::read(list.clone(), lengths, is_counted.then_some(documents)));
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if lists.known.len() >= REMEMBERED_LISTS_MAX {
            *lists = Lists::default();
        }
        if lists.known.insert(key, Arc::clone(&known)).is_none() && is_counted {
            lists.counts_bytes += Counts::bytes(documents);
        }
        Some(known)
    }
}
