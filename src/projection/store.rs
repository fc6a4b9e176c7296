//! The file of the row projections, and the rows that are newer than the file.
//!
//! *Promises.* Rows and checkpoints reach the file in one transaction, so the file is always the
//! fold of the journal up to its checkpoint. A process that reads beside the writer sees one commit
//! at a time.
//!
//! *Limits.* Unflushed rows are in memory only: they are the fold of the journal's tail, folded
//! again at the next start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_fold::{Access, CorruptFile, Mark, atomic_replace, catch_corruption};
use ai_factory_schemas::envelope::Recorded;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use redb::{Database, ReadTransaction, ReadableTable};

use super::{
    calls, logs,
    rows::{LayeredRows, Memtable, RowError, RowTable, Rows, storage},
    runs, sessions,
    settings::ProjectionError,
};

mod open;
mod tables;

use open::{RowFile, RowFileError, open_reader, open_writer};
use tables::{CHECKPOINTS, MARKS, PROJECTIONS, mark_in};

#[derive(Default)]
struct Layers {
    file: RowFile,
    active: Memtable,
    frozen: Option<Arc<Memtable>>,
    /// Mark of the file, as far as these layers know.
    base: Mark,
    /// Mark of file and layers together.
    applied: Mark,
    /// Checkpoints of other components that are not in the file yet.
    notes: BTreeMap<String, u64>,
}

/// The rows of all row projections.
pub(crate) struct RowStore {
    path: PathBuf,
    cache_bytes_max: usize,
    access: Access,
    layers: RwLock<Layers>,
}

/// A consistent view of the rows.
pub(crate) struct RowsView<'a> {
    layers: RwLockReadGuard<'a, Layers>,
    base: Option<ReadTransaction>,
}

impl RowsView<'_> {
    /// The layers to read from.
    pub(crate) fn rows(&self) -> LayeredRows<'_> {
        LayeredRows {
            active: &self.layers.active,
            frozen: self.layers.frozen.as_ref(),
            base: self.base.as_ref(),
        }
    }

    /// Whether the rows read through this view are of one moment.
    pub(crate) fn is_current(&self) -> bool {
        self.layers.file.is_current()
    }
}

struct FoldTransaction<'a> {
    layers: &'a mut Layers,
    base: Option<ReadTransaction>,
}

impl Rows for FoldTransaction<'_> {
    fn get(&self, table: RowTable, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        let rows = LayeredRows {
            active: &self.layers.active,
            frozen: self.layers.frozen.as_ref(),
            base: self.base.as_ref(),
        };
        rows.get(table, key)
    }

    fn set(&mut self, table: RowTable, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.layers.active.set(table, key, value);
    }
}

impl RowStore {
    /// Opens the file; a writer replaces a missing or damaged file, or one of another format, by an
    /// empty one.
    pub(crate) fn open(
        path: &Path,
        cache_bytes_max: usize,
        access: Access,
    ) -> Result<Self, ProjectionError> {
        let file = match access {
            Access::Write => RowFile::Writer(Arc::new(open_writer(path, cache_bytes_max)?)),
            Access::Read => open_reader(path, cache_bytes_max),
        };
        let layers = RwLock::new(Layers { file, ..Layers::default() });
        let store = Self { path: path.to_owned(), cache_bytes_max, access, layers };
        store.rebase().map_err(|error| ProjectionError::storage(path, &error))?;
        Ok(store)
    }

    /// Mark of file and layers together.
    pub(crate) fn applied(&self) -> Mark {
        self.read().applied
    }

    /// Memory of the layers above the file, in bytes, and the number of events in them.
    pub(crate) fn pending(&self) -> (usize, u64) {
        let layers = self.read();
        let frozen = layers.frozen.as_ref().map_or(0, |frozen| frozen.bytes());
        (layers.active.bytes() + frozen, layers.applied.position - layers.base.position)
    }

    /// A view of the rows; `None` if the file has moved on beneath the layers: rebase, catch up,
    /// try again.
    pub(crate) fn view(&self) -> Result<Option<RowsView<'_>>, RowError> {
        let layers = self.read();
        if !layers.file.is_current() {
            return Ok(None);
        }
        let base = layers.file.begin_read()?;
        if let (RowFile::Reader(_), Some(base)) = (&layers.file, &base)
            && mark_in(base)? != layers.base
        {
            return Ok(None);
        }
        Ok(Some(RowsView { layers, base }))
    }

    /// Drops the layers and starts from the file's last commit.
    pub(crate) fn rebase(&self) -> Result<(), RowError> {
        let mut layers = self.write();
        if !layers.file.is_current() {
            // Dropped first: a file that a writer is changing may panic when it is closed.
            let stale = std::mem::take(&mut layers.file);
            let _ = catch_corruption(|| {
                drop(stale);
                Ok::<_, CorruptFile>(())
            });
            layers.file = open_reader(&self.path, self.cache_bytes_max);
        }
        let base = layers.file.begin_read()?.as_ref().map(mark_in).transpose()?;
        let base = base.unwrap_or_default();
        let (file, notes) = (std::mem::take(&mut layers.file), std::mem::take(&mut layers.notes));
        *layers = Layers { file, base, applied: base, notes, ..Layers::default() };
        Ok(())
    }

    /// Folds events, consecutive and following the applied position, into the layers.
    pub(crate) fn apply<'a>(
        &self,
        events: impl Iterator<Item = &'a Recorded>,
    ) -> Result<(), RowError> {
        let mut layers = self.write();
        let base = layers.file.begin_read()?;
        let mut rows = FoldTransaction { layers: &mut layers, base };
        for event in events {
            if event.position <= rows.layers.applied.position {
                continue;
            }
            sessions::apply(event, &mut rows)?;
            logs::apply(event, &mut rows)?;
            runs::apply(event, &mut rows)?;
            calls::apply(event, &mut rows)?;
            rows.layers.applied = Mark { position: event.position, hash: event.hash };
        }
        Ok(())
    }

    /// Writes rows and checkpoints in one transaction. Blocks; one flush at a time.
    pub(crate) fn flush(&self) -> Result<(), RowError> {
        let (database, frozen, applied, notes) = {
            let mut layers = self.write();
            if matches!(layers.file, RowFile::Missing) {
                // The file was dropped and could not be recreated.
                layers.file = self.recreate()?;
            }
            let RowFile::Writer(database) = &layers.file else { return Ok(()) };
            let database = Arc::clone(database);
            // Rows that an earlier flush failed to write are written together with newer ones.
            let frozen = match layers.frozen.take() {
                None => std::mem::take(&mut layers.active),
                Some(failed) => {
                    let mut all = Memtable::default();
                    for layer in [failed.as_ref(), &std::mem::take(&mut layers.active)] {
                        for &table in RowTable::ALL {
                            for (key, value) in layer.table(table) {
                                all.set(table, key.clone(), value.clone());
                            }
                        }
                    }
                    all
                }
            };
            let frozen = Arc::new(frozen);
            layers.frozen = Some(Arc::clone(&frozen));
            (database, frozen, layers.applied, layers.notes.clone())
        };
        write(&database, &frozen, applied, &notes)?;
        let mut layers = self.write();
        layers.frozen = None;
        layers.base = applied;
        layers.notes.retain(|name, position| notes.get(name) != Some(position));
        Ok(())
    }

    /// Drops the file and everything folded; a writer makes a new file. Checkpoints of other
    /// components stay, as far as they can be read. Must not run during a flush.
    pub(crate) fn reset(&self) -> Result<(), RowError> {
        let mut layers = self.write();
        let file = std::mem::take(&mut layers.file);
        // A damaged file may panic once more, even when it is closed.
        let notes = catch_corruption(move || checkpoints_in(&file).map_err(RowFileError::damaged));
        let mut notes = notes.unwrap_or_default();
        notes.append(&mut layers.notes);
        *layers = Layers { notes, ..Layers::default() };
        layers.file = self.recreate()?;
        Ok(())
    }

    /// Replaces the file by an empty one; [`RowFile::Missing`] in a process that only reads.
    fn recreate(&self) -> Result<RowFile, RowError> {
        if self.access == Access::Read {
            return Ok(RowFile::Missing);
        }
        atomic_replace::remove(&self.path).map_err(storage)?;
        let database = open_writer(&self.path, self.cache_bytes_max).map_err(storage)?;
        Ok(RowFile::Writer(Arc::new(database)))
    }

    /// Whether a replacement is being built, or was when the process ended.
    pub(crate) fn has_shadow(&self) -> bool {
        atomic_replace::shadow_path(&self.path).exists()
    }

    /// Opens the replacement, as far as it is built.
    pub(crate) fn shadow(&self) -> Result<Self, ProjectionError> {
        Self::open(&atomic_replace::shadow_path(&self.path), self.cache_bytes_max, Access::Write)
    }

    /// Drops the replacement.
    pub(crate) fn drop_shadow(&self) -> Result<(), RowError> {
        atomic_replace::remove(&atomic_replace::shadow_path(&self.path)).map_err(storage)
    }

    /// Replaces these rows by those of [`Self::shadow`], which contain as much. Checkpoints of
    /// other components stay. Blocks; must not run during a flush.
    pub(crate) fn replace_with_shadow(&self, next: &Self) -> Result<(), RowError> {
        for (name, position) in checkpoints_in(&self.read().file)? {
            next.note_checkpoint(&name, position);
        }
        for (name, position) in &self.read().notes {
            next.note_checkpoint(name, *position);
        }
        next.flush()?;
        let mut layers = self.write();
        atomic_replace::replace_file(&self.path).map_err(storage)?;
        let mut rebuilt = std::mem::take(&mut *next.write());
        rebuilt.notes.append(&mut layers.notes);
        *layers = rebuilt;
        Ok(())
    }

    /// A checkpoint of another component.
    pub(crate) fn checkpoint(&self, name: &str) -> Result<u64, RowError> {
        let layers = self.read();
        if let Some(position) = layers.notes.get(name) {
            return Ok(*position);
        }
        Ok(checkpoints_in(&layers.file)?.get(name).copied().unwrap_or_default())
    }

    /// Notes a checkpoint of another component; on disk with the next flush.
    pub(crate) fn note_checkpoint(&self, name: &str, position: u64) {
        let mut layers = self.write();
        match layers.notes.get_mut(name) {
            Some(noted) => *noted = position,
            None => {
                layers.notes.insert(name.to_owned(), position);
            }
        }
    }

    /// Whether a flush has anything to write.
    pub(crate) fn has_unflushed(&self) -> bool {
        let layers = self.read();
        layers.applied != layers.base || !layers.notes.is_empty()
    }

    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write()
    }
}

fn write(
    database: &Database,
    rows: &Memtable,
    applied: Mark,
    notes: &BTreeMap<String, u64>,
) -> Result<(), RowError> {
    let mut transaction = database.begin_write().map_err(storage)?;
    // Reopening after a crash must not walk the file.
    transaction.set_quick_repair(true);
    for &table in RowTable::ALL {
        if rows.table(table).is_empty() {
            continue;
        }
        let mut stored = transaction.open_table(table.definition()).map_err(storage)?;
        for (key, value) in rows.table(table) {
            match value {
                Some(value) => stored.insert(key.as_slice(), value.as_slice()).map_err(storage)?,
                None => stored.remove(key.as_slice()).map_err(storage)?,
            };
        }
    }
    {
        let mut marks = transaction.open_table(MARKS).map_err(storage)?;
        for projection in PROJECTIONS {
            marks.insert(projection, applied.to_bytes().as_slice()).map_err(storage)?;
        }
        let mut checkpoints = transaction.open_table(CHECKPOINTS).map_err(storage)?;
        for (name, position) in notes {
            checkpoints.insert(name.as_str(), position).map_err(storage)?;
        }
    }
    transaction.commit().map_err(storage)
}

fn checkpoints_in(file: &RowFile) -> Result<BTreeMap<String, u64>, RowError> {
    let Some(base) = file.begin_read()? else { return Ok(BTreeMap::new()) };
    let checkpoints = base.open_table(CHECKPOINTS).map_err(storage)?;
    let checkpoints = checkpoints.iter().map_err(storage)?.map(|checkpoint| {
        let (name, position) = checkpoint.map_err(storage)?;
        Ok((name.value().to_owned(), position.value()))
    });
    checkpoints.collect()
}
