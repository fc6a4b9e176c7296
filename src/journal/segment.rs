//! One redb file of the journal: its tables, its meta data, how it is made and opened.
//!
//! Every segment is a journal of its own: the records, which position each version of each stream has, the
//! commands that took effect and the blobs that came with them. Positions, versions and the hash chain run on
//! over segments: `first` and `previous` say where a segment takes over.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_actors::ports::journal::{Appended, Command, Head};
use ai_factory_schemas::{
    envelope::{self, ChainHash},
    id::{Category, CommandId, StreamId},
    text::BlobHash,
};
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadOnlyTable,
    ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError,
    WriteTransaction, backends::FileBackend,
};

use super::{
    error::{Fault, OpenError},
    layout,
    seam::Seams,
    storage::{OneSync, Unlocked, Window},
};

/// The format of a segment that this program writes.
pub(super) const FORMAT: u64 = 1;
/// The page cache of a sealed segment, in bytes.
const SEALED_CACHE_BYTES_MAX: usize = 1024 * 1024;
/// The page cache of a segment that is only walked through, in bytes.
const UNCLEAN_CACHE_BYTES_MAX: usize = 64 * 1024;

/// A stream's key and a big-endian version, so that a stream's versions stand together and in order.
pub(super) const VERSION_KEY_BYTES: usize = StreamId::KEY_BYTES + 8;
/// Fingerprint, stream, first and last position, version.
pub(super) const COMMAND_BYTES: usize = 32 + StreamId::KEY_BYTES + 3 * 8;

pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
pub(super) const STREAMS: TableDefinition<'_, &[u8; VERSION_KEY_BYTES], u64> =
    TableDefinition::new("streams");
pub(super) const COMMANDS: TableDefinition<'_, &str, &[u8; COMMAND_BYTES]> =
    TableDefinition::new("commands");
pub(super) const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_FIRST: &str = "first_position";
const META_PREVIOUS: &str = "previous_hash";
const META_SEALED: &str = "sealed";

pub(super) fn version_key(stream: StreamId, version: u64) -> [u8; VERSION_KEY_BYTES] {
    let mut key = [0; VERSION_KEY_BYTES];
    key[..StreamId::KEY_BYTES].copy_from_slice(&stream.to_key());
    key[StreamId::KEY_BYTES..].copy_from_slice(&version.to_be_bytes());
    key
}

/// The stream and the number behind it; `None` where the first byte is no category.
pub(super) fn split_key(key: &[u8; VERSION_KEY_BYTES]) -> Option<(StreamId, u64)> {
    let (stream, number) = key.split_at(StreamId::KEY_BYTES);
    Some((stream_of(stream)?, u64::from_be_bytes(number.try_into().ok()?)))
}

fn stream_of(key: &[u8]) -> Option<StreamId> {
    let (category, id) = key.split_first()?;
    let category = *Category::ALL.get(usize::from(*category))?;
    Some(StreamId { category, id: uuid::Uuid::from_slice(id).ok()? })
}

/// A command that took effect, as the table holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) fingerprint: BlobHash,
    pub(super) stream: StreamId,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) version: u64,
}

impl Effect {
    pub(super) fn to_bytes(self) -> [u8; COMMAND_BYTES] {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[..32].copy_from_slice(&self.fingerprint.0);
        bytes[32..49].copy_from_slice(&self.stream.to_key());
        bytes[49..57].copy_from_slice(&self.first.to_be_bytes());
        bytes[57..65].copy_from_slice(&self.last.to_be_bytes());
        bytes[65..].copy_from_slice(&self.version.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; COMMAND_BYTES]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes[at..at + 8].try_into().ok()?));
        Some(Self {
            fingerprint: BlobHash(bytes[..32].try_into().ok()?),
            stream: stream_of(&bytes[32..49])?,
            first: number(49)?,
            last: number(57)?,
            version: number(65)?,
        })
    }

    pub(super) fn read(id: &str, bytes: &[u8; COMMAND_BYTES]) -> Result<Self, Fault> {
        Self::from_bytes(bytes)
            .ok_or_else(|| Fault::new(format!("the entry of command `{id}` is unreadable")))
    }

    pub(super) fn appended(self) -> Appended {
        Appended {
            stream: self.stream,
            first: self.first,
            last: self.last,
            version: self.version,
            repeated: false,
        }
    }

    pub(super) fn command(self, id: &CommandId) -> (Command, Appended) {
        (Command { id: id.clone(), fingerprint: self.fingerprint }, self.appended())
    }
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) first: u64,
    /// The hash of the record before `first`.
    pub(super) previous: ChainHash,
    /// The segment's last record, once nothing will follow it here.
    pub(super) sealed: Option<Head>,
}

impl Meta {
    /// Why a file's meta data could not be had.
    fn read(txn: &ReadTransaction, path: &Path) -> Result<Self, OpenError> {
        let redb = |error: redb::Error| OpenError::redb(path, error);
        let alien = || OpenError::NotAJournal(path.to_owned());
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
        let get = |name: &str| -> Result<Option<Vec<u8>>, OpenError> {
            Ok(table.get(name).map_err(|e| redb(e.into()))?.map(|value| value.value().to_vec()))
        };
        let number = |name| -> Result<u64, OpenError> {
            let bytes = get(name)?.and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_be_bytes).ok_or_else(alien)
        };
        // The format is read first: what a newer one means by the rest is not known here.
        let format = number(META_FORMAT)?;
        if format > FORMAT {
            return Err(OpenError::newer(path, format));
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

/// The tables of a segment as one transaction sees them.
pub(super) struct Tables {
    pub(super) records: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) streams: ReadOnlyTable<&'static [u8; VERSION_KEY_BYTES], u64>,
    pub(super) commands: ReadOnlyTable<&'static str, &'static [u8; COMMAND_BYTES]>,
    pub(super) blobs: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
}

impl Tables {
    pub(super) fn open(txn: &ReadTransaction) -> Result<Self, TableError> {
        Ok(Self {
            records: txn.open_table(RECORDS)?,
            streams: txn.open_table(STREAMS)?,
            commands: txn.open_table(COMMANDS)?,
            blobs: txn.open_table(BLOBS)?,
        })
    }

    /// The last record, or what comes before the segment's first where it has none.
    pub(super) fn head(&self, meta: &Meta) -> Result<Head, Fault> {
        let Some((position, bytes)) = self.records.last()? else { return Ok(meta.before()) };
        let position = position.value();
        let (_, hash) = envelope::unseal(bytes.value())
            .ok_or_else(|| Fault::new(format!("record {position} does not end in its hash")))?;
        Ok(Head { position, hash })
    }

    /// The stream's last version in this segment.
    pub(super) fn last_version(&self, stream: StreamId) -> Result<Option<u64>, Fault> {
        let (from, to) = (version_key(stream, 0), version_key(stream, u64::MAX));
        let last = self.streams.range::<&[u8; VERSION_KEY_BYTES]>(&from..=&to)?.next_back();
        Ok(last
            .transpose()?
            .and_then(|(key, _)| split_key(key.value()))
            .map(|(_, version)| version))
    }

    pub(super) fn effect(&self, id: &CommandId) -> Result<Option<Effect>, Fault> {
        let found = self.commands.get(id.as_str())?;
        found.map(|bytes| Effect::read(id.as_str(), bytes.value())).transpose()
    }
}

fn builder(cache_bytes_max: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes_max).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// The segment that is written to.
pub(super) struct Active {
    pub(super) meta: Meta,
    db: Database,
    storage: Arc<dyn StorageBackend>,
    window: Arc<Window>,
    one_sync: bool,
}

impl Active {
    /// Opens an existing segment for writing; repairs what a crash left.
    pub(super) fn open(
        path: &Path,
        cache_bytes_max: usize,
        seams: &Seams,
    ) -> Result<Self, OpenError> {
        if !layout::is_redb(path).map_err(|error| OpenError::io(path, &error))? {
            return Err(OpenError::NotAJournal(path.to_owned()));
        }
        Self::with(path, false, cache_bytes_max, seams, |db| {
            let txn = db.begin_read().map_err(|error| OpenError::redb(path, error))?;
            Meta::read(&txn, path)
        })
    }

    /// Makes a complete, empty segment at `path`.
    pub(super) fn create(
        path: &Path,
        after: Head,
        cache_bytes_max: usize,
        seams: &Seams,
    ) -> Result<Self, OpenError> {
        let redb = |error: redb::Error| OpenError::redb(path, error);
        Self::with(path, true, cache_bytes_max, seams, |db| {
            let txn = db.begin_write().map_err(|e| redb(e.into()))?;
            make_tables(&txn, after).map_err(redb)?;
            txn.commit().map_err(|e| redb(e.into()))?;
            Ok(Meta { first: after.position + 1, previous: after.hash, sealed: None })
        })
    }

    fn with(
        path: &Path,
        create: bool,
        cache_bytes_max: usize,
        seams: &Seams,
        meta: impl FnOnce(&Database) -> Result<Meta, OpenError>,
    ) -> Result<Self, OpenError> {
        let storage: Arc<dyn StorageBackend> =
            seams.disk.open(path, create).map_err(|error| OpenError::io(path, &error))?.into();
        let window = Arc::new(Window::default());
        let backend = OneSync {
            inner: storage.clone(),
            window: window.clone(),
            points: seams.points.clone(),
        };
        let db = builder(cache_bytes_max)
            .create_with_backend(backend)
            .map_err(|error| OpenError::redb(path, error))?;
        let meta = meta(&db)?;
        Ok(Self { meta, db, storage, window, one_sync: seams.one_sync })
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        Ok(self.db.begin_write()?)
    }

    /// Commits with one sync. When this returns, all of it is on disk.
    pub(super) fn commit(&self, txn: WriteTransaction) -> Result<(), Fault> {
        if !self.one_sync {
            return Ok(txn.commit()?);
        }
        self.window.open();
        let committed = txn.commit();
        // The window closes whatever happened: a close after a failed commit must not skip a sync.
        let settled = self.window.settle(&*self.storage, committed.is_ok());
        committed?;
        settled.map_err(|error| Fault::io("the commit was not synced", &error))
    }

    /// Marks the segment as sealed at `head`: nothing will follow.
    pub(super) fn seal(&self, head: Head) -> Result<(), Fault> {
        let txn = self.db.begin_write()?;
        txn.open_table(META)?.insert(META_SEALED, head_bytes(head).as_slice())?;
        Ok(txn.commit()?)
    }

    pub(super) fn tables(&self) -> Result<Tables, Fault> {
        Ok(Tables::open(&self.db.begin_read()?)?)
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.storage.len().unwrap_or(0)
    }

    /// Closes the file so that the next open has nothing to repair.
    pub(super) fn close(self) -> Result<(), Fault> {
        Ok(self.db.close()?)
    }
}

fn make_tables(txn: &WriteTransaction, after: Head) -> Result<(), redb::Error> {
    txn.open_table(RECORDS)?;
    txn.open_table(STREAMS)?;
    txn.open_table(COMMANDS)?;
    txn.open_table(BLOBS)?;
    let mut meta = txn.open_table(META)?;
    meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
    meta.insert(META_FIRST, (after.position + 1).to_be_bytes().as_slice())?;
    meta.insert(META_PREVIOUS, after.hash.0.as_slice())?;
    Ok(())
}

/// A segment that is only read: a sealed one, or the active one of another process.
pub(super) struct ReadOnly {
    db: ReadOnlyDatabase,
    path: PathBuf,
}

impl ReadOnly {
    /// Opens the file. `Ok(None)` where a crash left it and nobody has repaired it yet.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, OpenError> {
        if !layout::is_redb(path).map_err(|error| OpenError::io(path, &error))? {
            return Err(OpenError::NotAJournal(path.to_owned()));
        }
        match builder(SEALED_CACHE_BYTES_MAX).open_read_only(path) {
            Ok(db) => Ok(Some(Self { db, path: path.to_owned() })),
            Err(DatabaseError::RepairAborted) => Ok(None),
            Err(error) => Err(OpenError::redb(path, error)),
        }
    }

    /// Opens the file as it lies there, whatever it says about itself: for looking at a damaged one.
    pub(super) fn open_unclean(path: &Path) -> Result<Self, OpenError> {
        if !layout::is_redb(path).map_err(|error| OpenError::io(path, &error))? {
            return Err(OpenError::NotAJournal(path.to_owned()));
        }
        let file = File::open(path).map_err(|error| OpenError::io(path, &error))?;
        let file = FileBackend::new(file).map_err(|error| OpenError::redb(path, error))?;
        let opened = builder(UNCLEAN_CACHE_BYTES_MAX).open_read_only_with_backend(Unlocked(file));
        let db = opened.map_err(|error| OpenError::redb(path, error))?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// What is committed now.
    pub(super) fn snapshot(&self) -> Result<(Meta, Tables), OpenError> {
        let redb = |error: redb::Error| OpenError::redb(&self.path, error);
        let txn = self.db.begin_read().map_err(|e| redb(e.into()))?;
        let meta = Meta::read(&txn, &self.path)?;
        Ok((meta, Tables::open(&txn).map_err(|e| redb(e.into()))?))
    }
}

/// A sealed segment, open.
pub(super) struct Sealed {
    pub(super) meta: Meta,
    /// Its last record.
    pub(super) last: Head,
    pub(super) tables: Tables,
    _file: ReadOnly,
}

impl Sealed {
    pub(super) fn open(dir: &Path, first: u64) -> Result<Self, OpenError> {
        let path = layout::sealed(dir, first);
        let damaged = |reason| OpenError::Damaged { dir: dir.to_owned(), reason };
        let name = || path.display();
        let file = ReadOnly::open(&path)?
            .ok_or_else(|| damaged(format!("{} was not closed cleanly", name())))?;
        let (meta, tables) = file.snapshot()?;
        let last = meta.sealed.ok_or_else(|| damaged(format!("{} is not sealed", name())))?;
        if meta.first != first || last.position < first {
            let range = format!("{}..={}", meta.first, last.position);
            return Err(damaged(format!("{} holds the positions {range}", name())));
        }
        Ok(Self { meta, last, tables, _file: file })
    }
}
