//! The tables of one segment: records in chunks, blobs, metadata.

use std::path::Path;

use ai_factory_ports::journal::Head;
use ai_factory_schemas::envelope::{self, ChainHash};
use redb::{ReadOnlyTable, ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::{
    chunk::Chunk,
    error::{OpenJournalError, StorageError},
};

/// The format of a segment that this program writes.
const FORMAT: u64 = 1;
/// Chunks by their first position.
pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
pub(super) const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_FIRST: &str = "first_position";
const META_PREVIOUS: &str = "previous_hash";
pub(super) const META_SEALED: &str = "sealed";

/// A segment's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentMeta {
    pub(super) first: u64,
    /// The hash of the record before `first`.
    pub(super) previous: ChainHash,
    /// The segment's last record, once it is sealed.
    pub(super) sealed: Option<Head>,
}

impl SegmentMeta {
    /// Reads the metadata; the error says why it is unreadable.
    pub(super) fn read(txn: &ReadTransaction, path: &Path) -> Result<Self, OpenJournalError> {
        let redb = |error: redb::Error| OpenJournalError::redb(path, error);
        let alien = || OpenJournalError::NotAJournal(path.to_owned());
        let table = match txn.open_table(META) {
            Ok(table) => table,
            Err(
                TableError::TableDoesNotExist(_)
                | TableError::TableTypeMismatch { .. }
                | TableError::TypeDefinitionChanged { .. }
                | TableError::TableIsMultimap(_),
            ) => return Err(alien()),
            Err(error) => return Err(redb(error.into())),
        };
        let get = |name: &str| -> Result<Option<Vec<u8>>, OpenJournalError> {
            Ok(table.get(name).map_err(|e| redb(e.into()))?.map(|value| value.value().to_vec()))
        };
        let number = |name| -> Result<u64, OpenJournalError> {
            let bytes = get(name)?.and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_be_bytes).ok_or_else(alien)
        };
        // The format comes first: the meaning of the rest is unknown in a newer one.
        let format = number(META_FORMAT)?;
        if format > FORMAT {
            return Err(OpenJournalError::newer(path, format, FORMAT));
        }
        let previous = get(META_PREVIOUS)?.and_then(|bytes| bytes.try_into().ok());
        let sealed = match get(META_SEALED)? {
            None => None,
            Some(bytes) => Some(head_of(&bytes).ok_or_else(alien)?),
        };
        Ok(Self {
            first: number(META_FIRST)?,
            previous: ChainHash(previous.ok_or_else(alien)?),
            sealed,
        })
    }

    /// The head before the segment's first record.
    pub(super) fn before(&self) -> Head {
        Head { position: self.first - 1, hash: self.previous }
    }
}

pub(super) fn head_bytes(head: Head) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&head.position.to_be_bytes());
    bytes[8..].copy_from_slice(&head.hash.0);
    bytes
}

pub(super) fn head_of(bytes: &[u8]) -> Option<Head> {
    let (position, hash) = bytes.split_at_checked(8)?;
    Some(Head {
        position: u64::from_be_bytes(position.try_into().ok()?),
        hash: ChainHash(hash.try_into().ok()?),
    })
}

/// The tables of a segment in one transaction.
pub(super) struct SegmentTables {
    pub(super) records: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) blobs: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
}

/// The stored bytes of the chunk that begins at `first`.
pub(super) struct StoredChunk {
    first: u64,
    bytes: OwnedGuard,
}

type OwnedGuard = redb::AccessGuard<'static, &'static [u8]>;

impl StoredChunk {
    pub(super) fn has(&self, position: u64) -> bool {
        self.chunk().is_ok_and(|chunk| (chunk.first..=chunk.last()).contains(&position))
    }

    pub(super) fn chunk(&self) -> Result<Chunk<'_>, StorageError> {
        Chunk::parse(self.first, self.bytes.value()).ok_or_else(|| {
            StorageError::new(format!("the records from {} on are unreadable", self.first))
        })
    }
}

impl SegmentTables {
    pub(super) fn open(txn: &ReadTransaction) -> Result<Self, TableError> {
        Ok(Self { records: txn.open_table(RECORDS)?, blobs: txn.open_table(BLOBS)? })
    }

    /// The chunk that contains `position`, or would contain it.
    pub(super) fn chunk_around(&self, position: u64) -> Result<Option<StoredChunk>, StorageError> {
        let entry = self.records.range(..=position)?.next_back().transpose()?;
        Ok(entry.map(|(first, bytes)| StoredChunk { first: first.value(), bytes }))
    }

    /// The last record, or the head before the segment if it has none.
    pub(super) fn head(&self, meta: &SegmentMeta) -> Result<Head, StorageError> {
        let Some(stored) = self.chunk_around(u64::MAX)? else { return Ok(meta.before()) };
        let chunk = stored.chunk()?;
        let position = chunk.last();
        let hash = chunk.record(position).and_then(envelope::unseal).map(|(_, hash)| hash);
        let hash = hash.ok_or_else(|| {
            StorageError::new(format!("record {position} does not end in its hash"))
        })?;
        Ok(Head { position, hash })
    }
}

/// Creates the tables of an empty segment that follows `after`.
pub(super) fn make_tables(txn: &WriteTransaction, after: Head) -> Result<(), redb::Error> {
    txn.open_table(RECORDS)?;
    txn.open_table(BLOBS)?;
    let mut meta = txn.open_table(META)?;
    meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
    meta.insert(META_FIRST, (after.position + 1).to_be_bytes().as_slice())?;
    meta.insert(META_PREVIOUS, after.hash.0.as_slice())?;
    Ok(())
}
