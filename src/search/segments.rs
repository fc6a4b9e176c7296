//! The part of the keyword index that is on disk.
//!
//! *Promises.* A document's number falls with its age: flushes add the newest first, and merges
//! keep that order. So a search that goes through segments and documents in order meets newer ones
//! first, and may skip whatever cannot be strictly better than what it has.
//!
//! *Limits.* A writer exists only during a flush: its arena is the largest allocation here.

use std::{ops::Range, path::Path, sync::Arc};

use ai_factory_fold::Access;
use parking_lot::Mutex;
use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, SegmentReader, TantivyDocument,
    TantivyError, Term,
    indexer::IndexWriterOptions,
    merge_policy::NoMergePolicy,
    tokenizer::{PreTokenizedString, Token},
};

use super::{
    committed::{CommittedIndex, StatsBySegment},
    documents::Document,
    fields::{IndexFields, schema},
    index_directory::IndexDirectory,
    payload::Payload,
};

/// The writer's memory, in bytes: the least that the library accepts.
const ARENA_BYTES: usize = 15_000_000;
/// Neighbouring segments of one size class that become one. Few, because a search looks its terms
/// up in each segment; a document is rewritten once per class that it rises.
const MERGE_SEGMENTS: usize = 4;
/// Limit of the lowest size class, in documents; each further class is [`MERGE_SEGMENTS`] times as
/// large.
const SMALL_SEGMENT_DOCUMENTS: u32 = 1024;
/// An idle merge includes a segment if it is at most this many times as large as all newer ones
/// together. So each document is rewritten at most this often before the index has doubled.
const REST_FACTOR: u64 = 4;
/// Forgotten documents are purged from the files when there are this many, or one in
/// [`PURGED_PART`] if that is more, and at the latest when there are [`PURGED_MAX`]. Rarely,
/// because it rewrites whole segments.
const PURGED_MIN: u64 = 256;
const PURGED_PART: u64 = 16;
const PURGED_MAX: u64 = 16_384;
/// Approximate size of a block of stored documents, in bytes. Small, because a block is copied for
/// each document that is read.
const STORE_BLOCK_BYTES: usize = 2 * 1024;
/// Blocks of stored documents that a reader caches per segment.
const STORE_CACHE_BLOCKS: usize = 2;

/// An open index directory.
pub(crate) struct Segments {
    index: Index,
    reader: IndexReader,
    fields: IndexFields,
    known: Mutex<StatsBySegment>,
}

impl Segments {
    /// Opens an index directory.
    pub(crate) fn open(directory: &Path, access: Access) -> tantivy::Result<Self> {
        let index = Index::open(IndexDirectory::new(directory, access)?)?;
        let (schema, fields) = schema();
        if index.schema() != schema {
            return Err(TantivyError::SchemaError("its fields are of another version".to_owned()));
        }
        Self::new(index, fields)
    }

    /// Makes an empty index in an empty directory.
    pub(crate) fn create(directory: &Path) -> tantivy::Result<Self> {
        let (schema, fields) = schema();
        let settings =
            IndexSettings { docstore_blocksize: STORE_BLOCK_BYTES, ..IndexSettings::default() };
        let index =
            Index::create(IndexDirectory::new(directory, Access::Write)?, schema, settings)?;
        Self::new(index, fields)
    }

    /// An empty index for a reader, never written to.
    pub(crate) fn none() -> tantivy::Result<Self> {
        let (schema, fields) = schema();
        Self::new(Index::create_in_ram(schema), fields)
    }

    fn new(mut index: Index, fields: IndexFields) -> tantivy::Result<Self> {
        // Saves a thread per written segment: the C library's allocator keeps memory for each
        // thread.
        index.settings_mut().docstore_compress_dedicated_thread = false;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(STORE_CACHE_BLOCKS)
            .try_into()?;
        Ok(Self { index, reader, fields, known: Mutex::default() })
    }

    /// Whether the directory still contains an index.
    pub(crate) fn are_there(&self) -> tantivy::Result<bool> {
        Ok(Index::exists(self.index.directory())?)
    }

    /// The newest commit.
    pub(crate) fn committed(&self) -> tantivy::Result<CommittedIndex> {
        /// Attempts when a writer in another process keeps committing in between.
        const TRIES_MAX: usize = 16;
        for _ in 0..TRIES_MAX {
            let before = self.index.load_metas()?;
            self.reader.reload()?;
            let after = self.index.load_metas()?;
            if before.opstamp == after.opstamp && before.payload == after.payload {
                let searcher = self.reader.searcher();
                let payload = match after.payload {
                    Some(text) => Payload::from_text(&text).ok_or_else(|| {
                        TantivyError::SchemaError(format!("its payload `{text:.80}` is not ours"))
                    })?,
                    None => Payload::default(),
                };
                let mut known = self.known.lock();
                return CommittedIndex::new(searcher, self.fields, payload, &mut known);
            }
        }
        Err(TantivyError::SystemError("it is written faster than it can be read".to_owned()))
    }

    /// Commits `documents`, oldest first; the payload's mark must be that of the last event
    /// covered.
    pub(crate) fn commit<'a>(
        &self,
        documents: impl DoubleEndedIterator<Item = &'a Arc<Document>>,
        payload: &Payload,
    ) -> tantivy::Result<()> {
        let mut writer = self.writer()?;
        for document in documents.rev() {
            writer.add_document(self.stored(document))?;
        }
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&payload.to_text());
        commit.commit()?;
        writer.wait_merging_threads()
    }

    /// Merges segments of one size class, if there are enough. Keeps the number of segments
    /// logarithmic in the number of documents. Returns whether it merged.
    pub(crate) fn merge(&self, committed: &CommittedIndex) -> tantivy::Result<bool> {
        let segments = committed.segments().map(|(_, segment)| segment.max_doc());
        self.merge_some(committed, crowded_range(&segments.collect::<Vec<_>>()))
    }

    /// Idle merge: joins the newest segments where that pays, into at most `bytes_max` bytes. Fewer
    /// segments mean fewer term lookups per search. Returns whether it merged.
    pub(crate) fn merge_idle(
        &self,
        committed: &CommittedIndex,
        bytes_max: u64,
    ) -> tantivy::Result<bool> {
        let bytes = committed
            .segments()
            .map(|(_, segment)| Ok(segment.space_usage()?.total().get_bytes()))
            .collect::<tantivy::Result<Vec<u64>>>()?;
        self.merge_some(committed, idle_merge_range(&bytes, bytes_max))
    }

    /// Merges a range of neighbouring segments, counted from the newest.
    fn merge_some(
        &self,
        committed: &CommittedIndex,
        run: Option<Range<usize>>,
    ) -> tantivy::Result<bool> {
        let Some(run) = run else { return Ok(false) };
        let segments: Vec<&SegmentReader> =
            committed.segments().map(|(_, segment)| segment).collect();
        let ids: Vec<_> = segments[run].iter().map(|segment| segment.segment_id()).collect();
        let mut writer = self.writer()?;
        writer.merge(&ids).wait()?;
        writer.garbage_collect_files().wait()?;
        writer.wait_merging_threads()?;
        Ok(true)
    }

    /// Purges forgotten documents from the files if that is due. After a crash in between they are
    /// still forgotten.
    pub(crate) fn purge(&self, committed: &CommittedIndex) -> tantivy::Result<bool> {
        let metas = self.index.searchable_segment_metas()?;
        let is_unfinished = metas.iter().any(tantivy::SegmentMeta::has_deletes);
        let due = (committed.documents() / PURGED_PART).clamp(PURGED_MIN, PURGED_MAX);
        let forgotten: Vec<&str> = committed.forgotten_ids().collect();
        if (forgotten.len() as u64) < due && !is_unfinished {
            return Ok(false);
        }
        let mut writer = self.writer()?;
        self.cross_out(&mut writer, &forgotten)?;
        for segment in self.index.searchable_segment_metas()? {
            if segment.has_deletes() {
                writer.merge(&[segment.id()]).wait()?;
            }
        }
        writer.garbage_collect_files().wait()?;
        writer.wait_merging_threads()?;
        Ok(true)
    }

    /// Deletes documents. The payload stays: it may list documents that are no longer there.
    fn cross_out(&self, writer: &mut IndexWriter, ids: &[&str]) -> tantivy::Result<()> {
        for id in ids {
            writer.delete_term(Term::from_field_text(self.fields.id, id));
        }
        let mut commit = writer.prepare_commit()?;
        if let Some(payload) = self.index.load_metas()?.payload {
            commit.set_payload(&payload);
        }
        commit.commit()?;
        Ok(())
    }

    fn writer(&self) -> tantivy::Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(ARENA_BYTES)
            .build();
        let writer = self.index.writer_with_options(options)?;
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
            fields.keyword_index(),
            PreTokenizedString { text: String::new(), tokens: tokens.collect() },
        );
        stored
    }
}

fn size_class(documents: u32) -> u32 {
    let factor = u32::try_from(MERGE_SEGMENTS).unwrap_or(u32::MAX);
    (documents / SMALL_SEGMENT_DOCUMENTS).max(1).ilog(factor)
}

/// The first range of neighbours, newest first, that has too many segments of one size class.
fn crowded_range(documents: &[u32]) -> Option<Range<usize>> {
    let classes: Vec<u32> = documents.iter().map(|documents| size_class(*documents)).collect();
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

/// The newest segments that an idle merge joins, into at most `bytes_max` bytes.
fn idle_merge_range(bytes: &[u64], bytes_max: u64) -> Option<Range<usize>> {
    let (mut newer, mut end) = (0, 0);
    for (number, bytes) in (1..).zip(bytes) {
        if number > 1 && *bytes <= REST_FACTOR * newer && newer + bytes <= bytes_max {
            end = number;
        }
        newer += bytes;
    }
    (end > 0).then_some(0..end)
}

#[cfg(test)]
mod tests {
    use ai_factory_fold::Mark;

    use super::{
        super::{corpus::Corpus, tombstones::Tombstones},
        *,
    };

    #[test]
    fn neighbours_of_one_size_are_merged_once_there_are_four() {
        let crowded_range = |classes: &[u32]| {
            let documents: Vec<u32> =
                classes.iter().map(|class| SMALL_SEGMENT_DOCUMENTS * 4_u32.pow(*class)).collect();
            crowded_range(&documents)
        };
        assert_eq!(crowded_range(&[]), None);
        assert_eq!(crowded_range(&[0; 3]), None);
        assert_eq!(crowded_range(&[0; 4]), Some(0..4));
        assert_eq!(crowded_range(&[0, 0, 1, 1, 1, 1, 2]), Some(2..6));
        assert_eq!(crowded_range(&[1, 0, 1, 1, 2]), Some(0..4));
    }

    #[test]
    fn at_rest_the_newest_are_merged_with_what_is_not_much_larger() {
        let idle_merge_range = |bytes: &[u64]| idle_merge_range(bytes, 260_000);
        assert_eq!(idle_merge_range(&[]), None);
        assert_eq!(idle_merge_range(&[500]), None);
        assert_eq!(idle_merge_range(&[500, 2_000]), Some(0..2));
        assert_eq!(idle_merge_range(&[500, 2_001]), None);
        assert_eq!(idle_merge_range(&[969, 2_432, 2_688, 10_368, 33_543]), Some(0..5));
        // A segment that is too large for the newest one may not be for all newer ones together.
        assert_eq!(idle_merge_range(&[100, 1_000, 2_000]), Some(0..3));
        assert_eq!(idle_merge_range(&[100, 100, 1_000, 60_000]), Some(0..2));
        assert_eq!(idle_merge_range(&[100, 100, 600, 60_000]), Some(0..3));
        assert_eq!(idle_merge_range(&[60_000, 100_000, 200_000]), Some(0..2));
        assert_eq!(idle_merge_range(&[100, 100_000, 200_000]), None);
    }

    #[test]
    fn a_purge_that_broke_off_leaves_forgotten_what_was_and_is_done_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let segments = Segments::create(dir.path()).unwrap();
        let documents: Vec<_> =
            (1..=9).map(|at| Document::sample(at, format!("kettle {at}"))).collect();
        let tombstones: Vec<u64> = vec![2, 3, 8];
        let corpus = Corpus { documents: 6, tokens: 12 };
        let mark = Mark { position: 9, ..Mark::default() };
        let payload =
            Payload { mark, corpus, tombstones: tombstones.clone(), ..Payload::default() };
        segments.commit(documents.iter(), &payload).unwrap();
        let mut writer = segments.writer().unwrap();
        segments.cross_out(&mut writer, &["memory 2", "memory 3", "memory 8"]).unwrap();
        drop(writer);
        drop(segments);

        let segments = Segments::open(dir.path(), Access::Write).unwrap();
        for is_purged in [false, true] {
            let mut committed = segments.committed().unwrap();
            let mut known = Tombstones::default();
            for position in committed.known_forgotten() {
                committed.at(*position).unwrap().iter().for_each(|document| known.add(document));
            }
            assert_eq!(known.is_empty(), is_purged);
            committed.forget(Arc::new(known));
            assert_eq!((committed.mark, committed.corpus([].into_iter())), (mark, corpus));
            let mut found = Vec::new();
            committed.export(&mut |document| found.push(document.position)).unwrap();
            assert_eq!(found, [1, 4, 5, 6, 7, 9]);
            for position in 1..=9 {
                let is_gone = tombstones.contains(&position);
                assert_eq!(committed.has(position), !(is_gone && is_purged), "{position}");
                let id = format!("memory {position}");
                assert_eq!(committed.with_id(&id).unwrap().is_none(), is_gone, "{position}");
            }
            assert_eq!(segments.purge(&committed).unwrap(), !is_purged);
        }
    }
}
