//! The catalog: an index over the sealed segments, so that neither memory nor start-up time grows
//! with the journal.
//!
//! *Promises.* Disposable: if it is missing, behind, damaged or of another journal, it is rebuilt
//! from the sealed segments, which are searched one by one until then. It never claims more than it
//! contains: a segment is added completely, in one transaction.

use std::{fs, path::Path};

use ai_factory_ports::journal::Head;
use ai_factory_schemas::{id::StreamId, text::BlobHash};
use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction,
    ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};

use super::{
    chunk::{AppliedCommand, Chunk, EFFECT_BYTES},
    error::StorageError,
    index::Index,
    layout,
    segment::SealedSegment,
    tables,
};

/// The page cache of the catalog, in bytes.
const CACHE_BYTES_MAX: usize = 1024 * 1024;
/// Raised when the tables change; a catalog of another format is rebuilt.
const FORMAT: u64 = 1;

/// Key: a stream's key and the first position of a segment, so a stream's parts are adjacent and in
/// order.
const PART_BYTES: usize = StreamId::KEY_BYTES + 8;

/// A stream's part in a segment: its last version there (8 bytes) and the ordinals of its records
/// (4 each).
const STREAMS: TableDefinition<'_, &[u8; PART_BYTES], &[u8]> = TableDefinition::new("streams");
const COMMANDS: TableDefinition<'_, &str, &[u8; EFFECT_BYTES]> = TableDefinition::new("commands");
/// The first position of the segment that holds a blob.
const BLOBS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("blobs");
/// The last record in the catalog, by format.
const THROUGH: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("through");

/// The catalog in one transaction.
pub(super) struct CatalogView {
    /// The last record of the last segment in the catalog.
    pub(super) through: Head,
    streams: ReadOnlyTable<&'static [u8; PART_BYTES], &'static [u8]>,
    commands: ReadOnlyTable<&'static str, &'static [u8; EFFECT_BYTES]>,
    blobs: ReadOnlyTable<&'static [u8; 32], u64>,
}

impl CatalogView {
    fn open(txn: &ReadTransaction) -> Result<Self, StorageError> {
        let through = txn.open_table(THROUGH)?.get(FORMAT)?;
        let through = through.and_then(|bytes| tables::head_of(bytes.value()));
        Ok(Self {
            through: through.ok_or_else(|| StorageError::new("the catalog has another format"))?,
            streams: txn.open_table(STREAMS)?,
            commands: txn.open_table(COMMANDS)?,
            blobs: txn.open_table(BLOBS)?,
        })
    }

    /// The stream's parts in the sealed segments, in order.
    pub(super) fn parts(&self, stream: StreamId) -> Result<Vec<StreamSlice>, StorageError> {
        let (from, to) = (part_key(stream, 0), part_key(stream, u64::MAX));
        let entries = self.streams.range::<&[u8; PART_BYTES]>(&from..=&to)?;
        entries
            .map(|entry| {
                let (key, part) = entry?;
                StreamSlice::read(key.value(), part.value())
            })
            .collect()
    }

    /// The stream's last version in the sealed segments.
    pub(super) fn last_version(&self, stream: StreamId) -> Result<Option<u64>, StorageError> {
        let (from, to) = (part_key(stream, 0), part_key(stream, u64::MAX));
        let last = self.streams.range::<&[u8; PART_BYTES]>(&from..=&to)?.next_back();
        let part =
            last.transpose()?.map(|(key, part)| StreamSlice::read(key.value(), part.value()));
        Ok(part.transpose()?.map(|part| part.version))
    }

    /// The numbers of stream parts, commands and blobs.
    pub(super) fn counts(&self) -> Result<(u64, u64, u64), StorageError> {
        Ok((self.streams.len()?, self.commands.len()?, self.blobs.len()?))
    }

    pub(super) fn effect(&self, id: &str) -> Result<Option<AppliedCommand>, StorageError> {
        let found = self.commands.get(id)?;
        let unreadable =
            || StorageError::new(format!("the catalog's entry of `{id}` is unreadable"));
        found
            .map(|bytes| AppliedCommand::from_bytes(bytes.value()).ok_or_else(unreadable))
            .transpose()
    }

    pub(super) fn blob(&self, hash: BlobHash) -> Result<Option<u64>, StorageError> {
        Ok(self.blobs.get(&hash.0)?.map(|first| first.value()))
    }
}

/// The catalog, open for adding segments.
pub(super) struct Catalog {
    db: Database,
}

impl Catalog {
    /// Opens the catalog of `dir`, or creates an empty one if it is missing, unreadable, or belongs
    /// to other segments. `ends` returns the last record of the segment that ends at a position.
    pub(super) fn open(
        dir: &Path,
        ends: impl Fn(u64) -> Option<Head>,
    ) -> Result<(Self, CatalogView), StorageError> {
        let path = layout::catalog(dir);
        if path.exists() {
            match Self::existing(&path) {
                Ok((catalog, view)) => {
                    let through = view.through;
                    if through.position == 0 || ends(through.position) == Some(through) {
                        return Ok((catalog, view));
                    }
                    tracing::warn!(path = %path.display(), "the catalog belongs to other segments: rebuilding it");
                }
                Err(fault) => {
                    tracing::warn!(path = %path.display(), %fault, "the catalog is unreadable: rebuilding it");
                }
            }
            let removed = fs::remove_file(&path);
            removed
                .map_err(|error| StorageError::io("the old catalog cannot be removed", &error))?;
        }
        let catalog = Self { db: builder().create(&path)? };
        let txn = catalog.db.begin_write()?;
        txn.open_table(STREAMS)?;
        txn.open_table(COMMANDS)?;
        txn.open_table(BLOBS)?;
        let none = tables::head_bytes(Head::default());
        txn.open_table(THROUGH)?.insert(FORMAT, none.as_slice())?;
        txn.commit()?;
        let view = catalog.view()?;
        Ok((catalog, view))
    }

    fn existing(path: &Path) -> Result<(Self, CatalogView), StorageError> {
        let real = layout::is_redb(path).map_err(|error| StorageError::io("unreadable", &error))?;
        if !real {
            return Err(StorageError::new("not a catalog"));
        }
        let catalog = Self { db: builder().open(path)? };
        let view = catalog.view()?;
        Ok((catalog, view))
    }

    pub(super) fn view(&self) -> Result<CatalogView, StorageError> {
        CatalogView::open(&self.db.begin_read()?)
    }

    /// Adds a sealed segment.
    pub(super) fn enter(&self, sealed: &SealedSegment) -> Result<CatalogView, StorageError> {
        let mut txn = self.db.begin_write()?;
        // After a kill the catalog opens at once, whatever its size.
        txn.set_quick_repair(true);
        {
            // In key order, which fills pages one after the other.
            let index = Index::of(sealed.meta.first, &sealed.tables)?;
            let mut streams: Vec<_> = index.streams().collect();
            streams.sort_unstable();
            let mut table = txn.open_table(STREAMS)?;
            for stream in streams {
                let part = StreamSlice::of(&index, stream);
                table.insert(&part_key(stream, part.first), part.to_bytes().as_slice())?;
            }
            let mut table = txn.open_table(COMMANDS)?;
            for (id, effect) in effects(sealed)? {
                table.insert(id.as_str(), &effect.to_bytes())?;
            }
            let mut blobs = txn.open_table(BLOBS)?;
            for entry in sealed.tables.blobs.iter()? {
                blobs.insert(entry?.0.value(), sealed.meta.first)?;
            }
            let through = tables::head_bytes(sealed.last);
            txn.open_table(THROUGH)?.insert(FORMAT, through.as_slice())?;
        }
        txn.commit()?;
        self.view()
    }
}

/// The commands of a segment, sorted.
fn effects(sealed: &SealedSegment) -> Result<Vec<(String, AppliedCommand)>, StorageError> {
    let mut effects = Vec::new();
    for entry in sealed.tables.records.iter()? {
        let (first, bytes) = entry?;
        let unreadable =
            || StorageError::new(format!("the records from {} on are unreadable", first.value()));
        let chunk = Chunk::parse(first.value(), bytes.value()).ok_or_else(unreadable)?;
        for effect in chunk.effects() {
            let (id, effect) = effect.ok_or_else(unreadable)?;
            effects.push((id.to_owned(), effect));
        }
    }
    effects.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(effects)
}

/// One stream's records in one segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StreamSlice {
    /// The segment's first position.
    pub(super) first: u64,
    /// The stream's last version in it.
    pub(super) version: u64,
    /// The positions of the stream's records in it.
    pub(super) positions: Vec<u64>,
}

impl StreamSlice {
    pub(super) fn of(index: &Index, stream: StreamId) -> Self {
        Self {
            first: index.first(),
            version: index.version(stream).unwrap_or(0),
            positions: index.positions(stream, 0, u64::MAX),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.version.to_be_bytes().to_vec();
        for position in &self.positions {
            // A segment has far fewer than 2^32 records.
            let place = u32::try_from(position - self.first).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&place.to_be_bytes());
        }
        bytes
    }

    fn read(key: &[u8; PART_BYTES], bytes: &[u8]) -> Result<Self, StorageError> {
        let read = || {
            let first = u64::from_be_bytes(key[StreamId::KEY_BYTES..].try_into().ok()?);
            let (version, places) = bytes.split_at_checked(8)?;
            let positions = places
                .chunks(4)
                .map(|place| Some(first + u64::from(u32::from_be_bytes(place.try_into().ok()?))))
                .collect::<Option<_>>()?;
            Some(Self { first, version: u64::from_be_bytes(version.try_into().ok()?), positions })
        };
        read().ok_or_else(|| StorageError::new("the catalog has an unreadable stream entry"))
    }
}

fn part_key(stream: StreamId, first: u64) -> [u8; PART_BYTES] {
    let mut key = [0; PART_BYTES];
    key[..StreamId::KEY_BYTES].copy_from_slice(&stream.to_key());
    key[StreamId::KEY_BYTES..].copy_from_slice(&first.to_be_bytes());
    key
}

/// The catalog of another process. `None` if it cannot be opened: then the segments are searched.
pub(super) struct ForeignCatalog {
    db: ReadOnlyDatabase,
}

impl ForeignCatalog {
    pub(super) fn open(dir: &Path) -> Option<Self> {
        let path = layout::catalog(dir);
        layout::is_redb(&path).ok().filter(|real| *real)?;
        builder().open_read_only(path).ok().map(|db| Self { db })
    }

    pub(super) fn view(&self) -> Option<CatalogView> {
        CatalogView::open(&self.db.begin_read().ok()?).ok()
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}
