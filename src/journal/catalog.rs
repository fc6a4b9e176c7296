//! The catalog: which sealed segment has what, so that neither memory nor starting grows with the journal.
//!
//! *Promises.* Disposable: missing, behind, damaged or of another journal, it is made anew from the sealed
//! segments, and until then those are searched one by one. It never claims more than it holds: a segment is
//! entered whole, in one transaction.

use std::{fs, path::Path};

use ai_factory_actors::ports::journal::Head;
use ai_factory_schemas::{
    id::{CommandId, StreamId},
    text::BlobHash,
};
use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction,
    ReadableDatabase, ReadableTable, TableDefinition,
};

use super::{
    error::Fault,
    layout,
    segment::{self, COMMAND_BYTES, Effect, Sealed, VERSION_KEY_BYTES, split_key, version_key},
};

/// The page cache of the catalog, in bytes.
const CACHE_BYTES_MAX: usize = 1024 * 1024;
/// Raised when the tables change; a catalog of another format is made anew.
const FORMAT: u64 = 1;

/// A stream's key and the first position of a segment, to the stream's last version in that segment.
const STREAMS: TableDefinition<'_, &[u8; VERSION_KEY_BYTES], u64> = TableDefinition::new("streams");
const COMMANDS: TableDefinition<'_, &str, &[u8; COMMAND_BYTES]> = TableDefinition::new("commands");
/// A blob to the first position of the segment that holds it.
const BLOBS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("blobs");
/// The format, to the last record that is entered.
const THROUGH: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("through");

/// The catalog as one transaction sees it.
pub(super) struct View {
    /// The last record of the last segment that is entered.
    pub(super) through: Head,
    streams: ReadOnlyTable<&'static [u8; VERSION_KEY_BYTES], u64>,
    commands: ReadOnlyTable<&'static str, &'static [u8; COMMAND_BYTES]>,
    blobs: ReadOnlyTable<&'static [u8; 32], u64>,
}

impl View {
    fn open(txn: &ReadTransaction) -> Result<Self, Fault> {
        let through = txn.open_table(THROUGH)?.get(FORMAT)?;
        let through = through.and_then(|bytes| segment::head_of(bytes.value()));
        Ok(Self {
            through: through.ok_or_else(|| Fault::new("the catalog has another format"))?,
            streams: txn.open_table(STREAMS)?,
            commands: txn.open_table(COMMANDS)?,
            blobs: txn.open_table(BLOBS)?,
        })
    }

    /// The segments that have the stream, with its last version in each, in order.
    pub(super) fn segments(&self, stream: StreamId) -> Result<Vec<(u64, u64)>, Fault> {
        let (from, to) = (version_key(stream, 0), version_key(stream, u64::MAX));
        let mut found = Vec::new();
        for entry in self.streams.range::<&[u8; VERSION_KEY_BYTES]>(&from..=&to)? {
            let (key, last) = entry?;
            let (_, first) = split_key(key.value())
                .ok_or_else(|| Fault::new("the catalog has an unreadable stream"))?;
            found.push((first, last.value()));
        }
        Ok(found)
    }

    /// The stream's last version in the sealed segments.
    pub(super) fn last_version(&self, stream: StreamId) -> Result<Option<u64>, Fault> {
        let (from, to) = (version_key(stream, 0), version_key(stream, u64::MAX));
        let last = self.streams.range::<&[u8; VERSION_KEY_BYTES]>(&from..=&to)?.next_back();
        Ok(last.transpose()?.map(|(_, version)| version.value()))
    }

    pub(super) fn effect(&self, id: &CommandId) -> Result<Option<Effect>, Fault> {
        let found = self.commands.get(id.as_str())?;
        found.map(|bytes| Effect::read(id.as_str(), bytes.value())).transpose()
    }

    pub(super) fn blob(&self, hash: BlobHash) -> Result<Option<u64>, Fault> {
        Ok(self.blobs.get(&hash.0)?.map(|first| first.value()))
    }
}

/// The catalog, open for entering segments.
pub(super) struct Catalog {
    db: Database,
}

impl Catalog {
    /// Opens the catalog of `dir`, or makes an empty one where it is missing, unreadable, or does not belong
    /// to these segments. `ends` tells the last record of the segment that ends at a position.
    pub(super) fn open(
        dir: &Path,
        ends: impl Fn(u64) -> Option<Head>,
    ) -> Result<(Self, View), Fault> {
        let path = layout::catalog(dir);
        if path.exists() {
            match Self::existing(&path) {
                Ok((catalog, view)) => {
                    let through = view.through;
                    if through.position == 0 || ends(through.position) == Some(through) {
                        return Ok((catalog, view));
                    }
                    tracing::warn!(path = %path.display(), "the catalog is of other segments: making it anew");
                }
                Err(fault) => {
                    tracing::warn!(path = %path.display(), %fault, "the catalog is unreadable: making it anew");
                }
            }
            let removed = fs::remove_file(&path);
            removed.map_err(|error| Fault::io("the old catalog cannot be removed", &error))?;
        }
        let catalog = Self { db: builder().create(&path)? };
        let txn = catalog.db.begin_write()?;
        txn.open_table(STREAMS)?;
        txn.open_table(COMMANDS)?;
        txn.open_table(BLOBS)?;
        let none = segment::head_bytes(Head::default());
        txn.open_table(THROUGH)?.insert(FORMAT, none.as_slice())?;
        txn.commit()?;
        let view = catalog.view()?;
        Ok((catalog, view))
    }

    fn existing(path: &Path) -> Result<(Self, View), Fault> {
        let real = layout::is_redb(path).map_err(|error| Fault::io("unreadable", &error))?;
        if !real {
            return Err(Fault::new("not a catalog"));
        }
        let catalog = Self { db: builder().open(path)? };
        let view = catalog.view()?;
        Ok((catalog, view))
    }

    pub(super) fn view(&self) -> Result<View, Fault> {
        View::open(&self.db.begin_read()?)
    }

    /// Enters a sealed segment.
    pub(super) fn enter(&self, sealed: &Sealed) -> Result<View, Fault> {
        let mut txn = self.db.begin_write()?;
        // After a kill the catalog opens at once, however large it is.
        txn.set_quick_repair(true);
        enter_streams(&mut txn.open_table(STREAMS)?, sealed)?;
        {
            let mut commands = txn.open_table(COMMANDS)?;
            for entry in sealed.tables.commands.iter()? {
                let (id, effect) = entry?;
                commands.insert(id.value(), effect.value())?;
            }
            let mut blobs = txn.open_table(BLOBS)?;
            for entry in sealed.tables.blobs.iter()? {
                blobs.insert(entry?.0.value(), sealed.meta.first)?;
            }
            let through = segment::head_bytes(sealed.last);
            txn.open_table(THROUGH)?.insert(FORMAT, through.as_slice())?;
        }
        txn.commit()?;
        self.view()
    }
}

fn enter_streams(
    streams: &mut redb::Table<'_, &'static [u8; VERSION_KEY_BYTES], u64>,
    sealed: &Sealed,
) -> Result<(), Fault> {
    let mut enter = |found: Option<(StreamId, u64)>| -> Result<(), Fault> {
        if let Some((stream, version)) = found {
            streams.insert(&version_key(stream, sealed.meta.first), version)?;
        }
        Ok(())
    };
    // The versions of a stream stand together: its last one is the one before the next stream.
    let mut latest = None;
    for entry in sealed.tables.streams.iter()? {
        let (key, _) = entry?;
        let found = split_key(key.value())
            .ok_or_else(|| Fault::new("a sealed segment has an unreadable stream"))?;
        if latest.is_some_and(|(stream, _)| stream != found.0) {
            enter(latest)?;
        }
        latest = Some(found);
    }
    enter(latest)
}

/// The catalog of another process. Absent wherever it cannot be had: then the segments are searched.
pub(super) struct Foreign {
    db: ReadOnlyDatabase,
}

impl Foreign {
    pub(super) fn open(dir: &Path) -> Option<Self> {
        let path = layout::catalog(dir);
        layout::is_redb(&path).ok().filter(|real| *real)?;
        builder().open_read_only(path).ok().map(|db| Self { db })
    }

    pub(super) fn view(&self) -> Option<View> {
        View::open(&self.db.begin_read().ok()?).ok()
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}
