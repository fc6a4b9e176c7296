//! The journal as read by another process, with or without a running writer.
//!
//! *Promises.* Each read sees what is on disk when it begins, and follows the writer from segment
//! to segment. Nothing is written and no lock is held that a writer needs: a file left by a crash
//! is repaired in memory and left to the next writer.
//!
//! *Limits.* [`Journal::watch`] reports a new head only after a read through this reader.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ai_factory_ports::journal::{
    Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
    RefusalCause,
};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{CommandId, StreamId},
    text::BlobHash,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    catalog::ForeignCatalog,
    error::{OpenJournalError, StorageError, catch_damage, damaged_pages},
    index::Index,
    layout,
    read::{ActiveView, CatalogSource, SealedSegments},
    segment::{ReadOnlySegment, SealedSegment},
    tables::{SegmentMeta, SegmentTables},
};

/// Sealed segments that a reader keeps open.
const SEALED_OPEN_MAX: usize = 4;
/// Attempts and interval for finding a file that a writer is turning over or opening: 500 × 10 ms.
const LOOKS_MAX: u32 = 500;
/// How often a file that reads as damaged is read again while a writer has the journal open.
const HELD_LOOKS_MAX: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Why a reader accepts no appends.
const READ_ONLY: &str = "the journal is open for reading only";

/// A journal that another process may be writing.
pub struct JournalReader {
    dir: PathBuf,
    sealed_segments: SealedSegments,
    /// The active segment of the last read.
    active: Mutex<Option<ReadSegment>>,
    /// The index of that segment, as far as it was needed.
    index: Mutex<Index>,
    head: watch::Sender<Head>,
    /// Never changes.
    health: watch::Sender<JournalHealth>,
}

/// The active segment, open.
struct ReadSegment {
    file: ReadOnlySegment,
    kept: Kept,
}

/// The state in which a writer left the active segment.
#[derive(Clone, Copy)]
enum Kept {
    /// A writer uses it, or closed it cleanly.
    ByWriter,
    /// Left by a crash: marked as sealed, unclean or missing. With the file that the path led to.
    ByNobody(Option<layout::Identity>),
}

impl ReadSegment {
    /// Whether no writer has returned to a file left by a crash.
    fn is_current(&self, path: &Path) -> bool {
        match self.kept {
            Kept::ByWriter => true,
            Kept::ByNobody(left) => {
                !path.parent().is_some_and(layout::is_held)
                    && self.file.is_current()
                    && layout::identity(path) == left
            }
        }
    }

    fn is_kept(&self) -> bool {
        matches!(self.kept, Kept::ByWriter)
    }
}

impl JournalReader {
    /// Opens the journal in `dir` for reading.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenJournalError> {
        let dir = dir.as_ref().to_owned();
        layout::require(&dir)?;
        let sealed_segments = SealedSegments::new(dir.clone(), SEALED_OPEN_MAX, Vec::new());
        let reader = Self {
            dir,
            sealed_segments,
            active: Mutex::default(),
            index: Mutex::default(),
            head: watch::Sender::new(Head::default()),
            health: watch::Sender::new(JournalHealth::Refusing {
                cause: RefusalCause::ReadOnly,
                reason: READ_ONLY.into(),
            }),
        };
        catch_damage(|| OpenJournalError::damaged_pages(&reader.dir), || reader.active_view())?;
        Ok(reader)
    }

    /// [`Journal::read`] for synchronous callers.
    pub fn read_sync(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        self.with_active_view(|sealed_segments, active_view| {
            sealed_segments.read(active_view, after, limit)
        })
    }

    /// [`Journal::load`] for synchronous callers.
    pub fn load_sync(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.with_index(|sealed_segments, active_view| {
            sealed_segments.load(active_view, stream, after)
        })
    }

    /// [`Journal::command`] for synchronous callers.
    pub fn command_sync(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.with_index(|sealed_segments, active_view| sealed_segments.command(active_view, id))
    }

    /// [`Journal::blob`] for synchronous callers.
    pub fn blob_sync(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.with_active_view(|sealed_segments, active_view| {
            sealed_segments.blob(active_view, hash)
        })
    }

    fn with_active_view<T>(
        &self,
        read: impl Fn(&SealedSegments, ActiveView<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.in_one_moment(|| {
            let (meta, tables) = self.active_view().map_err(StorageError::from)?;
            read(
                &self.sealed_segments,
                ActiveView { first: meta.first, tables: &tables, index: &Index::default() },
            )
        })
    }

    /// [`Self::with_active_view`] with the index of the active segment, which is built by one scan.
    fn with_index<T>(
        &self,
        read: impl Fn(&SealedSegments, ActiveView<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.in_one_moment(|| {
            let mut index = self.index.lock();
            let (meta, tables) = self.active_view().map_err(StorageError::from)?;
            if index.first() != meta.first {
                *index = Index::new(meta.first);
            }
            index.catch_up(&tables)?;
            read(
                &self.sealed_segments,
                ActiveView { first: meta.first, tables: &tables, index: &index },
            )
        })
    }

    /// Repeats the read if a writer returned meanwhile to a file left by a crash: a repair in
    /// memory does not see that writer's changes.
    fn in_one_moment<T>(&self, read: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        let mut done = catch_damage(damaged_pages, &read);
        if done.is_err() {
            // Another writer may have replaced the one whose file is open here: opened again, the
            // file is read as that writer leaves it.
            *self.active.lock() = None;
            *self.index.lock() = Index::default();
            done = catch_damage(damaged_pages, &read);
        }
        for _ in 0..LOOKS_MAX {
            if self.is_current() {
                break;
            }
            *self.index.lock() = Index::default();
            done = catch_damage(damaged_pages, &read);
        }
        done
    }

    /// Whether the last read is of one moment.
    pub(super) fn is_current(&self) -> bool {
        let slot = self.active.lock();
        slot.as_ref().is_none_or(|active| active.is_current(&layout::active(&self.dir)))
    }

    /// The active segment's committed state.
    pub(super) fn active_view(&self) -> Result<(SegmentMeta, SegmentTables), OpenJournalError> {
        let path = layout::active(&self.dir);
        let mut slot = self.active.lock();
        let damaged = || OpenJournalError::damaged_pages(&self.dir);
        let known = slot.as_ref().and_then(|active| {
            match catch_damage(damaged, || active.file.snapshot()) {
                Ok(_) if !active.is_current(&path) => None,
                // Sealed by a living writer: another file is the active segment.
                Ok((meta, _)) if active.is_kept() && meta.sealed.is_some() => None,
                found => found.ok(),
            }
        });
        let (meta, tables) = if let Some(known) = known {
            known
        } else {
            // Dropped first, so that two repaired files are never in memory at once.
            *slot = None;
            let (active, meta, tables) = self.locate()?;
            *slot = Some(active);
            (meta, tables)
        };
        drop(slot);
        let head = tables
            .head(&meta)
            .map_err(|fault| OpenJournalError::Storage { path, reason: fault.reason })?;
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
        Ok((meta, tables))
    }

    /// Finds the active segment and the sealed ones before it.
    fn locate(&self) -> Result<(ReadSegment, SegmentMeta, SegmentTables), OpenJournalError> {
        let path = layout::active(&self.dir);
        for attempt in 0..=LOOKS_MAX {
            let before = layout::stamp(&path);
            match catch_damage(|| OpenJournalError::damaged_pages(&self.dir), || self.try_look()) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                // A writer returned in between: a file that is half changed reads as damaged. The
                // times of a file are too coarse to show each change.
                Err(OpenJournalError::Storage { .. })
                    if layout::stamp(&path) != before
                        || attempt < HELD_LOOKS_MAX && layout::is_held(&self.dir) => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(OpenJournalError::Storage { path, reason: "it keeps being replaced: try again".into() })
    }

    /// One attempt of [`Self::locate`]; `None` while a writer is replacing a file.
    fn try_look(
        &self,
    ) -> Result<Option<(ReadSegment, SegmentMeta, SegmentTables)>, OpenJournalError> {
        let Some(active) = self.find()? else { return Ok(None) };
        let (meta, tables) = active.file.snapshot()?;
        let firsts = self.firsts()?;
        // Turned over between the two reads: the next attempt finds the next segment.
        if firsts.last().is_some_and(|first| *first >= meta.first) {
            return Ok(None);
        }
        self.sealed_segments.set_firsts(firsts);
        let foreign = ForeignCatalog::open(&self.dir);
        self.sealed_segments
            .set_catalog(foreign.map_or(CatalogSource::Not, CatalogSource::Foreign));
        Ok(Some((active, meta, tables)))
    }

    /// The active segment; `None` while a writer is replacing it.
    fn find(&self) -> Result<Option<ReadSegment>, OpenJournalError> {
        let path = layout::active(&self.dir);
        let before = layout::identity(&path);
        let opened = match ReadOnlySegment::open(&path) {
            // Turned over while it was opened: the file was missing, or is another one.
            Err(OpenJournalError::Storage { .. })
                if before.is_none() || layout::identity(&path) != before =>
            {
                None
            }
            Err(error) => return Err(error),
            Ok(opened) => opened,
        };
        if let Some(file) = opened {
            let (meta, _) = file.snapshot()?;
            if meta.sealed.is_none() {
                return Ok(Some(ReadSegment { file, kept: Kept::ByWriter }));
            }
            let is_left = !layout::is_held(&self.dir);
            return Ok(is_left.then_some(ReadSegment { file, kept: Kept::ByNobody(before) }));
        }
        if layout::is_held(&self.dir) {
            return Ok(None);
        }
        let file = match before {
            Some(_) => ReadOnlySegment::open_repaired(&path),
            None => self
                .end()
                .and_then(|end| end.map(|end| ReadOnlySegment::nothing(&path, end)).transpose()),
        };
        if layout::identity(&path) != before {
            return Ok(None);
        }
        Ok(file?.map(|file| ReadSegment { file, kept: Kept::ByNobody(before) }))
    }

    fn firsts(&self) -> Result<Vec<u64>, OpenJournalError> {
        layout::list_sealed(&self.dir).map_err(|error| OpenJournalError::io(&self.dir, &error))
    }

    /// The last record of the sealed segments, if there are any.
    fn end(&self) -> Result<Option<Head>, OpenJournalError> {
        let last = self.firsts()?.last().copied();
        last.map(|first| Ok(SealedSegment::open(&self.dir, first)?.last)).transpose()
    }
}

#[async_trait::async_trait]
impl Journal for JournalReader {
    /// Always refused: a reader does not write.
    async fn append(&self, _: Append) -> Result<Appended, AppendError> {
        Err(AppendError::Refused(READ_ONLY.to_owned()))
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.load_sync(stream, after)
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        self.read_sync(after, limit)
    }

    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.command_sync(id)
    }

    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.blob_sync(hash)
    }

    /// Read from disk at each call; the last known head after an error.
    fn head(&self) -> Head {
        let _ = self.active_view();
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Another process may accept appends; this one does not.
    fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.health.subscribe()
    }
}
