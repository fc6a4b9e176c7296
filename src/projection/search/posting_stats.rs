//! Statistics of the posting lists of a segment, computed at their first use: the segment does not
//! change, so each list is read as a whole only once.

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

/// Posting lists per segment whose statistics are kept; beyond it all are dropped. Some hundred
/// bytes each, not counting term frequencies.
const REMEMBERED_LISTS_MAX: usize = 4_096;
/// Term frequencies are kept for terms in at least one of this many documents: such a term's
/// posting list is long.
const COUNTED_PART: u32 = 16;
/// Memory limit of the term frequencies of a segment, in bytes, filled in the order of use.
const COUNTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Statistics of one posting list.
pub(super) struct Known {
    peaks: Peaks,
    /// Term frequencies of a common term.
    pub(super) counts: Option<Counts>,
}

impl Known {
    /// Reads a posting list; `counted` is the number of documents in the segment if term
    /// frequencies are to be kept.
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

    /// Upper bound of the scores in this list.
    pub(super) fn score_max(&self, weight: &Weight) -> Score {
        self.peaks.score_max(weight)
    }
}

/// Statistics of the posting lists of one segment.
#[derive(Default)]
pub(super) struct Remembered(RwLock<Lists>);

#[derive(Default)]
struct Lists {
    /// By the offset of the list in its file.
    known: HashMap<usize, Arc<Known>>,
    /// Memory of all term frequencies, in bytes.
    counts_bytes: usize,
}

impl Remembered {
    /// Statistics of a list, which must be at its beginning; `None` for a short list, which gains
    /// nothing from them.
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
