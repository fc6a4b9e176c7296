//! The file of the row projections, and the rows that are newer than the file.
//!
//! *Promises.* Rows and checkpoints reach the file in one transaction, so the file is always the fold of the
//! journal up to its checkpoint. A process that reads beside the writer sees one commit at a time.
//!
//! *Limits.* What is not yet flushed is in memory only: it is the fold of the journal's tail, folded again
//! at the next start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ai_factory_schemas::envelope::Recorded;
use redb::{Database, ReadTransaction, ReadableTable, TableDefinition};

use super::{
    Access, Mark, ProjectionError,
    heal::{Broken, guarded},
    logs, place,
    rows::{Layered, Memtable, RowError, Rows, Table, storage},
    runs, sessions,
};

mod open;

use open::{File, Unusable, open_reader, open_writer};

/// Projection -> the position and the hash of the last record that its rows contain.
const MARKS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("marks");
/// Checkpoints of others, kept here so that they need no file of their own.
const CHECKPOINTS: TableDefinition<'static, &'static str, u64> =
    TableDefinition::new("checkpoints");
/// The row projections, each with a checkpoint of its own.
const PROJECTIONS: [&str; 3] = ["logs", "runs", "sessions"];

#[derive(Default)]
struct Layers {
    file: File,
    active: Memtable,
    frozen: Option<Arc<Memtable>>,
    /// What the file contains, as far as these layers know.
    base: Mark,
    /// What file and layers contain together.
    applied: Mark,
    /// Checkpoints of others that are not in the file yet.
    notes: BTreeMap<String, u64>,
}

/// The rows of all row projections.
pub(crate) struct RowStore {
    path: PathBuf,
    cache_bytes_max: usize,
    access: Access,
    layers: RwLock<Layers>,
}

/// The rows at one moment.
pub(crate) struct View<'a> {
    layers: RwLockReadGuard<'a, Layers>,
    base: Option<ReadTransaction>,
}

impl View<'_> {
    /// The layers to look into.
    pub(crate) fn rows(&self) -> Layered<'_> {
        Layered {
            active: &self.layers.active,
            frozen: self.layers.frozen.as_ref(),
            base: self.base.as_ref(),
        }
    }

    /// Whether what was read by now is of one moment.
    pub(crate) fn is_current(&self) -> bool {
        self.layers.file.is_current()
    }
}

struct Folding<'a> {
    layers: &'a mut Layers,
    base: Option<ReadTransaction>,
}

impl Rows for Folding<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        let rows = Layered {
            active: &self.layers.active,
            frozen: self.layers.frozen.as_ref(),
            base: self.base.as_ref(),
        };
        rows.get(table, key)
    }

    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.layers.active.set(table, key, value);
    }
}

impl RowStore {
    /// Opens the file; a writer makes it anew where it is missing, damaged or of another format.
    pub(crate) fn open(
        path: &Path,
        cache_bytes_max: usize,
        access: Access,
    ) -> Result<Self, ProjectionError> {
        let file = match access {
            Access::Write => File::Writer(Arc::new(open_writer(path, cache_bytes_max)?)),
            Access::Read => open_reader(path, cache_bytes_max),
        };
        let layers = RwLock::new(Layers { file, ..Layers::default() });
        let store = Self { path: path.to_owned(), cache_bytes_max, access, layers };
        store.rebase().map_err(|error| ProjectionError::storage(path, &error))?;
        Ok(store)
    }

    /// What the rows contain.
    pub(crate) fn applied(&self) -> Mark {
        self.read().applied
    }

    /// What the layers above the file take in memory, and how many events are in them.
    pub(crate) fn pending(&self) -> (usize, u64) {
        let layers = self.read();
        let frozen = layers.frozen.as_ref().map_or(0, |frozen| frozen.bytes());
        (layers.active.bytes() + frozen, layers.applied.position - layers.base.position)
    }

    /// The rows now; `None` where the file has moved on beneath the layers: rebase, catch up, try again.
    pub(crate) fn view(&self) -> Result<Option<View<'_>>, RowError> {
        let layers = self.read();
        if !layers.file.is_current() {
            return Ok(None);
        }
        let base = layers.file.begin_read()?;
        if let (File::Reader(_), Some(base)) = (&layers.file, &base)
            && mark_in(base)? != layers.base
        {
            return Ok(None);
        }
        Ok(Some(View { layers, base }))
    }

    /// Begins again from what the file contains now.
    pub(crate) fn rebase(&self) -> Result<(), RowError> {
        let mut layers = self.write();
        if !layers.file.is_current() {
            // Dropped first: what a writer is changing may panic when it is closed.
            let stale = std::mem::take(&mut layers.file);
            let _ = guarded(|| {
                drop(stale);
                Ok::<_, Broken>(())
            });
            layers.file = open_reader(&self.path, self.cache_bytes_max);
        }
        let base = layers.file.begin_read()?.as_ref().map(mark_in).transpose()?;
        let base = base.unwrap_or_default();
        let (file, notes) = (std::mem::take(&mut layers.file), std::mem::take(&mut layers.notes));
        *layers = Layers { file, base, applied: base, notes, ..Layers::default() };
        Ok(())
    }

    /// Folds events, which follow each other and the applied position, into the layers.
    pub(crate) fn apply<'a>(
        &self,
        events: impl Iterator<Item = &'a Recorded>,
    ) -> Result<(), RowError> {
        let mut layers = self.write();
        let base = layers.file.begin_read()?;
        let mut rows = Folding { layers: &mut layers, base };
        for event in events {
            if event.position <= rows.layers.applied.position {
                continue;
            }
            sessions::apply(event, &mut rows)?;
            logs::apply(event, &mut rows)?;
            runs::apply(event, &mut rows)?;
            rows.layers.applied = Mark { position: event.position, hash: event.hash };
        }
        Ok(())
    }

    /// Writes rows and checkpoints in one transaction. Blocks; one flush at a time.
    pub(crate) fn flush(&self) -> Result<(), RowError> {
        let (database, frozen, applied, notes) = {
            let mut layers = self.write();
            if matches!(layers.file, File::Missing) {
                // It was dropped, and could not be made anew.
                layers.file = self.made_anew()?;
            }
            let File::Writer(database) = &layers.file else { return Ok(()) };
            let database = Arc::clone(database);
            // What an earlier flush failed to write is written together with what has come since.
            let frozen = match layers.frozen.take() {
                None => std::mem::take(&mut layers.active),
                Some(failed) => {
                    let mut all = Memtable::default();
                    for layer in [failed.as_ref(), &std::mem::take(&mut layers.active)] {
                        for &table in Table::ALL {
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

    /// Drops the file and everything folded; a writer makes a new one. Checkpoints of others stay, as far as
    /// they can be read. Not while a flush is under way.
    pub(crate) fn reset(&self) -> Result<(), RowError> {
        let mut layers = self.write();
        let file = std::mem::take(&mut layers.file);
        // What is damaged may panic once more, even when it is closed.
        let notes = guarded(move || checkpoints_in(&file).map_err(Unusable::damaged));
        let mut notes = notes.unwrap_or_default();
        notes.append(&mut layers.notes);
        *layers = Layers { notes, ..Layers::default() };
        layers.file = self.made_anew()?;
        Ok(())
    }

    /// A file with nothing in it, where whatever was there is gone; none for a process that only reads.
    fn made_anew(&self) -> Result<File, RowError> {
        if self.access == Access::Read {
            return Ok(File::Missing);
        }
        place::remove(&self.path).map_err(storage)?;
        let database = open_writer(&self.path, self.cache_bytes_max).map_err(storage)?;
        Ok(File::Writer(Arc::new(database)))
    }

    /// Whether other ones are being made to take their place, or were when the process ended.
    pub(crate) fn is_made_beside(&self) -> bool {
        place::beside(&self.path).exists()
    }

    /// Those that are made to take their place, as far as they are made.
    pub(crate) fn beside(&self) -> Result<Self, ProjectionError> {
        Self::open(&place::beside(&self.path), self.cache_bytes_max, Access::Write)
    }

    /// Drops what was made to take their place.
    pub(crate) fn drop_beside(&self) -> Result<(), RowError> {
        place::remove(&place::beside(&self.path)).map_err(storage)
    }

    /// Those that were made [`Self::beside`] take their place. They contain as much. Checkpoints of others stay. Blocks;
    /// not while a flush is under way.
    pub(crate) fn give_place(&self, next: &Self) -> Result<(), RowError> {
        for (name, position) in checkpoints_in(&self.read().file)? {
            next.note_checkpoint(&name, position);
        }
        for (name, position) in &self.read().notes {
            next.note_checkpoint(name, *position);
        }
        next.flush()?;
        let mut layers = self.write();
        place::replace_file(&self.path).map_err(storage)?;
        let mut anew = std::mem::take(&mut *next.write());
        anew.notes.append(&mut layers.notes);
        *layers = anew;
        Ok(())
    }

    /// Somebody else's checkpoint.
    pub(crate) fn checkpoint(&self, name: &str) -> Result<u64, RowError> {
        let layers = self.read();
        if let Some(position) = layers.notes.get(name) {
            return Ok(*position);
        }
        Ok(checkpoints_in(&layers.file)?.get(name).copied().unwrap_or_default())
    }

    /// Keeps somebody else's checkpoint; on disk with the next flush.
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
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
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
    for &table in Table::ALL {
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

fn checkpoints_in(file: &File) -> Result<BTreeMap<String, u64>, RowError> {
    let Some(base) = file.begin_read()? else { return Ok(BTreeMap::new()) };
    let checkpoints = base.open_table(CHECKPOINTS).map_err(storage)?;
    let checkpoints = checkpoints.iter().map_err(storage)?.map(|checkpoint| {
        let (name, position) = checkpoint.map_err(storage)?;
        Ok((name.value().to_owned(), position.value()))
    });
    checkpoints.collect()
}

/// How far all row projections have come at this commit.
fn mark_in(base: &ReadTransaction) -> Result<Mark, RowError> {
    let marks = base.open_table(MARKS).map_err(storage)?;
    let mut least: Option<Mark> = None;
    for projection in PROJECTIONS {
        let mark = match marks.get(projection).map_err(storage)? {
            Some(bytes) => Mark::from_bytes(bytes.value()).ok_or(RowError::Undecodable {
                table: "marks",
                reason: "a mark has 40 bytes".to_owned(),
            })?,
            None => Mark::default(),
        };
        if least.is_none_or(|least| mark.position < least.position) {
            least = Some(mark);
        }
    }
    Ok(least.unwrap_or_default())
}
