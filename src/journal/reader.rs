//! The journal as another process reads it, with or without a writer beside it.
//!
//! *Promises.* Each read sees what is on disk when it begins; it follows the writer from segment to segment.
//! What a crash left unclean is repaired once, if nobody writes.
//!
//! *Limits.* [`Journal::watch`] tells of a new head only when something is read here.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ai_factory_actors::ports::journal::{
    Append, AppendError, Appended, Command, Head, Journal, Raw, ReadError,
};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{CommandId, StreamId},
    text::BlobHash,
};
use tokio::sync::watch;

use super::{
    catalog::Foreign,
    error::{Fault, OpenError, damaged_pages, guarded},
    index::Index,
    layout::{self, Purpose, WriteLock},
    read::{Catalogued, Shelf, Top},
    seal,
    seam::Seams,
    segment::{Active, Meta, ReadOnly, Tables},
    settings::JournalSettings,
};

/// Sealed segments that a reader keeps open.
const SEALED_OPEN_MAX: usize = 4;
/// How often a reader looks again for a file that a writer is just turning over or opening: 500 × 10 ms.
const LOOKS_MAX: u32 = 500;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A journal that another process may be writing.
pub struct JournalReader {
    dir: PathBuf,
    shelf: Shelf,
    /// The segment that was active when it was last looked at.
    active: Mutex<Option<ReadOnly>>,
    /// Of that segment, as far as it was needed.
    index: Mutex<Index>,
    head: watch::Sender<Head>,
}

impl JournalReader {
    /// Opens the journal in `dir` for reading.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_owned();
        let path = layout::active(&dir);
        // In this order: a file that a writer moves to the sealed ones in between is seen there.
        let there = path.try_exists().map_err(|error| OpenError::io(&path, &error))?;
        let sealed = layout::list_sealed(&dir).map_err(|error| OpenError::io(&dir, &error))?;
        if !there && sealed.is_empty() {
            return Err(OpenError::Missing(dir));
        }
        let shelf = Shelf::new(dir.clone(), SEALED_OPEN_MAX, Vec::new());
        let reader = Self {
            dir,
            shelf,
            active: Mutex::default(),
            index: Mutex::default(),
            head: watch::Sender::new(Head::default()),
        };
        guarded(|| OpenError::damaged_pages(&reader.dir), || reader.top())?;
        Ok(reader)
    }

    /// [`Journal::read`] for those who are not async.
    pub fn read_sync(&self, after: u64, limit: usize) -> Result<Vec<Raw>, ReadError> {
        self.with_top(|shelf, top| shelf.read(top, after, limit))
    }

    /// [`Journal::load`] for those who are not async.
    pub fn load_sync(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.with_index(|shelf, top| shelf.load(top, stream, after))
    }

    /// [`Journal::command`] for those who are not async.
    pub fn command_sync(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.with_index(|shelf, top| shelf.command(top, id))
    }

    /// [`Journal::blob`] for those who are not async.
    pub fn blob_sync(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.with_top(|shelf, top| shelf.blob(top, hash))
    }

    fn with_top<T>(
        &self,
        read: impl FnOnce(&Shelf, Top<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        guarded(damaged_pages, || {
            let (meta, tables) = self.top().map_err(Fault::from)?;
            read(&self.shelf, Top { first: meta.first, tables: &tables, index: &Index::default() })
        })
    }

    /// [`Self::with_top`] for those who ask what the active segment has: it is read through once.
    fn with_index<T>(
        &self,
        read: impl FnOnce(&Shelf, Top<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        guarded(damaged_pages, || {
            let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            let (meta, tables) = self.top().map_err(Fault::from)?;
            if index.first() != meta.first {
                *index = Index::new(meta.first);
            }
            index.catch_up(&tables)?;
            read(&self.shelf, Top { first: meta.first, tables: &tables, index: &index })
        })
    }

    /// The active segment as it is committed now.
    pub(super) fn top(&self) -> Result<(Meta, Tables), OpenError> {
        let mut slot = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let (meta, tables) = match slot.as_ref().map(ReadOnly::snapshot) {
            // Not sealed: still the active one.
            Some(Ok((meta, tables))) if meta.sealed.is_none() => (meta, tables),
            _ => {
                // Dropped first: a handle of ours would keep a repair from opening the file.
                *slot = None;
                let (file, meta, tables) = self.look()?;
                *slot = Some(file);
                (meta, tables)
            }
        };
        drop(slot);
        let head = tables.head(&meta).map_err(|fault| OpenError::Storage {
            path: layout::active(&self.dir),
            reason: fault.0,
        })?;
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
        Ok((meta, tables))
    }

    /// Finds the active segment and the sealed ones below it.
    fn look(&self) -> Result<(ReadOnly, Meta, Tables), OpenError> {
        let path = layout::active(&self.dir);
        let mut looks = 0;
        loop {
            let before = layout::identity(&path);
            let found = match ReadOnly::open(&path) {
                // Turned over while it was opened: it was away, or is another one now.
                Err(OpenError::Storage { .. })
                    if before.is_none() || layout::identity(&path) != before =>
                {
                    None
                }
                Err(error) => return Err(error),
                Ok(Some(file)) => {
                    let (meta, tables) = file.snapshot()?;
                    meta.sealed.is_none().then_some((file, meta, tables))
                }
                Ok(None) => None,
            };
            if let Some((file, meta, tables)) = found {
                let firsts = layout::list_sealed(&self.dir)
                    .map_err(|error| OpenError::io(&self.dir, &error))?;
                // Turned over between the two looks: the next look finds the next segment.
                if firsts.last().is_none_or(|first| *first < meta.first) {
                    self.shelf.set_firsts(firsts);
                    let foreign = Foreign::open(&self.dir);
                    self.shelf.set_catalog(foreign.map_or(Catalogued::Not, Catalogued::Foreign));
                    return Ok((file, meta, tables));
                }
            } else {
                // Unclean, sealed or not there: a writer is at it, or a crash left it so.
                match repair(&self.dir) {
                    Ok(()) => {}
                    Err(OpenError::InUse { .. }) if looks < LOOKS_MAX => {
                        std::thread::sleep(LOOK_AGAIN);
                    }
                    Err(error) => return Err(error),
                }
            }
            looks += 1;
            if looks > LOOKS_MAX {
                return Err(OpenError::Storage {
                    path,
                    reason: "it is being replaced all the time: try again".into(),
                });
            }
        }
    }
}

/// Does what a writer would do first, and closes cleanly.
fn repair(dir: &Path) -> Result<(), OpenError> {
    let _lock = WriteLock::take(dir, Purpose::Repair)?;
    let (active, _) = seal::recover(&JournalSettings::new(dir), &Seams::default())?;
    Active::close(active)
        .map_err(|fault| OpenError::Storage { path: layout::active(dir), reason: fault.0 })
}

#[async_trait::async_trait]
impl Journal for JournalReader {
    /// Always refused: a reader does not write.
    async fn append(&self, _: Append) -> Result<Appended, AppendError> {
        Err(AppendError::Refused("the journal is open for reading only".to_owned()))
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.load_sync(stream, after)
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Raw>, ReadError> {
        self.read_sync(after, limit)
    }

    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.command_sync(id)
    }

    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.blob_sync(hash)
    }

    /// Fresh at each call; the last known one where the disk fails.
    fn head(&self) -> Head {
        let _ = self.top();
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }
}
