//! The keyword index at one commit.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use ai_factory_fold::Mark;
use ai_factory_schemas::{memory::MemoryKind, time::Timestamp};
use tantivy::{
    DocAddress, DocId, DocSet, Score, Searcher, SegmentReader, TERMINATED, TantivyDocument,
    TantivyError, Term,
    columnar::ColumnValues,
    index::SegmentId,
    postings::TermInfo,
    query::{EnableScoring, Query, TermQuery},
    schema::{IndexRecordOption, Value},
};

use super::{
    corpus::Corpus, documents::Document, fields::IndexFields, payload::Payload,
    posting_stats::SegmentStats, query_term::QueryTerm, segment_postings::SegmentPostings,
    tombstones::Tombstones,
};

/// Statistics of posting lists by segment: segments stay the same from commit to commit.
pub(super) type StatsBySegment = HashMap<SegmentId, Weak<SegmentStats>>;

/// The keyword index at one commit.
#[derive(Clone)]
pub(crate) struct CommittedIndex {
    searcher: Searcher,
    fields: IndexFields,
    /// The segments, newest first. Their positions never overlap: merges join neighbours.
    segments: Arc<[SegmentView]>,
    /// Version of the tokenization of its oldest documents.
    pub(super) cut: u32,
    /// Mark of the commit.
    pub(crate) mark: Mark,
    /// Size of the commit, without the forgotten documents that it lists.
    corpus: Corpus,
    /// Positions of forgotten documents, as listed in the commit.
    listed: Arc<BTreeSet<u64>>,
    /// Tombstones: documents known to be forgotten.
    pub(super) tombstones: Arc<Tombstones>,
    /// Size of the forgotten documents that `corpus` still counts.
    uncounted: Corpus,
}

/// One segment.
pub(super) struct SegmentView {
    /// Its number in the searcher.
    pub(super) ordinal: u32,
    /// Its posting lists.
    pub(super) words: SegmentPostings,
    /// Positions of its newest and its oldest document.
    newest: u64,
    oldest: u64,
    /// Positions of its documents, descending.
    positions: Arc<dyn ColumnValues<u64>>,
    times: Arc<dyn ColumnValues<i64>>,
}

impl SegmentView {
    /// The document at a position, if this segment contains it.
    pub(super) fn document(&self, position: u64) -> Option<DocId> {
        /// Positions are spread fairly evenly: a document is first looked for within this distance
        /// of its expected number.
        const AROUND: u32 = 16;
        if position > self.newest || position < self.oldest {
            return None;
        }
        let (mut low, mut high) = (0, self.positions.num_vals());
        let (before, all) = (self.newest - position, self.newest - self.oldest + 1);
        let expected = before.saturating_mul(u64::from(high)) / all;
        let expected = u32::try_from(expected).unwrap_or(high).min(high - 1);
        let (start, end) = (expected.saturating_sub(AROUND), high.min(expected + AROUND));
        if self.positions.get_val(start) < position {
            high = start;
        } else if self.positions.get_val(end - 1) > position {
            low = end;
        } else {
            (low, high) = (start, end);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.positions.get_val(middle).cmp(&position) {
                Ordering::Equal => return Some(middle),
                Ordering::Greater => low = middle + 1,
                Ordering::Less => high = middle,
            }
        }
        None
    }

    /// Position of a document.
    pub(super) fn position(&self, document: DocId) -> u64 {
        self.positions.get_val(document)
    }

    /// Position and time of each document, oldest first.
    fn ages(&self) -> impl Iterator<Item = (u64, Timestamp)> {
        let documents = (0..self.positions.num_vals()).rev();
        documents.map(|document| {
            (self.position(document), Timestamp::from_micros(self.times.get_val(document)))
        })
    }
}

impl CommittedIndex {
    /// The commit with this payload; its tombstones are set later. Statistics in `stats` of
    /// segments that are no longer used are dropped.
    pub(super) fn new(
        searcher: Searcher,
        fields: IndexFields,
        payload: Payload,
        stats: &mut StatsBySegment,
    ) -> tantivy::Result<Self> {
        let mut segments = Vec::new();
        for (ordinal, segment) in (0..).zip(searcher.segment_readers()) {
            let positions = segment.fast_fields().u64("position")?;
            let (newest, oldest) = (positions.max_value(), positions.min_value());
            let remembered = stats.entry(segment.segment_id()).or_default();
            let here = remembered.upgrade().unwrap_or_default();
            *remembered = Arc::downgrade(&here);
            let words = SegmentPostings {
                lists: segment.inverted_index(fields.keyword_index())?,
                lengths: segment.get_fieldnorms_reader(fields.keyword_index())?,
                stats: here,
            };
            let positions = positions.first_or_default_col(0);
            let times = segment.fast_fields().i64("time")?.first_or_default_col(0);
            // Opened here because every search needs it: its data in memory is shared from commit
            // to commit.
            segment.inverted_index(fields.identity)?;
            segments.push(SegmentView { ordinal, words, newest, oldest, positions, times });
        }
        stats.retain(|_, stats| stats.strong_count() > 0);
        segments.sort_by_key(|view| std::cmp::Reverse(view.newest));
        let Payload { cut, mark, corpus, tombstones } = payload;
        let (listed, tombstones, uncounted) =
            (tombstones.into_iter().collect(), Arc::default(), Corpus::default());
        Ok(Self {
            searcher,
            fields,
            segments: segments.into(),
            cut,
            mark,
            corpus,
            listed: Arc::new(listed),
            tombstones,
            uncounted,
        })
    }

    /// Positions of forgotten documents, as listed in the commit.
    pub(super) fn known_forgotten(&self) -> &BTreeSet<u64> {
        &self.listed
    }

    /// Ids of the forgotten documents listed in the commit that it still contains.
    pub(super) fn forgotten_ids(&self) -> impl Iterator<Item = &str> {
        self.tombstones
            .ids()
            .filter_map(|(position, id)| self.listed.contains(&position).then_some(id))
    }

    /// Replaces the tombstones.
    pub(super) fn forget(&mut self, tombstones: Arc<Tombstones>) {
        self.uncounted = tombstones.corpus(|position| !self.listed.contains(&position));
        self.tombstones = tombstones;
    }

    /// Size of commit and `waiting` together, without forgotten documents of either.
    pub(super) fn corpus(&self, waiting: impl Iterator<Item = Corpus>) -> Corpus {
        let all = waiting.fold(self.corpus, |sum, some| Corpus {
            documents: sum.documents + some.documents,
            tokens: sum.tokens + some.tokens,
        });
        Corpus {
            documents: all.documents.saturating_sub(self.uncounted.documents),
            tokens: all.tokens.saturating_sub(self.uncounted.tokens),
        }
    }

    /// Whether it contains a document at that position, forgotten or not.
    pub(super) fn has(&self, position: u64) -> bool {
        self.location(position).is_some()
    }

    /// The document at that position, forgotten or not.
    pub(super) fn at(&self, position: u64) -> tantivy::Result<Option<Document>> {
        self.location(position).map(|place| self.document(place)).transpose()
    }

    /// Position and time of all documents, oldest first, forgotten or not.
    pub(super) fn ages(&self) -> impl Iterator<Item = (u64, Timestamp)> {
        self.segments.iter().rev().flat_map(SegmentView::ages)
    }

    /// The library's view of the commit.
    pub(crate) fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    /// Number of documents.
    pub(crate) fn documents(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// The segments, newest first.
    pub(super) fn segments(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&SegmentView, &SegmentReader)> {
        self.segments.iter().map(|view| (view, self.searcher.segment_reader(view.ordinal)))
    }

    /// Position of a document.
    pub(super) fn position(&self, place: DocAddress) -> u64 {
        let view = self.segments.iter().find(|view| view.ordinal == place.segment_ord);
        view.map_or(0, |view| view.position(place.doc_id))
    }

    /// Scores of some documents by these terms.
    pub(super) fn scores(
        &self,
        words: &[QueryTerm],
        places: &[DocAddress],
    ) -> tantivy::Result<Vec<Score>> {
        let mut scores = vec![0.0; places.len()];
        for (number, (view, _)) in self.segments().enumerate() {
            let is_here = |(_, place): &(usize, &DocAddress)| place.segment_ord == view.ordinal;
            let mut here: Vec<(usize, &DocAddress)> =
                places.iter().enumerate().filter(is_here).collect();
            here.sort_unstable_by_key(|(_, place)| place.doc_id);
            let documents: Vec<DocId> = here.iter().map(|(_, place)| place.doc_id).collect();
            if documents.is_empty() {
                continue;
            }
            let found = view.words.scores(words, number, &documents)?;
            for ((index, _), score) in here.into_iter().zip(found) {
                scores[index] = score;
            }
        }
        Ok(scores)
    }

    /// Address of the document at that position, forgotten or not.
    pub(super) fn location(&self, position: u64) -> Option<DocAddress> {
        self.segments
            .iter()
            .find_map(|view| Some(DocAddress::new(view.ordinal, view.document(position)?)))
    }

    /// The fields of the index.
    pub(super) fn fields(&self) -> IndexFields {
        self.fields
    }

    /// Posting list of a term in each segment, newest segment first.
    pub(super) fn lists(&self, word: &str) -> tantivy::Result<Vec<Option<TermInfo>>> {
        let word = self.fields.word(word);
        let lists = self.segments.iter().map(|view| view.words.lists.get_term_info(&word));
        Ok(lists.collect::<std::io::Result<_>>()?)
    }

    /// The newest documents that match a query, newest first, from the segments that `is_searched`
    /// admits.
    pub(super) fn newest(
        &self,
        query: &dyn Query,
        limit: usize,
        is_searched: impl Fn(usize) -> bool,
    ) -> tantivy::Result<Vec<(DocAddress, Document)>> {
        let mut found = Vec::new();
        let weight = query.weight(EnableScoring::disabled_from_searcher(&self.searcher))?;
        let segments = self.segments().enumerate().filter(|(number, _)| is_searched(*number));
        for (_, (view, segment)) in segments {
            let mut matching = weight.scorer(segment, 1.0)?;
            while matching.doc() != TERMINATED && found.len() < limit {
                let place = DocAddress::new(view.ordinal, matching.doc());
                if !self.tombstones.contains(view.position(matching.doc())) {
                    found.push((place, self.document(place)?));
                }
                matching.advance();
            }
        }
        Ok(found)
    }

    /// The document with this id.
    pub(super) fn with_id(&self, id: &str) -> tantivy::Result<Option<Document>> {
        let term = Term::from_field_text(self.fields.id, id);
        let found = self.newest(&TermQuery::new(term, IndexRecordOption::Basic), 1, |_| true)?;
        Ok(found.into_iter().next().map(|(_, document)| document))
    }

    /// The document at an address.
    pub(crate) fn document(&self, place: DocAddress) -> tantivy::Result<Document> {
        let stored: TantivyDocument = self.searcher.doc(place)?;
        let fields = self.fields;
        let text = |field| {
            let value = stored.get_first(field).and_then(|value| value.as_str());
            value.unwrap_or_default().to_owned()
        };
        let number =
            |field| stored.get_first(field).and_then(|value| value.as_u64()).unwrap_or_default();
        let time = stored.get_first(fields.time).and_then(|value| value.as_i64());
        let tags = stored.get_all(fields.tag).filter_map(|tag| Some(tag.as_str()?.to_owned()));
        let damaged = |field: &str| {
            TantivyError::SchemaError(format!("the field `{field}` of a document is damaged"))
        };
        Ok(Document {
            id: text(fields.id),
            position: number(fields.position),
            kind: MemoryKind::from_name(&text(fields.kind)).ok_or_else(|| damaged("kind"))?,
            time: Timestamp::from_micros(time.unwrap_or_default()),
            request_id: text(fields.request).parse().map_err(|_| damaged("request"))?,
            session: text(fields.session).parse().ok(),
            text: text(fields.text),
            tags: tags.collect(),
            identity: number(fields.identity),
        })
    }

    /// Calls `visit` with every document, oldest first.
    pub(crate) fn export(&self, visit: &mut dyn FnMut(&Document)) -> tantivy::Result<()> {
        for (view, segment) in self.segments().rev() {
            for document in (0..segment.max_doc()).rev() {
                if !self.tombstones.contains(view.position(document)) {
                    visit(&self.document(DocAddress::new(view.ordinal, document))?);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::segments::Segments, *};

    #[test]
    fn a_document_is_found_by_its_position_however_unevenly_they_stand() {
        let directory = tempfile::tempdir().unwrap();
        let segments = Segments::create(directory.path()).unwrap();
        let positions = || (1..90).chain(1_000..1_003).chain((9_000..9_900).step_by(7));
        let documents: Vec<_> = positions().map(|at| Document::sample(at, "kettle")).collect();
        segments.commit(documents.iter(), &Payload::default()).unwrap();
        let committed = segments.committed().unwrap();
        for position in 0..10_000 {
            let found = committed.location(position).map(|place| committed.position(place));
            assert_eq!(found, positions().find(|at| *at == position), "{position}");
        }
        assert!(!committed.has(u64::MAX));
    }
}
