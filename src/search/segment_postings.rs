//! The posting lists on disk, and the best documents by several terms.
//!
//! The best are found without scoring every document that has one of the terms (`MaxScore`; Turtle
//! and Flood, *Query Evaluation: Strategies and Optimizations*, 1995): terms whose upper bounds
//! together cannot lift a document among the best propose no documents, and are only added to those
//! that other terms propose. So the lists of common terms are hardly read.
//!
//! *Promises.* A skipped document could not have been among the best. A score is the sum, from
//! zero, in the order of the terms; to the last bit that of a document in memory.

use std::sync::Arc;

use tantivy::{
    DocId, Score, TERMINATED,
    fieldnorm::FieldNormReader,
    index::InvertedIndexReader,
    postings::{BlockSegmentPostings, TermInfo},
    schema::IndexRecordOption,
};

use super::{
    posting_list::PostingList, posting_stats::SegmentStats, query_term::QueryTerm,
    window::WindowBuffers,
};

/// Bound of the rounding error of a single-precision sum over the terms of a query, as a factor.
const SUM_ERROR: Score = 1.0 + 5e-6;

/// The posting lists of one segment.
pub(super) struct SegmentPostings {
    /// Access to the lists.
    pub(super) lists: Arc<InvertedIndexReader>,
    /// Rounded length of each document.
    pub(super) lengths: FieldNormReader,
    /// Statistics of the lists.
    pub(super) stats: Arc<SegmentStats>,
}

impl SegmentPostings {
    /// The posting list of a term in this segment (the one with number `segment`), with its
    /// statistics.
    fn list<'a>(
        &self,
        word: &'a QueryTerm,
        segment: usize,
    ) -> tantivy::Result<Option<PostingList<'a>>> {
        let Some((place, postings)) = self.postings(word, segment)? else { return Ok(None) };
        let stats = self.stats.list(place, &postings, &self.lengths);
        Ok(Some(PostingList::new(postings, stats, &word.weight)))
    }

    /// Location and contents of a term's posting list.
    fn postings<'a>(
        &self,
        word: &'a QueryTerm,
        segment: usize,
    ) -> tantivy::Result<Option<(&'a TermInfo, BlockSegmentPostings)>> {
        let Some(Some(place)) = word.lists.get(segment) else { return Ok(None) };
        let frequencies = IndexRecordOption::WithFreqs;
        let postings = self.lists.read_block_postings_from_terminfo(place, frequencies)?;
        Ok(Some((place, postings)))
    }

    /// Whether one document has all these terms. Fastest with the rarest terms first.
    pub(super) fn has_all(&self, words: &[&QueryTerm], segment: usize) -> tantivy::Result<bool> {
        let mut lists = Vec::with_capacity(words.len());
        let mut document = 0;
        let mut agreeing = 0;
        while agreeing < words.len() {
            let number = agreeing;
            if number == lists.len() {
                let word = words[number];
                let Some((_, postings)) = self.postings(word, segment)? else { return Ok(false) };
                lists.push(PostingList::new(postings, None, &word.weight));
            }
            let next = lists[number].seek(document);
            if next == TERMINATED {
                return Ok(false);
            }
            if next < document {
                // A damaged list. The read of the whole list reports it.
                return Ok(true);
            }
            // A list that moves on to another document invalidates the agreement of the others.
            agreeing = if next == document { number + 1 } else { usize::from(number == 0) };
            document = next;
        }
        Ok(true)
    }

    /// Scores of these documents, which are in order.
    pub(super) fn scores(
        &self,
        words: &[QueryTerm],
        segment: usize,
        documents: &[DocId],
    ) -> tantivy::Result<Vec<Score>> {
        let mut left: Vec<(DocId, Score)> = documents.iter().map(|one| (*one, 0.0)).collect();
        for word in words {
            if let Some(mut list) = self.list(word, segment)? {
                list.add_one_by_one(&mut left, &self.lengths);
            }
        }
        Ok(left.into_iter().map(|(_, score)| score).collect())
    }

    /// Calls `visit` with every document that has one of the terms and a score above `threshold`,
    /// in order, and perhaps with others below it. `visit` returns the threshold for the following
    /// ones. `buffers` is reused memory.
    pub(super) fn best(
        &self,
        words: &[QueryTerm],
        segment: usize,
        buffers: &mut WindowBuffers,
        mut threshold: Score,
        mut visit: impl FnMut(DocId, Score) -> Score,
    ) -> tantivy::Result<()> {
        let mut lists = Vec::with_capacity(words.len());
        for word in words {
            lists.extend(self.list(word, segment)?);
        }
        // Upper bound of what the terms from each on can add together.
        let mut rest_max = vec![0.0; lists.len() + 1];
        for (index, list) in lists.iter().enumerate().rev() {
            rest_max[index] = rest_max[index + 1] + list.score_max();
        }
        let exceeds = |score: Score, threshold: Score| score * SUM_ERROR > threshold;
        let WindowBuffers { window, left, counts } = buffers;
        loop {
            // The last entry is zero and exceeds no threshold.
            let proposing = rest_max.iter().take_while(|rest| exceeds(**rest, threshold)).count();
            let (proposing, asked) = lists.split_at_mut(proposing);
            let next = proposing.iter().map(PostingList::document).min().unwrap_or(TERMINATED);
            if next == TERMINATED {
                return Ok(());
            }
            window.start = next;
            for list in proposing.iter_mut() {
                list.score_into(window, &self.lengths);
            }
            // List by list rather than document by document: each list is read in one go.
            let rest_max = &rest_max[proposing.len()..];
            let is_left = |score: Score, rest: Score| exceeds(score + rest, threshold);
            window.drain_into(left, |score| is_left(score, rest_max[0]));
            for (list, rest) in asked.iter_mut().zip(&rest_max[1..]) {
                list.add_to(left.documents_mut(), counts, &self.lengths);
                left.retain(|score| is_left(score, *rest));
            }
            for (document, score) in left.documents_mut() {
                if *score > threshold {
                    threshold = visit(*document, *score);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_fold::Mark;
    use proptest::prelude::*;
    use tantivy::DocAddress;

    use super::{
        super::{
            committed::CommittedIndex,
            documents::Document,
            overlay::Overlay,
            payload::Payload,
            scoring::{DocumentLocation, ScoreTarget, TopDocuments, WeightedQuery},
            segments::Segments,
            window::WINDOW_DOCUMENTS,
        },
        *,
    };

    /// A text in which words with lower numbers are more common.
    fn text() -> impl Strategy<Value = String> {
        let word = [0_u32..40, 0..40, 0..40]
            .prop_map(|some| format!("word{}", some[0].min(some[1]).min(some[2])));
        prop::collection::vec(word, 1..12).prop_map(|words| words.join(" "))
    }

    /// The segments of these texts, flushed in groups, and the same documents in memory.
    fn index(texts: Vec<String>, at_once: usize) -> (tempfile::TempDir, CommittedIndex, Overlay) {
        let directory = tempfile::tempdir().unwrap();
        let segments = Segments::create(directory.path()).unwrap();
        let mut overlay = Overlay::default();
        let documents: Vec<_> =
            (1..).zip(texts).map(|(at, text)| Document::sample(at, text)).collect();
        for some in documents.chunks(at_once) {
            for document in some {
                overlay.add(Arc::clone(document));
            }
            let position = some.last().unwrap().position;
            let mark = Mark { position, ..Mark::default() };
            let corpus = overlay.corpus();
            let payload = Payload { mark, corpus, ..Payload::default() };
            segments.commit(some.iter(), &payload).unwrap();
        }
        let committed = segments.committed().unwrap();
        (directory, committed, overlay)
    }

    fn best(
        committed: &CommittedIndex,
        limit: usize,
        words: &[QueryTerm],
        is_plain: bool,
    ) -> Vec<(Score, u64)> {
        let mut buffers = WindowBuffers::new();
        let mut best = TopDocuments::new(&ScoreTarget { limit, ..ScoreTarget::default() }, None);
        for (segment, (view, reader)) in committed.segments().enumerate() {
            let threshold = best.threshold();
            let all: Vec<DocId> = (0..reader.max_doc()).collect();
            let scores = view.words.scores(words, segment, &all).unwrap();
            let mut offer = |document: DocId, score: Score| {
                assert_eq!(score.to_bits(), scores[document as usize].to_bits());
                best.offer(score, || {
                    DocumentLocation::Committed(DocAddress::new(view.ordinal, document))
                });
                best.threshold()
            };
            if is_plain {
                for document in all {
                    offer(document, scores[document as usize]);
                }
            } else {
                view.words.best(words, segment, &mut buffers, threshold, offer).unwrap();
            }
        }
        let position = |place| match place {
            DocumentLocation::Committed(place) => committed.position(place),
            DocumentLocation::Pending(document) => document.position,
        };
        best.take().into_iter().map(|(score, place)| (score, position(place))).collect()
    }

    fn weighted(committed: &CommittedIndex, query: &str) -> Option<WeightedQuery> {
        let query: Vec<String> = query.split(' ').map(str::to_owned).collect();
        WeightedQuery::new(&query, committed, &[]).unwrap()
    }

    #[test]
    fn in_a_segment_of_many_windows_the_best_are_the_same_too() {
        let mut state = 7_u64;
        let mut number = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let texts = (0..3 * WINDOW_DOCUMENTS).map(|_| {
            let words = (0..3 + number(9)).map(|_| {
                // Words with lower numbers are more common.
                let most = 1 + number(60);
                format!("word{}", number(most))
            });
            words.collect::<Vec<_>>().join(" ")
        });
        let (_directory, committed, _) = index(texts.collect(), usize::MAX);
        assert_eq!(committed.segments().count(), 1);
        for query in
            ["word0 word1 word2 word3", "word50 word0 word1", "word58 word57 word9 word2 word0"]
        {
            let weighted = weighted(&committed, query).unwrap();
            for limit in [1, 10, 200] {
                let found = best(&committed, limit, &weighted.words, false);
                assert_eq!(found, best(&committed, limit, &weighted.words, true), "{query}");
            }
        }
    }

    #[test]
    fn a_common_word_counts_as_often_as_it_stands_in_a_text() {
        let texts = (0..3 * WINDOW_DOCUMENTS as usize).map(|number| {
            let (often, longer) = ("common ".repeat(number % 41), "other ".repeat(number % 7));
            format!("{often}{longer}rare{}", number % 1_500)
        });
        let (_directory, committed, overlay) = index(texts.collect(), 9_000);
        let weighted = weighted(&committed, "rare3 rare77 common other").unwrap();
        for (segment, (view, reader)) in committed.segments().enumerate() {
            for word in &weighted.words {
                let list = view.words.list(word, segment).unwrap().unwrap();
                let is_counted = list.stats.is_some_and(|stats| stats.counts.is_some());
                assert_eq!(is_counted, !word.text.starts_with("rare"), "{}", word.text);
            }
            let all: Vec<DocId> = (0..reader.max_doc()).collect();
            let scores = view.words.scores(&weighted.words, segment, &all).unwrap();
            for (document, score) in all.into_iter().zip(scores) {
                let in_memory = overlay.scored(view.position(document), &weighted.words).unwrap().0;
                assert_eq!(score.to_bits(), in_memory.to_bits(), "{document}");
            }
        }
        for limit in [1, 10, 200] {
            let found = best(&committed, limit, &weighted.words, false);
            assert_eq!(found, best(&committed, limit, &weighted.words, true));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_is_left_out_is_among_the_best(
            texts in prop::collection::vec(text(), 1..600),
            queries in prop::collection::vec(text(), 1..12),
            limit in 1_usize..40,
            copies in 1_usize..12,
            flushes in 1_usize..4,
        ) {
            let texts: Vec<String> = texts.iter().cycle().take(texts.len() * copies).cloned().collect();
            let at_once = texts.len() / flushes + 1;
            let (_directory, committed, overlay) = index(texts, at_once);
            for query in queries {
                let Some(weighted) = weighted(&committed, &query) else { continue };
                let words = &weighted.words;
                let found = best(&committed, limit, words, false);
                prop_assert_eq!(&found, &best(&committed, limit, words, true), "{:?}", query);
                for (segment, (view, reader)) in committed.segments().enumerate() {
                    let all: Vec<DocId> = (0..reader.max_doc()).collect();
                    let scores = view.words.scores(words, segment, &all).unwrap();
                    for (document, score) in all.iter().zip(scores) {
                        let in_memory = overlay.scored(view.position(*document), words).unwrap().0;
                        prop_assert_eq!(score.to_bits(), in_memory.to_bits());
                    }
                    let scores = |word| view.words.scores(std::slice::from_ref(word), segment, &all).unwrap();
                    let scores: Vec<Vec<Score>> = words.iter().map(scores).collect();
                    let has_all = |count: usize, document: &DocId| scores[..count].iter().all(|of| of[*document as usize] > 0.0);
                    for count in 1..=words.len() {
                        let some: Vec<&QueryTerm> = words[..count].iter().collect();
                        let is_there = all.iter().any(|document| has_all(count, document));
                        prop_assert_eq!(view.words.has_all(&some, segment).unwrap(), is_there);
                    }
                }
            }
        }
    }
}
