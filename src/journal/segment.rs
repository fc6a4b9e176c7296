//! One redb file of the journal: tables, metadata, creating and opening it.
//!
//! A segment has chunks of records and the blobs appended with them. Positions, versions and the
//! hash chain continue across segments: `first` and `previous` say where a segment begins.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use ai_factory_overlay::{FileOverlay, Snapshot};
use ai_factory_ports::journal::Head;
use ai_factory_schemas::envelope::{self, ChainHash};
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadOnlyTable,
    ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition, TableError,
    WriteTransaction,
    backends::{FileBackend, InMemoryBackend},
};

use super::{
    chunk::Chunk,
    error::{OpenJournalError, StorageError, catch_damage},
    fail_points::FaultInjection,
    index::Index,
    layout,
    storage::{Extent, OneSyncBackend, SyncWindow, UnlockedFile},
};

/// The format of a segment that this program writes.
pub(super) const FORMAT: u64 = 1;
/// The page cache of a sealed segment, in bytes.
const SEALED_CACHE_BYTES_MAX: usize = 1024 * 1024;
/// The page cache of a segment that is read once from end to end, in bytes.
const UNCLEAN_CACHE_BYTES_MAX: usize = 64 * 1024;

/// Chunks by their first position.
pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
pub(super) const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_FIRST: &str = "first_position";
const META_PREVIOUS: &str = "previous_hash";
const META_SEALED: &str = "sealed";

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
    fn read(txn: &ReadTransaction, path: &Path) -> Result<Self, OpenJournalError> {
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
            return Err(OpenJournalError::newer(path, format));
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

fn builder(cache_bytes_max: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes_max).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// The segment open for writing.
pub(super) struct ActiveSegment {
    pub(super) meta: SegmentMeta,
    db: Database,
    storage: Arc<dyn StorageBackend>,
    window: Arc<SyncWindow>,
    one_sync: bool,
}

impl ActiveSegment {
    /// Opens an existing segment for writing; repairs what a crash left.
    pub(super) fn open(
        path: &Path,
        cache_bytes_max: usize,
        faults: &FaultInjection,
    ) -> Result<Self, OpenJournalError> {
        if !layout::is_redb(path).map_err(|error| OpenJournalError::io(path, &error))? {
            return Err(OpenJournalError::NotAJournal(path.to_owned()));
        }
        Self::with(path, false, cache_bytes_max, faults, |db| {
            let txn = db.begin_read().map_err(|error| OpenJournalError::redb(path, error))?;
            SegmentMeta::read(&txn, path)
        })
    }

    /// Creates a complete, empty segment at `path`.
    pub(super) fn create(
        path: &Path,
        after: Head,
        cache_bytes_max: usize,
        faults: &FaultInjection,
    ) -> Result<Self, OpenJournalError> {
        let redb = |error: redb::Error| OpenJournalError::redb(path, error);
        Self::with(path, true, cache_bytes_max, faults, |db| {
            let txn = db.begin_write().map_err(|e| redb(e.into()))?;
            make_tables(&txn, after).map_err(redb)?;
            txn.commit().map_err(|e| redb(e.into()))?;
            Ok(SegmentMeta { first: after.position + 1, previous: after.hash, sealed: None })
        })
    }

    fn with(
        path: &Path,
        create: bool,
        cache_bytes_max: usize,
        faults: &FaultInjection,
        meta: impl FnOnce(&Database) -> Result<SegmentMeta, OpenJournalError>,
    ) -> Result<Self, OpenJournalError> {
        let storage: Arc<dyn StorageBackend> = faults
            .disk
            .open(path, create)
            .map_err(|error| OpenJournalError::io(path, &error))?
            .into();
        let window = Arc::new(SyncWindow::default());
        let extent = Extent::new(&*storage).map_err(|error| OpenJournalError::io(path, &error))?;
        let backend = OneSyncBackend {
            inner: storage.clone(),
            window: window.clone(),
            extent,
            fail_points: faults.fail_points.clone(),
        };
        let db = builder(cache_bytes_max)
            .create_with_backend(backend)
            .map_err(|error| OpenJournalError::redb(path, error))?;
        let meta = meta(&db)?;
        Ok(Self { meta, db, storage, window, one_sync: faults.one_sync })
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, StorageError> {
        Ok(self.db.begin_write()?)
    }

    /// Commits with one sync. On return everything is on disk.
    pub(super) fn commit(&self, txn: WriteTransaction) -> Result<(), StorageError> {
        if !self.one_sync {
            return Ok(txn.commit()?);
        }
        self.window.open();
        let committed = txn.commit();
        // The window closes in any case: closing after a failed commit must not skip a sync.
        let settled = self.window.settle(&*self.storage, committed.is_ok());
        committed?;
        settled.map_err(|error| StorageError::io("the commit was not synced", &error))
    }

    /// Marks the segment as sealed at `head`: nothing follows in it.
    pub(super) fn seal(&self, head: Head) -> Result<(), StorageError> {
        let txn = self.db.begin_write()?;
        txn.open_table(META)?.insert(META_SEALED, head_bytes(head).as_slice())?;
        Ok(txn.commit()?)
    }

    pub(super) fn tables(&self) -> Result<SegmentTables, StorageError> {
        Ok(SegmentTables::open(&self.db.begin_read()?)?)
    }

    /// The file's size in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.storage.len().unwrap_or(0)
    }

    /// Closes the file so that the next open has nothing to repair.
    pub(super) fn close(self) -> Result<(), StorageError> {
        Ok(self.db.close()?)
    }
}

fn make_tables(txn: &WriteTransaction, after: Head) -> Result<(), redb::Error> {
    txn.open_table(RECORDS)?;
    txn.open_table(BLOBS)?;
    let mut meta = txn.open_table(META)?;
    meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
    meta.insert(META_FIRST, (after.position + 1).to_be_bytes().as_slice())?;
    meta.insert(META_PREVIOUS, after.hash.0.as_slice())?;
    Ok(())
}

/// A segment open for reading: sealed, active in another process, or left by a crash.
pub(super) struct ReadOnlySegment {
    db: Opened,
    path: PathBuf,
}

enum Opened {
    File(ReadOnlyDatabase),
    /// Repaired in memory; the file stays as the crash left it.
    Repaired(Database, Snapshot),
    /// Stands for a file that a crash kept from being created.
    Nothing(Database),
}

impl ReadOnlySegment {
    /// Opens the file. `Ok(None)` if a crash left it and it is not repaired yet.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, OpenJournalError> {
        if !layout::is_redb(path).map_err(|error| OpenJournalError::io(path, &error))? {
            return Err(OpenJournalError::NotAJournal(path.to_owned()));
        }
        match builder(SEALED_CACHE_BYTES_MAX).open_read_only(path) {
            Ok(db) => Ok(Some(Self { db: Opened::File(db), path: path.to_owned() })),
            Err(DatabaseError::RepairAborted) => Ok(None),
            Err(error) => Err(OpenJournalError::redb(path, error)),
        }
    }

    /// Opens a file left by a crash and repairs it in memory. `Ok(None)` if a process wrote to it
    /// meanwhile.
    pub(super) fn open_repaired(path: &Path) -> Result<Option<Self>, OpenJournalError> {
        let (overlay, snapshot) =
            FileOverlay::open(path).map_err(|error| OpenJournalError::io(path, &error))?;
        let repaired = catch_damage(
            || StorageError::new("pages of it are unreadable"),
            || Ok(builder(SEALED_CACHE_BYTES_MAX).create_with_backend(overlay)?),
        );
        match repaired {
            _ if !snapshot.is_current() => Ok(None),
            Ok(db) => Ok(Some(Self { db: Opened::Repaired(db, snapshot), path: path.to_owned() })),
            Err(fault) => Err(OpenJournalError::Storage { path: path.to_owned(), reason: fault.0 }),
        }
    }

    /// An empty segment that follows `after`, for a crash that came before its file was created.
    pub(super) fn nothing(path: &Path, after: Head) -> Result<Self, OpenJournalError> {
        let redb = |error: redb::Error| OpenJournalError::redb(path, error);
        let mut builder = Builder::new();
        // Without the mode for several processes: memory has no locks.
        builder.set_cache_size(UNCLEAN_CACHE_BYTES_MAX);
        let db = builder.create_with_backend(InMemoryBackend::new()).map_err(|e| redb(e.into()))?;
        let txn = db.begin_write().map_err(|e| redb(e.into()))?;
        make_tables(&txn, after).map_err(redb)?;
        txn.commit().map_err(|e| redb(e.into()))?;
        Ok(Self { db: Opened::Nothing(db), path: path.to_owned() })
    }

    /// Opens the file regardless of its state flags, to inspect a damaged one.
    pub(super) fn open_unclean(path: &Path) -> Result<Self, OpenJournalError> {
        if !layout::is_redb(path).map_err(|error| OpenJournalError::io(path, &error))? {
            return Err(OpenJournalError::NotAJournal(path.to_owned()));
        }
        let file = File::open(path).map_err(|error| OpenJournalError::io(path, &error))?;
        let file = FileBackend::new(file).map_err(|error| OpenJournalError::redb(path, error))?;
        let opened =
            builder(UNCLEAN_CACHE_BYTES_MAX).open_read_only_with_backend(UnlockedFile(file));
        let db = opened.map_err(|error| OpenJournalError::redb(path, error))?;
        Ok(Self { db: Opened::File(db), path: path.to_owned() })
    }

    /// Whether reads are of one moment: a writer would change a file that was repaired in memory.
    pub(super) fn is_current(&self) -> bool {
        match &self.db {
            Opened::File(_) => true,
            Opened::Repaired(_, snapshot) => snapshot.is_current(),
            Opened::Nothing(_) => matches!(self.path.try_exists(), Ok(false)),
        }
    }

    /// The committed state.
    pub(super) fn snapshot(&self) -> Result<(SegmentMeta, SegmentTables), OpenJournalError> {
        let redb = |error: redb::Error| OpenJournalError::redb(&self.path, error);
        let txn = match &self.db {
            Opened::File(db) => db.begin_read(),
            Opened::Repaired(db, _) | Opened::Nothing(db) => db.begin_read(),
        };
        let txn = txn.map_err(|e| redb(e.into()))?;
        let meta = SegmentMeta::read(&txn, &self.path)?;
        Ok((meta, SegmentTables::open(&txn).map_err(|e| redb(e.into()))?))
    }
}

/// An open sealed segment.
pub(super) struct SealedSegment {
    pub(super) meta: SegmentMeta,
    /// Its last record.
    pub(super) last: Head,
    pub(super) tables: SegmentTables,
    index: OnceLock<Index>,
    _file: ReadOnlySegment,
}

impl SealedSegment {
    pub(super) fn open(dir: &Path, first: u64) -> Result<Self, OpenJournalError> {
        let path = layout::sealed(dir, first);
        let damaged = |reason| OpenJournalError::Damaged { dir: dir.to_owned(), reason };
        let name = || path.display();
        let file = ReadOnlySegment::open(&path)?
            .ok_or_else(|| damaged(format!("{} was not closed cleanly", name())))?;
        let (meta, tables) = file.snapshot()?;
        let last = meta.sealed.ok_or_else(|| damaged(format!("{} is not sealed", name())))?;
        if meta.first != first || last.position < first {
            let range = format!("{}..={}", meta.first, last.position);
            return Err(damaged(format!("{} holds the positions {range}", name())));
        }
        Ok(Self { meta, last, tables, index: OnceLock::new(), _file: file })
    }

    /// The segment's index, built by one scan: the fallback where the catalog has no entry.
    pub(super) fn index(&self) -> Result<&Index, StorageError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let index = Index::of(self.meta.first, &self.tables)?;
        Ok(self.index.get_or_init(|| index))
    }
}
