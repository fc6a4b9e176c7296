//! The posting list of one term in a segment, read in order: documents, term frequencies and
//! scores.

use std::{ops::Range, sync::Arc};

use tantivy::{
    DocId, Score, TERMINATED, fieldnorm::FieldNormReader, postings::BlockSegmentPostings,
};

use super::{
    bm25::{SCORED, Weight},
    posting_stats::PostingStats,
    term_freqs::MANY,
    window::{ScoreWindow, WINDOW_DOCUMENTS},
};

/// The posting list of one term, read in order.
pub(super) struct PostingList<'a> {
    /// Boxed because it contains a decoded block.
    postings: Box<BlockSegmentPostings>,
    /// Index of the next document in the block.
    at: usize,
    /// Statistics; `None` for a short list.
    pub(super) stats: Option<Arc<PostingStats>>,
    weight: &'a Weight,
}

impl<'a> PostingList<'a> {
    /// From postings that are at their beginning.
    pub(super) fn new(
        postings: BlockSegmentPostings,
        stats: Option<Arc<PostingStats>>,
        weight: &'a Weight,
    ) -> Self {
        Self { postings: Box::new(postings), at: 0, stats, weight }
    }

    /// The next document.
    pub(super) fn document(&self) -> DocId {
        self.postings.docs().get(self.at).copied().unwrap_or(TERMINATED)
    }

    /// Upper bound of the scores. Called before anything is read.
    pub(super) fn score_max(&self) -> Score {
        let count_max = || self.postings.freqs().iter().copied().max().unwrap_or_default();
        let stats = self.stats.as_ref();
        stats
            .map_or_else(|| self.weight.score(0, count_max()), |stats| stats.score_max(self.weight))
    }

    /// Adds the term's scores to the documents of a window, and moves behind the window.
    pub(super) fn score_into(&mut self, window: &mut ScoreWindow, lengths: &FieldNormReader) {
        let end = window.end();
        let mut scores = [0.0; SCORED];
        loop {
            let documents = self.postings.docs();
            let counts = self.postings.freqs();
            let Some(&last) = documents.last() else { return };
            let upto = if last < end {
                documents.len()
            } else {
                self.at + documents[self.at..].partition_point(|document| *document < end)
            };
            let (documents, counts) = (&documents[self.at..upto], &counts[self.at..upto]);
            self.weight.scores(lengths, documents, counts, &mut scores);
            for (document, score) in documents.iter().zip(&scores) {
                window.add(*document, *score);
            }
            self.at = upto;
            if upto < self.postings.docs().len() {
                return;
            }
            self.postings.advance();
            self.at = 0;
        }
    }

    /// Adds the term's scores to the remaining documents of a window. Documents are in order and
    /// not before any earlier ones.
    pub(super) fn add_to(
        &mut self,
        left: &mut [(DocId, Score)],
        counts: &mut Vec<u32>,
        lengths: &FieldNormReader,
    ) {
        /// Cost of seeking one document, in documents read.
        const SEEK_DOCUMENTS: u64 = 8;
        let (Some((first, _)), Some((last, _))) = (left.first().copied(), left.last().copied())
        else {
            return;
        };
        let is_counted = self.stats.as_ref().is_some_and(|stats| stats.counts.is_some());
        let share = u64::from(WINDOW_DOCUMENTS) * u64::from(self.postings.doc_freq());
        let read = share / u64::from(lengths.num_docs()).max(1);
        if is_counted || left.len() as u64 * SEEK_DOCUMENTS < read {
            return self.add_one_by_one(left, lengths);
        }
        self.count_into(first..last + 1, counts);
        self.add_counted(left, lengths, |_, document| counts[(document - first) as usize]);
    }

    /// The same for documents that are far apart.
    pub(super) fn add_one_by_one(
        &mut self,
        left: &mut [(DocId, Score)],
        lengths: &FieldNormReader,
    ) {
        let stats = self.stats.clone();
        match stats.as_ref().and_then(|stats| stats.counts.as_ref()) {
            None => self.add_counted(left, lengths, Self::count),
            Some(counts) => {
                self.add_counted(left, lengths, |list, document| match counts.of(document) {
                    MANY => list.count(document),
                    count => count,
                });
            }
        }
    }

    /// Adds the term's scores, given its frequency in each document.
    fn add_counted(
        &mut self,
        left: &mut [(DocId, Score)],
        lengths: &FieldNormReader,
        mut count: impl FnMut(&mut Self, DocId) -> u32,
    ) {
        let (mut documents, mut counts, mut scores) = ([0; SCORED], [0; SCORED], [0.0; SCORED]);
        for left in left.chunks_mut(SCORED) {
            for (at, (document, _)) in left.iter().enumerate() {
                documents[at] = *document;
                counts[at] = count(self, *document);
            }
            let (documents, counts) = (&documents[..left.len()], &counts[..left.len()]);
            self.weight.scores(lengths, documents, counts, &mut scores);
            for ((_, score), more) in left.iter_mut().zip(&scores) {
                *score += *more;
            }
        }
    }

    /// Collects the term frequency in each document of a range.
    fn count_into(&mut self, documents: Range<DocId>, counts: &mut Vec<u32>) {
        counts.clear();
        counts.resize(documents.len(), 0);
        let mut at = self.postings.seek(documents.start);
        loop {
            let some = self.postings.docs();
            let Some(last) = some.last().copied() else { return };
            let rest = some.iter().zip(self.postings.freqs()).skip(at);
            for (document, count) in rest.take_while(|(document, _)| **document < documents.end) {
                counts[(document - documents.start) as usize] = *count;
            }
            if last >= documents.end {
                return;
            }
            self.postings.advance();
            at = 0;
        }
    }

    /// The first document from `document` on that has the term. `document` must not be before
    /// earlier ones.
    pub(super) fn seek(&mut self, document: DocId) -> DocId {
        let at = self.postings.seek(document);
        self.postings.doc(at)
    }

    /// The term frequency in a document, which must not be before earlier ones.
    fn count(&mut self, document: DocId) -> u32 {
        let at = self.postings.seek(document);
        if self.postings.doc(at) == document { self.postings.freq(at) } else { 0 }
    }
}
