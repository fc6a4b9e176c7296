//! Statistics of the posting lists of a segment, computed at their first use: the segment does not
//! change, so each list is read as a whole only once.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use tantivy::{
    Score,
    fieldnorm::FieldNormReader,
    postings::{BlockSegmentPostings, TermInfo},
};

use super::{bm25::Weight, impacts::Impacts, term_freqs::TermFreqs};

/// Posting lists per segment whose statistics are kept; beyond it all are dropped. Some hundred
/// bytes each, not counting term frequencies.
const REMEMBERED_LISTS_MAX: usize = 4_096;
/// Term frequencies are kept for terms in at least one of this many documents: such a term's
/// posting list is long.
const COUNTED_PART: u32 = 16;
/// Memory limit of the term frequencies of a segment, in bytes, filled in the order of use.
const COUNTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Statistics of one posting list.
pub(super) struct PostingStats {
    impacts: Impacts,
    /// Term frequencies of a common term.
    pub(super) counts: Option<TermFreqs>,
}

impl PostingStats {
    /// Reads a posting list; `counted` is the number of documents in the segment if term
    /// frequencies are to be kept.
    fn read(
        mut list: BlockSegmentPostings,
        lengths: &FieldNormReader,
        counted: Option<u32>,
    ) -> Self {
        let mut counts = counted.map(TermFreqs::none);
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
        Self { impacts: Impacts::of(&most), counts }
    }

    /// Upper bound of the scores in this list.
    pub(super) fn score_max(&self, weight: &Weight) -> Score {
        self.impacts.score_max(weight)
    }
}

/// Statistics of the posting lists of one segment.
#[derive(Default)]
pub(super) struct SegmentStats(RwLock<StatsCache>);

#[derive(Default)]
struct StatsCache {
    /// By the offset of the list in its file.
    stats: HashMap<usize, Arc<PostingStats>>,
    /// Memory of all term frequencies, in bytes.
    counts_bytes: usize,
}

impl SegmentStats {
    /// Statistics of a list, which must be at its beginning; `None` for a short list, which gains
    /// nothing from them.
    pub(super) fn list(
        &self,
        place: &TermInfo,
        list: &BlockSegmentPostings,
        lengths: &FieldNormReader,
    ) -> Option<Arc<PostingStats>> {
        if list.docs().len() == list.doc_freq() as usize {
            return None;
        }
        let key = place.postings_range.start;
        let counts_bytes = {
            let lists = self.0.read();
            if let Some(stats) = lists.stats.get(&key) {
                return Some(Arc::clone(stats));
            }
            lists.counts_bytes
        };
        let documents = lengths.num_docs();
        let is_counted = list.doc_freq() >= documents / COUNTED_PART
            && counts_bytes + TermFreqs::bytes(documents) <= COUNTS_BYTES_MAX;
        let stats =
            Arc::new(PostingStats::read(list.clone(), lengths, is_counted.then_some(documents)));
        let mut lists = self.0.write();
        if lists.stats.len() >= REMEMBERED_LISTS_MAX {
            *lists = StatsCache::default();
        }
        if lists.stats.insert(key, Arc::clone(&stats)).is_none() && is_counted {
            lists.counts_bytes += TermFreqs::bytes(documents);
        }
        Some(stats)
    }
}
