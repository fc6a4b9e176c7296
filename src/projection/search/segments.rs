//! The part of the index that is on disk.
//!
//! *Promises.* A document's number falls with its age: flushes add the newest first, and merges keep that
//! order. So a search that goes through segments and documents in order meets newer ones first, and may
//! skip whatever cannot be strictly better than what it has.
//!
//! *Limits.* A writer exists only during a flush: its arena is the largest piece of memory here.

use std::{cmp::Ordering, ops::Bound, path::Path, sync::Arc};

use ai_factory_schemas::{memory::MemoryKind, time::Timestamp};
use tantivy::{
    DocAddress, DocId, DocSet, Index, IndexReader, IndexWriter, ReloadPolicy, Searcher,
    SegmentReader, TERMINATED, TantivyDocument, TantivyError, Term,
    columnar::ColumnValues,
    merge_policy::NoMergePolicy,
    query::{
        AllQuery, BooleanQuery, EnableScoring, Occur, PhraseQuery, Query, RangeQuery, TermQuery,
    },
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing,
        TextOptions, Value,
    },
    tokenizer::{PreTokenizedString, Token},
};

use super::{documents::Document, query::Filter};
use crate::projection::Mark;

/// The layout of documents and the way words are cut. An index with another number is dropped and rebuilt.
const FORMAT: &str = "3";
/// The writer's memory, in bytes: the least that the library takes.
const ARENA_BYTES: usize = 15_000_000;
/// This many neighbouring segments of one size class become one.
const MERGE_SEGMENTS: usize = 8;
/// Segments of up to this many documents are the lowest size class; each further one is [`MERGE_SEGMENTS`] times as large.
const SMALL_SEGMENT_DOCUMENTS: u32 = 1024;
/// Blocks of stored documents that a reader keeps for each segment.
const STORE_CACHE_BLOCKS: usize = 2;

#[derive(Clone, Copy)]
pub(crate) struct Fields {
    id: Field,
    position: Field,
    kind: Field,
    time: Field,
    request: Field,
    session: Field,
    text: Field,
    tag: Field,
    identity: Field,
    words: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let counted = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let fields = Fields {
        id: schema.add_text_field("id", STRING | STORED),
        position: schema.add_u64_field("position", FAST | STORED),
        kind: schema.add_text_field("kind", STRING | STORED),
        time: schema.add_i64_field("time", FAST | STORED),
        request: schema.add_text_field("request", STORED),
        session: schema.add_text_field("session", STRING | STORED),
        text: schema.add_text_field("text", STORED),
        tag: schema.add_text_field("tag", STRING | STORED),
        identity: schema.add_u64_field("identity", INDEXED | STORED),
        words: schema.add_text_field("words", TextOptions::default().set_indexing_options(counted)),
    };
    (schema.build(), fields)
}

/// An open index directory.
pub(crate) struct Segments {
    index: Index,
    reader: IndexReader,
    fields: Fields,
}

/// The index at one commit.
#[derive(Clone)]
pub(crate) struct Committed {
    searcher: Searcher,
    fields: Fields,
    /// Newest first. They never overlap: merges join neighbours.
    pieces: Arc<[Piece]>,
    /// What the commit contains.
    pub(crate) mark: Mark,
}

/// One segment.
pub(super) struct Piece {
    /// Its number in the searcher.
    pub(super) ordinal: u32,
    /// The positions of its documents, falling.
    positions: Arc<dyn ColumnValues<u64>>,
}

impl Piece {
    /// The document at a position, if it is here.
    pub(super) fn document(&self, position: u64) -> Option<DocId> {
        let (mut low, mut high) = (0, self.positions.num_vals());
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

    /// The position of a document.
    pub(super) fn position(&self, document: DocId) -> u64 {
        self.positions.get_val(document)
    }
}

impl Segments {
    /// Opens an index directory.
    pub(crate) fn open(directory: &Path) -> tantivy::Result<Self> {
        let index = Index::open_in_dir(directory)?;
        let (schema, fields) = schema();
        if index.schema() != schema {
            return Err(TantivyError::SchemaError("its fields are of another version".to_owned()));
        }
        Self::new(index, fields)
    }

    /// Makes an empty index in an empty directory.
    pub(crate) fn create(directory: &Path) -> tantivy::Result<Self> {
        let (schema, fields) = schema();
        Self::new(Index::create_in_dir(directory, schema)?, fields)
    }

    /// An empty index that nothing is written to.
    pub(crate) fn none() -> tantivy::Result<Self> {
        let (schema, fields) = schema();
        Self::new(Index::create_in_ram(schema), fields)
    }

    fn new(index: Index, fields: Fields) -> tantivy::Result<Self> {
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(STORE_CACHE_BLOCKS)
            .try_into()?;
        Ok(Self { index, reader, fields })
    }

    /// The newest commit.
    pub(crate) fn committed(&self) -> tantivy::Result<Committed> {
        /// How often a writer in another process may commit in between before it is too often.
        const TRIES_MAX: usize = 16;
        for _ in 0..TRIES_MAX {
            let before = self.index.load_metas()?;
            self.reader.reload()?;
            let after = self.index.load_metas()?;
            if before.opstamp == after.opstamp && before.payload == after.payload {
                let searcher = self.reader.searcher();
                let mark = match after.payload {
                    Some(payload) => mark_of(&payload).ok_or_else(|| {
                        TantivyError::SchemaError(format!("its payload `{payload}` is not ours"))
                    })?,
                    None => Mark::default(),
                };
                return Committed::new(searcher, self.fields, mark);
            }
        }
        Err(TantivyError::SystemError("it is written faster than it can be read".to_owned()))
    }

    /// Commits `documents`, oldest first, as everything between the last commit and `upto`.
    pub(crate) fn commit<'a>(
        &self,
        documents: impl DoubleEndedIterator<Item = &'a Arc<Document>>,
        upto: Mark,
    ) -> tantivy::Result<()> {
        let mut writer = self.writer()?;
        for document in documents.rev() {
            writer.add_document(self.stored(document))?;
        }
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&payload_of(upto));
        commit.commit()?;
        writer.wait_merging_threads()
    }

    /// Merges segments, so that their number stays in the order of the logarithm of the documents'.
    pub(crate) fn merge(&self, committed: &Committed) -> tantivy::Result<bool> {
        let segments: Vec<&SegmentReader> =
            committed.pieces().map(|(_, segment)| segment).collect();
        let classes: Vec<u32> = segments.iter().map(|s| size_class(s.max_doc())).collect();
        let Some(run) = crowded(&classes) else { return Ok(false) };
        let ids: Vec<_> = segments[run].iter().map(|segment| segment.segment_id()).collect();
        let mut writer = self.writer()?;
        writer.merge(&ids).wait()?;
        writer.garbage_collect_files().wait()?;
        writer.wait_merging_threads()?;
        Ok(true)
    }

    fn writer(&self) -> tantivy::Result<IndexWriter> {
        let writer = self.index.writer_with_num_threads(1, ARENA_BYTES)?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        Ok(writer)
    }

    fn stored(&self, document: &Document) -> TantivyDocument {
        let fields = self.fields;
        let mut stored = TantivyDocument::new();
        stored.add_text(fields.id, &document.id);
        stored.add_u64(fields.position, document.position);
        stored.add_text(fields.kind, document.kind.as_str());
        stored.add_i64(fields.time, document.time.as_micros());
        stored.add_text(fields.request, document.request_id.as_str());
        if let Some(session) = document.session {
            stored.add_text(fields.session, session.to_string());
        }
        stored.add_text(fields.text, &document.text);
        for tag in &document.tags {
            stored.add_text(fields.tag, tag);
        }
        stored.add_u64(fields.identity, document.identity);
        let tokens = document.tokens().into_iter().map(|token| Token {
            position: token.place,
            text: token.text,
            ..Token::default()
        });
        stored.add_pre_tokenized_text(
            fields.words,
            PreTokenizedString { text: String::new(), tokens: tokens.collect() },
        );
        stored
    }
}

impl Committed {
    fn new(searcher: Searcher, fields: Fields, mark: Mark) -> tantivy::Result<Self> {
        let mut pieces = Vec::new();
        for (ordinal, segment) in (0..).zip(searcher.segment_readers()) {
            let positions = segment.fast_fields().u64("position")?;
            let newest = positions.max_value();
            pieces.push((newest, Piece { ordinal, positions: positions.first_or_default_col(0) }));
        }
        pieces.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
        let pieces = pieces.into_iter().map(|(_, piece)| piece).collect();
        Ok(Self { searcher, fields, pieces, mark })
    }

    /// The library's view of the commit.
    pub(crate) fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    /// How many documents there are.
    pub(crate) fn documents(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// The segments, newest first.
    pub(super) fn pieces(&self) -> impl DoubleEndedIterator<Item = (&Piece, &SegmentReader)> {
        self.pieces.iter().map(|piece| (piece, self.searcher.segment_reader(piece.ordinal)))
    }

    /// The position of a document.
    pub(super) fn position(&self, place: DocAddress) -> u64 {
        let piece = self.pieces.iter().find(|piece| piece.ordinal == place.segment_ord);
        piece.map_or(0, |piece| piece.position(place.doc_id))
    }

    /// What the fields are called here.
    pub(super) fn fields(&self) -> Fields {
        self.fields
    }

    /// The newest documents that a query matches, newest first.
    pub(super) fn newest(
        &self,
        query: &dyn Query,
        limit: usize,
    ) -> tantivy::Result<Vec<(DocAddress, Document)>> {
        let mut found = Vec::new();
        let weight = query.weight(EnableScoring::disabled_from_searcher(&self.searcher))?;
        for (piece, segment) in self.pieces() {
            let mut matching = weight.scorer(segment, 1.0)?;
            while matching.doc() != TERMINATED && found.len() < limit {
                let place = DocAddress::new(piece.ordinal, matching.doc());
                found.push((place, self.document(place)?));
                matching.advance();
            }
        }
        Ok(found)
    }

    /// The document of that id.
    pub(super) fn with_id(&self, id: &str) -> tantivy::Result<Option<Document>> {
        let term = Term::from_field_text(self.fields.id, id);
        let found = self.newest(&TermQuery::new(term, IndexRecordOption::Basic), 1)?;
        Ok(found.into_iter().next().map(|(_, document)| document))
    }

    /// The document at a place.
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
            kind: MemoryKind::named(&text(fields.kind)).ok_or_else(|| damaged("kind"))?,
            time: Timestamp::from_micros(time.unwrap_or_default()),
            request_id: text(fields.request).parse().map_err(|_| damaged("request"))?,
            session: text(fields.session).parse().ok(),
            text: text(fields.text),
            tags: tags.collect(),
            identity: number(fields.identity),
        })
    }

    /// Shows every document, oldest first.
    pub(crate) fn export(&self, visit: &mut dyn FnMut(&Document)) -> tantivy::Result<()> {
        for (piece, segment) in self.pieces().rev() {
            for document in (0..segment.max_doc()).rev() {
                visit(&self.document(DocAddress::new(piece.ordinal, document))?);
            }
        }
        Ok(())
    }
}

impl Fields {
    /// Documents in which these words stand in a row.
    pub(super) fn phrase(self, words: &[String]) -> Box<dyn Query> {
        let mut terms: Vec<Term> =
            words.iter().map(|word| Term::from_field_text(self.words, word)).collect();
        if terms.len() == 1 {
            return Box::new(TermQuery::new(terms.remove(0), IndexRecordOption::Basic));
        }
        Box::new(PhraseQuery::new(terms))
    }

    /// Documents with that identity.
    pub(super) fn identical(self, identity: u64) -> TermQuery {
        TermQuery::new(Term::from_field_u64(self.identity, identity), IndexRecordOption::Basic)
    }

    /// The field that the words are in.
    pub(super) fn words(self) -> Field {
        self.words
    }

    /// A word, as it is looked up.
    pub(super) fn word(self, word: &str) -> Term {
        Term::from_field_text(self.words, word)
    }

    /// Documents that a filter lets through.
    pub(super) fn filter(self, filter: &Filter) -> BooleanQuery {
        let exact = |field, text: &str| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::Basic))
        };
        let mut parts: Vec<(Occur, Box<dyn Query>)> = vec![(Occur::Must, Box::new(AllQuery))];
        parts.extend(filter.kind.map(|kind| (Occur::Must, exact(self.kind, kind.as_str()))));
        parts.extend(filter.tag.iter().map(|tag| (Occur::Must, exact(self.tag, tag))));
        parts.extend(filter.but.iter().map(|id| (Occur::MustNot, exact(self.id, id))));
        let session = filter.without.map(|session| session.to_string());
        parts.extend(session.map(|session| (Occur::MustNot, exact(self.session, &session))));
        if filter.since.is_some() || filter.until.is_some() {
            let at = |time: Timestamp| Term::from_field_i64(self.time, time.as_micros());
            let from = filter.since.map_or(Bound::Unbounded, |since| Bound::Included(at(since)));
            let to = filter.until.map_or(Bound::Unbounded, |until| Bound::Excluded(at(until)));
            parts.push((Occur::Must, Box::new(RangeQuery::new(from, to))));
        }
        parts.extend(filter.phrases.iter().map(|phrase| (Occur::Must, self.phrase(phrase))));
        parts.extend(filter.excluded.iter().map(|phrase| (Occur::MustNot, self.phrase(phrase))));
        BooleanQuery::new(parts)
    }
}

fn size_class(documents: u32) -> u32 {
    let factor = u32::try_from(MERGE_SEGMENTS).unwrap_or(u32::MAX);
    (documents / SMALL_SEGMENT_DOCUMENTS).max(1).ilog(factor)
}

/// The first neighbours, newest first, of which there are too many in one size class.
fn crowded(classes: &[u32]) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    while start < classes.len() {
        // A smaller segment between larger ones is merged with them rather than left for ever.
        let end = classes[start..]
            .iter()
            .position(|class| *class > classes[start])
            .map_or(classes.len(), |length| start + length);
        if end - start >= MERGE_SEGMENTS {
            return Some(start..end);
        }
        start = end;
    }
    None
}

fn payload_of(mark: Mark) -> String {
    format!("{FORMAT} {} {}", mark.position, mark.hash)
}

fn mark_of(payload: &str) -> Option<Mark> {
    let mut parts = payload.split(' ');
    if parts.next()? != FORMAT {
        return None;
    }
    let position = parts.next()?.parse().ok()?;
    let hash = blake3::Hash::from_hex(parts.next()?).ok()?;
    let hash = ai_factory_schemas::envelope::ChainHash(*hash.as_bytes());
    Some(Mark { position, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_size_are_merged_once_there_are_eight() {
        assert_eq!(crowded(&[]), None);
        assert_eq!(crowded(&[0; 7]), None);
        assert_eq!(crowded(&[0; 8]), Some(0..8));
        assert_eq!(crowded(&[0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2]), Some(2..10));
        assert_eq!(crowded(&[1, 0, 1, 1, 1, 1, 1, 1, 2]), Some(0..8));
    }

    #[test]
    fn a_payload_of_another_format_is_not_ours() {
        let mark = Mark { position: 7, ..Mark::default() };
        assert_eq!(mark_of(&payload_of(mark)), Some(mark));
        assert_eq!(mark_of("0 7 00"), None);
        assert_eq!(mark_of(""), None);
    }
}
