//! The part of the index that is on disk.
//!
//! *Promises.* A document's number falls with its age: flushes add the newest first, and merges keep that
//! order. So a search that goes through segments and documents in order meets newer ones first, and may
//! skip whatever cannot be strictly better than what it has.
//!
//! *Limits.* A writer exists only during a flush: its arena is the largest piece of memory here.

use std::path::Path;

use tantivy::{
    DocAddress, DocSet, Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, SegmentReader,
    TERMINATED, TantivyDocument, TantivyError, Term,
    merge_policy::NoMergePolicy,
    query::{BooleanQuery, EnableScoring, Occur, Query, TermQuery},
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing,
        TextOptions, Value,
    },
    tokenizer::{PreTokenizedString, Token},
};

use super::{
    documents::Document,
    overlay::words,
    scoring::{Best, Place, Weighed},
};
use crate::projection::Mark;

/// The layout of documents and the way words are cut. An index with another number is dropped and rebuilt.
const FORMAT: &str = "2";
/// The writer's memory, in bytes: the least that the library takes.
const ARENA_BYTES: usize = 15_000_000;
/// This many neighbouring segments of one size class become one.
const MERGE_SEGMENTS: usize = 8;
/// Segments of up to this many documents are the lowest size class; each further one is [`MERGE_SEGMENTS`] times as large.
const SMALL_SEGMENT_DOCUMENTS: u32 = 1024;
/// Blocks of stored documents that a reader keeps for each segment.
const STORE_CACHE_BLOCKS: usize = 2;

#[derive(Clone, Copy)]
struct Fields {
    id: Field,
    position: Field,
    kind: Field,
    text: Field,
    tags: Field,
    identity: Field,
    words: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let counted = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_index_option(IndexRecordOption::WithFreqs);
    let fields = Fields {
        id: schema.add_text_field("id", STORED),
        position: schema.add_u64_field("position", FAST | STORED),
        kind: schema.add_text_field("kind", STRING | STORED),
        text: schema.add_text_field("text", STORED),
        tags: schema.add_text_field("tags", STORED),
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
    /// What the commit contains.
    pub(crate) mark: Mark,
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
                return Ok(Committed { searcher, fields: self.fields, mark });
            }
        }
        Err(TantivyError::SystemError("it is written faster than it can be read".to_owned()))
    }

    /// Commits `documents`, oldest first, as everything between the last commit and `upto`.
    pub(crate) fn commit<'a>(
        &self,
        documents: impl DoubleEndedIterator<Item = &'a Document>,
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
        let segments = committed.newest_first()?;
        let classes: Vec<u32> = segments.iter().map(|(_, s)| size_class(s.max_doc())).collect();
        let Some(run) = crowded(&classes) else { return Ok(false) };
        let ids: Vec<_> = segments[run].iter().map(|(_, segment)| segment.segment_id()).collect();
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
        stored.add_text(fields.kind, &document.kind);
        stored.add_text(fields.text, &document.text);
        stored.add_text(fields.tags, &document.tags);
        stored.add_u64(fields.identity, document.identity);
        let tokens = words(document).into_iter().enumerate().map(|(position, text)| Token {
            position,
            text,
            ..Token::default()
        });
        stored.add_pre_tokenized_text(
            fields.words,
            PreTokenizedString { text: String::new(), tokens: tokens.collect() },
        );
        stored
    }

    /// The field that the words are in.
    pub(crate) fn words_field(&self) -> Field {
        self.fields.words
    }
}

impl Committed {
    /// The library's view of the commit.
    pub(crate) fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    /// How many documents there are.
    pub(crate) fn documents(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// Offers every document that can be better than what is there.
    pub(crate) fn score(&self, query: &Weighed, best: &mut Best) -> tantivy::Result<()> {
        let terms = query.terms.iter().map(|(token, _)| {
            let term = Term::from_field_text(self.fields.words, token);
            let query: Box<dyn Query> =
                Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
            (Occur::Should, query)
        });
        let scoring =
            EnableScoring::enabled_from_statistics_provider(&query.statistics, &self.searcher);
        let weight = BooleanQuery::new(terms.collect()).weight(scoring)?;
        for (ordinal, segment) in self.newest_first()? {
            weight.for_each_pruning(best.threshold(), segment, &mut |document, score| {
                best.offer(score, Place::Committed(DocAddress::new(ordinal, document)));
                best.threshold()
            })?;
        }
        Ok(())
    }

    /// The newest documents with this identity, newest first.
    pub(crate) fn identical(
        &self,
        identity: u64,
        limit: usize,
    ) -> tantivy::Result<Vec<DocAddress>> {
        let mut found = Vec::new();
        let term = Term::from_field_u64(self.fields.identity, identity);
        for (ordinal, segment) in self.newest_first()? {
            let terms = segment.inverted_index(self.fields.identity)?;
            let Some(mut postings) = terms.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            while postings.doc() != TERMINATED && found.len() < limit {
                found.push(DocAddress::new(ordinal, postings.doc()));
                postings.advance();
            }
        }
        Ok(found)
    }

    /// The document at a place.
    pub(crate) fn document(&self, place: DocAddress) -> tantivy::Result<Document> {
        let stored: TantivyDocument = self.searcher.doc(place)?;
        let text = |field| {
            let value = stored.get_first(field).and_then(|value| value.as_str());
            value.unwrap_or_default().to_owned()
        };
        let number =
            |field| stored.get_first(field).and_then(|value| value.as_u64()).unwrap_or_default();
        let fields = self.fields;
        Ok(Document {
            id: text(fields.id),
            position: number(fields.position),
            kind: text(fields.kind),
            text: text(fields.text),
            tags: text(fields.tags),
            identity: number(fields.identity),
        })
    }

    /// Shows every document, oldest first.
    pub(crate) fn export(&self, visit: &mut dyn FnMut(&Document)) -> tantivy::Result<()> {
        for (ordinal, segment) in self.newest_first()?.into_iter().rev() {
            for document in (0..segment.max_doc()).rev() {
                visit(&self.document(DocAddress::new(ordinal, document))?);
            }
        }
        Ok(())
    }

    /// The segments, newest first. They never overlap: merges join neighbours.
    fn newest_first(&self) -> tantivy::Result<Vec<(u32, &SegmentReader)>> {
        let mut segments = Vec::new();
        for (ordinal, segment) in (0..).zip(self.searcher.segment_readers()) {
            let newest = segment.fast_fields().u64("position")?.max_value();
            segments.push((newest, ordinal, segment));
        }
        segments.sort_by_key(|(newest, ..)| std::cmp::Reverse(*newest));
        Ok(segments.into_iter().map(|(_, ordinal, segment)| (ordinal, segment)).collect())
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
