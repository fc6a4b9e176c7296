//! Reads across segments: the sealed ones, the catalog over them, and the active one.
//!
//! *Limits.* At most [`SealedSegments`]'s `open_max` sealed segments are open at once, each with a
//! page cache of 1 MiB. The sizes of [`KNOWN_SIZES_MAX`] blobs are kept.

use std::{collections::VecDeque, num::NonZeroUsize, path::PathBuf, sync::Arc};

use ai_factory_ports::journal::{Appended, Command, Head, RawRecord, ReadError};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{CommandId, StreamId},
    text::BlobHash,
};
use bytes::Bytes;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};

use super::{
    catalog::{CatalogView, ForeignCatalog},
    chunk::{AppliedCommand, Chunk},
    error::StorageError,
    index::Index,
    segment::SealedSegment,
    tables::{SegmentTables, StoredChunk},
};

/// Blobs whose sizes are kept, those asked for last: a size is read with the whole blob, and a blob
/// that is on disk stays as it is. Four of the largest workspaces.
const KNOWN_SIZES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7_999);

/// The source of the catalog's entries.
#[derive(Default)]
pub(super) enum CatalogSource {
    /// No catalog: the segments are searched.
    #[default]
    Not,
    /// This process writes the catalog and replaces the view.
    Own(Arc<CatalogView>),
    /// Another process writes it.
    Foreign(ForeignCatalog),
}

/// The sealed segments.
pub(super) struct SealedSegments {
    pub(super) dir: PathBuf,
    open_max: usize,
    firsts: RwLock<Vec<u64>>,
    /// Least recently used first.
    open: Mutex<VecDeque<(u64, Arc<SealedSegment>)>>,
    /// Of blobs in any segment.
    known_sizes: Mutex<LruCache<BlobHash, u64>>,
    pub(super) catalog: RwLock<CatalogSource>,
}

/// The active segment in one read.
#[derive(Clone, Copy)]
pub(super) struct ActiveView<'a> {
    /// Its first position: everything before is in sealed segments.
    pub(super) first: u64,
    pub(super) tables: &'a SegmentTables,
    pub(super) index: &'a Index,
}

impl SealedSegments {
    pub(super) fn new(dir: PathBuf, open_max: usize, firsts: Vec<u64>) -> Self {
        Self {
            dir,
            open_max: open_max.max(1),
            firsts: RwLock::new(firsts),
            open: Mutex::default(),
            known_sizes: Mutex::new(LruCache::new(KNOWN_SIZES_MAX)),
            catalog: RwLock::default(),
        }
    }

    pub(super) fn firsts(&self) -> Vec<u64> {
        self.firsts.read().clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.firsts.read().is_empty()
    }

    /// Their number. It grows with each, so an answer about them is current while it is the same.
    pub(super) fn count(&self) -> usize {
        self.firsts.read().len()
    }

    pub(super) fn set_firsts(&self, firsts: Vec<u64>) {
        *self.firsts.write() = firsts;
    }

    pub(super) fn push(&self, first: u64) {
        self.firsts.write().push(first);
    }

    pub(super) fn set_catalog(&self, catalog: CatalogSource) {
        *self.catalog.write() = catalog;
    }

    pub(super) fn view(&self) -> Option<Arc<CatalogView>> {
        match &*self.catalog.read() {
            CatalogSource::Not => None,
            CatalogSource::Own(view) => Some(view.clone()),
            CatalogSource::Foreign(foreign) => foreign.view().map(Arc::new),
        }
    }

    /// The sealed segment that begins at `first`, opened if necessary.
    pub(super) fn sealed(&self, first: u64) -> Result<Arc<SealedSegment>, StorageError> {
        let mut open = self.open.lock();
        let at = open.iter().position(|(held, _)| *held == first);
        if let Some(entry) = at.and_then(|at| open.remove(at)) {
            let sealed = entry.1.clone();
            open.push_back(entry);
            return Ok(sealed);
        }
        let sealed = SealedSegment::open(&self.dir, first)?;
        let sealed = Arc::new(sealed);
        while open.len() >= self.open_max {
            open.pop_front();
        }
        open.push_back((first, sealed.clone()));
        Ok(sealed)
    }

    /// The last record of the segment that ends at `position`, if there is one.
    pub(super) fn end_at(&self, position: u64) -> Option<Head> {
        let firsts = self.firsts();
        let at = firsts.partition_point(|first| *first <= position).checked_sub(1)?;
        Some(self.sealed(firsts[at]).ok()?.last).filter(|last| last.position == position)
    }

    /// The segments below `below` that are not in the catalog, newest first.
    fn uncatalogued(&self, view: Option<&CatalogView>, below: u64) -> Vec<u64> {
        let through = view.map_or(0, |view| view.through.position);
        let mut firsts = self.firsts();
        firsts.retain(|first| *first > through && *first < below);
        firsts.reverse();
        firsts
    }

    /// The stream's last version in the sealed segments; 0 if it is in none.
    pub(super) fn last_version(&self, stream: StreamId) -> Result<u64, StorageError> {
        let view = self.view();
        for first in self.uncatalogued(view.as_deref(), u64::MAX) {
            if let Some(version) = self.sealed(first)?.index()?.version(stream) {
                return Ok(version);
            }
        }
        let known = view.map(|view| view.last_version(stream)).transpose()?.flatten();
        Ok(known.unwrap_or(0))
    }

    /// A command's effect, if it is in a sealed segment.
    pub(super) fn effect(&self, id: &CommandId) -> Result<Option<AppliedCommand>, StorageError> {
        let (view, id) = (self.view(), id.as_str());
        for first in self.uncatalogued(view.as_deref(), u64::MAX) {
            let sealed = self.sealed(first)?;
            if let Some(effect) = sealed.index()?.effect(&sealed.tables, id)? {
                return Ok(Some(effect));
            }
        }
        Ok(view.map(|view| view.effect(id)).transpose()?.flatten())
    }

    /// See [`ai_factory_ports::journal::Journal::command`].
    pub(super) fn command(
        &self,
        active_view: ActiveView<'_>,
        id: &CommandId,
    ) -> Result<Option<(Command, Appended)>, ReadError> {
        let found = match active_view.index.effect(active_view.tables, id.as_str())? {
            Some(effect) => Some(effect),
            None => self.effect(id)?,
        };
        Ok(found.map(|effect| effect.command(id)))
    }

    /// See [`ai_factory_ports::journal::Journal::blob`].
    pub(super) fn blob(
        &self,
        active_view: ActiveView<'_>,
        hash: BlobHash,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.blobs(active_view, &[hash])?.pop().flatten())
    }

    /// See [`ai_factory_ports::journal::Journal::blobs`].
    pub(super) fn blobs(
        &self,
        active_view: ActiveView<'_>,
        hashes: &[BlobHash],
    ) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        self.find_blobs(active_view, hashes, <[u8]>::to_vec)
    }

    /// See [`ai_factory_ports::journal::Journal::blob_sizes`].
    pub(super) fn blob_sizes(
        &self,
        active_view: ActiveView<'_>,
        hashes: &[BlobHash],
    ) -> Result<Vec<Option<u64>>, ReadError> {
        let known = |hash: &BlobHash| self.known_sizes.lock().get(hash).copied();
        let mut sizes: Vec<_> = hashes.iter().map(known).collect();
        let (unknown, asked): (Vec<_>, Vec<_>) = sizes
            .iter_mut()
            .zip(hashes)
            .filter(|(size, _)| size.is_none())
            .map(|(size, hash)| (size, *hash))
            .unzip();
        let found = self.find_blobs(active_view, &asked, |bytes| bytes.len() as u64)?;
        for ((slot, hash), size) in unknown.into_iter().zip(asked).zip(found) {
            if let Some(size) = size {
                self.known_sizes.lock().put(hash, size);
            }
            *slot = size;
        }
        Ok(sizes)
    }

    /// What `read` makes of each blob: in the active segment, else in one that the catalog does not
    /// have yet, else in the one that the catalog names.
    fn find_blobs<T>(
        &self,
        active_view: ActiveView<'_>,
        hashes: &[BlobHash],
        read: impl Fn(&[u8]) -> T,
    ) -> Result<Vec<Option<T>>, ReadError> {
        let view = self.view();
        let uncatalogued = self.uncatalogued(view.as_deref(), u64::MAX);
        let find = |hash: &BlobHash| -> Result<Option<T>, ReadError> {
            if let Some(found) = blob(active_view.tables, *hash, &read)? {
                return Ok(Some(found));
            }
            for first in &uncatalogued {
                if let Some(found) = blob(&self.sealed(*first)?.tables, *hash, &read)? {
                    return Ok(Some(found));
                }
            }
            match view.as_ref().map(|view| view.blob(*hash)).transpose()?.flatten() {
                Some(first) => Ok(blob(&self.sealed(first)?.tables, *hash, &read)?),
                None => Ok(None),
            }
        };
        hashes.iter().map(find).collect()
    }

    /// See [`ai_factory_ports::journal::Journal::load`].
    pub(super) fn load(
        &self,
        active_view: ActiveView<'_>,
        stream: StreamId,
        after: u64,
    ) -> Result<Vec<Recorded>, ReadError> {
        let view = self.view();
        let mut events = Vec::new();
        let mut next = after.saturating_add(1);
        if let Some(view) = &view {
            for part in view.parts(stream)? {
                // A segment sealed after `active_view` was taken is still in `active_view`.
                if part.version >= next && part.first < active_view.first {
                    let sealed = self.sealed(part.first)?;
                    // The part's versions are consecutive and end at `version`.
                    let count = part.positions.len() as u64;
                    let known = (next + count).saturating_sub(part.version + 1);
                    let skipped = usize::try_from(known).unwrap_or(usize::MAX);
                    let positions = part.positions.get(skipped..).unwrap_or_default();
                    load(&sealed.tables, positions, stream, &mut next, &mut events)?;
                }
            }
        }
        for first in self.uncatalogued(view.as_deref(), active_view.first).into_iter().rev() {
            let sealed = self.sealed(first)?;
            let positions = sealed.index()?.positions(stream, next - 1, u64::MAX);
            load(&sealed.tables, &positions, stream, &mut next, &mut events)?;
        }
        let through = last(active_view.tables)?;
        let positions = active_view.index.positions(stream, next - 1, through);
        load(active_view.tables, &positions, stream, &mut next, &mut events)?;
        Ok(events)
    }

    /// See [`ai_factory_ports::journal::Journal::read`].
    pub(super) fn read(
        &self,
        active_view: ActiveView<'_>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RawRecord>, ReadError> {
        let mut records = Vec::new();
        let mut next = after.saturating_add(1);
        while next < active_view.first && records.len() < limit {
            let firsts = self.firsts();
            let at = firsts.partition_point(|first| *first <= next);
            let sealed = at.checked_sub(1).map(|at| self.sealed(firsts[at])).transpose()?;
            let Some(sealed) = sealed.filter(|sealed| next <= sealed.last.position) else {
                return Err(undecodable(next, "its segment is missing"));
            };
            read(&sealed.tables, &mut next, limit, &mut records)?;
            if records.len() < limit && next <= sealed.last.position {
                return Err(undecodable(next, "it is missing"));
            }
        }
        read(active_view.tables, &mut next, limit, &mut records)?;
        Ok(records)
    }
}

fn undecodable(position: u64, reason: &str) -> ReadError {
    ReadError::Undecodable { position, reason: reason.to_owned() }
}

fn blob<T>(
    tables: &SegmentTables,
    hash: BlobHash,
    read: impl Fn(&[u8]) -> T,
) -> Result<Option<T>, StorageError> {
    Ok(tables.blobs.get(&hash.0)?.map(|bytes| read(bytes.value())))
}

/// The last position in the tables; 0 if they are empty.
fn last(tables: &SegmentTables) -> Result<u64, StorageError> {
    let stored = tables.chunk_around(u64::MAX)?;
    Ok(stored.map(|stored| stored.chunk().map(|chunk| chunk.last())).transpose()?.unwrap_or(0))
}

fn read(
    tables: &SegmentTables,
    next: &mut u64,
    limit: usize,
    records: &mut Vec<RawRecord>,
) -> Result<(), ReadError> {
    let begin = tables.records.range(..=*next).map_err(StorageError::from)?.next_back().transpose();
    let begin = begin.map_err(StorageError::from)?.map_or(*next, |(first, _)| first.value());
    for entry in tables.records.range(begin..).map_err(StorageError::from)? {
        let (first, bytes) = entry.map_err(StorageError::from)?;
        let chunk = Chunk::parse(first.value(), bytes.value())
            .ok_or_else(|| undecodable(first.value(), "it is unreadable"))?;
        if chunk.first > *next && records.len() < limit {
            return Err(undecodable(*next, "it is missing"));
        }
        while let Some(record) = chunk.record(*next) {
            if records.len() >= limit {
                return Ok(());
            }
            records.push(RawRecord { position: *next, bytes: Bytes::copy_from_slice(record) });
            *next += 1;
        }
    }
    Ok(())
}

/// Adds the stream's events at `positions`, the first of which has version `next`.
fn load(
    tables: &SegmentTables,
    positions: &[u64],
    stream: StreamId,
    next: &mut u64,
    events: &mut Vec<Recorded>,
) -> Result<(), ReadError> {
    let mut stored = None;
    for position in positions.iter().copied() {
        // Neighbouring positions are often in one chunk.
        if !stored.as_ref().is_some_and(|stored: &StoredChunk| stored.has(position)) {
            stored = tables.chunk_around(position)?;
        }
        let chunk = stored.as_ref().map(StoredChunk::chunk).transpose();
        let chunk = chunk.map_err(|fault| undecodable(position, &fault.to_string()))?;
        let bytes = chunk
            .and_then(|chunk| chunk.record(position))
            .ok_or_else(|| undecodable(position, "it is missing"))?;
        let event =
            Recorded::decode(bytes).map_err(|error| undecodable(position, &error.to_string()))?;
        if (event.stream, event.version, event.position) != (stream, *next, position) {
            let place = format!("it is not version {next} of {stream}");
            return Err(undecodable(position, &place));
        }
        events.push(event);
        *next += 1;
    }
    Ok(())
}
