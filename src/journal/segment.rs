//! One redb file of the journal: creating and opening it, for writing or reading.
//!
//! A segment has chunks of records and the blobs appended with them ([`super::tables`]). Positions,
//! versions and the hash chain continue across segments: `first` and `previous` say where a segment
//! begins.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use ai_factory_overlay::{FileOverlay, Snapshot};
use ai_factory_ports::journal::Head;
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase,
    StorageBackend, WriteTransaction,
    backends::{FileBackend, InMemoryBackend},
};

use super::{
    error::{OpenJournalError, StorageError, catch_damage},
    fail_points::FaultInjection,
    index::Index,
    layout,
    storage::{Extent, OneSyncBackend, ReadOnlyFile},
    sync_window::SyncWindow,
    tables::{META, META_SEALED, SegmentMeta, SegmentTables, head_bytes, make_tables},
};

/// The page cache of a sealed segment, in bytes.
const SEALED_CACHE_BYTES_MAX: usize = 1024 * 1024;
/// The page cache of a segment that is read once from end to end, in bytes.
const UNCLEAN_CACHE_BYTES_MAX: usize = 64 * 1024;

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

    /// Commits with one sync, and returns how long that took. On return everything is on disk.
    pub(super) fn commit(&self, txn: WriteTransaction) -> Result<Duration, StorageError> {
        if !self.one_sync {
            let began = Instant::now();
            txn.commit()?;
            return Ok(began.elapsed());
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
            Err(fault) => {
                Err(OpenJournalError::Storage { path: path.to_owned(), reason: fault.reason })
            }
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
        let opened = builder(UNCLEAN_CACHE_BYTES_MAX)
            .open_read_only_with_backend(ReadOnlyFile::unlocked(file));
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
