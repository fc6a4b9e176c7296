//! The state that an open journal's callers and threads share.
//!
//! It has three parts, each with one owner:
//!
//! - **Health** ([`JournalHealth`]): `Accepting`, until the first failure or the close. It never
//!   changes back, and the first failure stays. Whoever notices a failure reports it.
//! - **The open segment** ([`OpenSegment`]): the active file with its index. Only the writer
//!   changes it: it adds what it committed, and replaces the segment by the next one, while reads
//!   wait. There is none after the close, or after a replacement that failed halfway.
//! - **The head**: what is on disk and checked. Only the writer moves it, before it replies.
//!
//! *Lock order.* The slot of the open segment comes first; under it the index, the other handle, or
//! the files' presence. Nothing is awaited under a lock.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ai_factory_ports::journal::{AppendError, Head, JournalHealth, ReadError};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::{
    error::{StorageError, catch_damage, damaged_pages},
    fail_points::{FailPoint, FaultInjection},
    index::Index,
    layout,
    metrics::JournalMetrics,
    presence::Presence,
    queue::AppendQueue,
    read::{ActiveView, SealedSegments},
    seal,
    segment::{ActiveSegment, ReadOnlySegment},
    settings::JournalSettings,
    signal::Signal,
    tables::SegmentTables,
};

/// The active segment, open for writing.
pub(super) struct OpenSegment {
    file: ActiveSegment,
    /// Of everything that the writer has committed.
    index: RwLock<Index>,
    /// After a storage error redb cannot read through the writer's handle; this one still can.
    other_handle: Mutex<Option<ReadOnlySegment>>,
}

impl OpenSegment {
    pub(super) fn new(file: ActiveSegment, index: Index) -> Self {
        Self { file, index: RwLock::new(index), other_handle: Mutex::new(None) }
    }

    pub(super) fn file(&self) -> &ActiveSegment {
        &self.file
    }

    pub(super) fn index(&self) -> &RwLock<Index> {
        &self.index
    }
}

/// The shared state: see the module.
pub(super) struct JournalState {
    pub(super) settings: JournalSettings,
    pub(super) faults: FaultInjection,
    pub(super) queue: AppendQueue,
    pub(super) sealed_segments: Arc<SealedSegments>,
    open: RwLock<Option<OpenSegment>>,
    head: watch::Sender<Head>,
    health: watch::Sender<JournalHealth>,
    presence: Presence,
    pub(super) metrics: JournalMetrics,
    /// Wakes the thread that catalogues sealed segments.
    indexing: Arc<Signal>,
}

/// The parts of a journal that is being opened.
pub(super) struct OpenedJournal {
    pub(super) settings: JournalSettings,
    pub(super) faults: FaultInjection,
    pub(super) queue: AppendQueue,
    pub(super) sealed_segments: Arc<SealedSegments>,
    pub(super) segment: OpenSegment,
    pub(super) head: Head,
    pub(super) presence: Presence,
    pub(super) indexing: Arc<Signal>,
}

impl JournalState {
    /// The state of a journal that accepts appends.
    pub(super) fn new(opened: OpenedJournal) -> Arc<Self> {
        Arc::new(Self {
            settings: opened.settings,
            faults: opened.faults,
            queue: opened.queue,
            sealed_segments: opened.sealed_segments,
            open: RwLock::new(Some(opened.segment)),
            head: watch::Sender::new(opened.head),
            health: watch::Sender::new(JournalHealth::Accepting),
            presence: opened.presence,
            metrics: JournalMetrics::default(),
            indexing: opened.indexing,
        })
    }

    pub(super) fn head(&self) -> Head {
        *self.head.borrow()
    }

    pub(super) fn watch_head(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Makes the head known. Everything up to it is on disk, in its place, and in the index.
    pub(super) fn publish(&self, head: Head) {
        self.head.send_replace(head);
    }

    pub(super) fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.health.subscribe()
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.health.borrow().is_accepting()
    }

    /// The first failure.
    pub(super) fn failure(&self) -> Option<StorageError> {
        match &*self.health.borrow() {
            JournalHealth::Refusing { cause, reason } if cause.is_failure() => {
                Some(StorageError { cause: *cause, reason: reason.clone() })
            }
            _ => None,
        }
    }

    /// The answer to an append that nobody will write.
    pub(super) fn refusal(&self) -> AppendError {
        self.failure().unwrap_or_else(StorageError::closed).into()
    }

    /// Nothing is written or acknowledged after this. The first reason stays.
    pub(super) fn fail(&self, fault: &StorageError) {
        tracing::error!(reason = %fault, "the journal accepts no more appends");
        self.refuse_from_now_on(fault);
    }

    fn refuse_from_now_on(&self, fault: &StorageError) {
        self.health.send_if_modified(|health| {
            let is_first = health.is_accepting();
            if is_first {
                let (cause, reason) = (fault.cause, fault.reason.clone());
                *health = JournalHealth::Refusing { cause, reason };
            }
            is_first
        });
    }

    /// The open segment, which is not replaced while the guard lives.
    pub(super) fn open_segment(&self) -> RwLockReadGuard<'_, Option<OpenSegment>> {
        self.open.read()
    }

    /// Fails unless all files are still in place: data synced to a file that was removed is lost.
    pub(super) fn check_segments(&self) -> Result<(), StorageError> {
        self.presence.check()
    }

    /// [`Self::check_segments`] in depth, while no segment is being replaced.
    pub(super) fn check_files(&self) -> Result<(), StorageError> {
        let open = self.open.read();
        if open.is_some() { self.presence.check_each() } else { Ok(()) }
    }

    /// Reads what is on disk.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&SealedSegments, ActiveView<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let open = self.open.read();
        let Some(open) = &*open else { return Err(StorageError::closed().into()) };
        catch_damage(damaged_pages, || {
            // The tables come first: the index may then be ahead of them, which reads allow for.
            let tables = self.tables(open)?;
            let index = open.index.read();
            let first = open.file.meta.first;
            read(&self.sealed_segments, ActiveView { first, tables: &tables, index: &index })
        })
    }

    fn tables(&self, open: &OpenSegment) -> Result<SegmentTables, StorageError> {
        // If the path leads to another file, only the writer's handle still has this one.
        if self.failure().is_none() || !self.presence.has_active() {
            return open.file.tables();
        }
        let mut handle = open.other_handle.lock();
        if handle.is_none() {
            *handle = ReadOnlySegment::open(&layout::active(&self.settings.dir))?;
        }
        let reader =
            handle.as_ref().ok_or_else(|| StorageError::new("the active segment is gone"))?;
        Ok(reader.snapshot()?.1)
    }

    /// Seals the open segment, which ends at `last`, and continues in a new one. Returns the new
    /// one's first position.
    pub(super) fn seal(&self, last: Head) -> Result<u64, StorageError> {
        let fail_points = &self.faults.fail_points;
        fail_points.at(FailPoint::BeforeSeal);
        if let Some(open) = &*self.open.read() {
            open.file.seal(last)?;
        }
        fail_points.at(FailPoint::SealMarked);
        // Reads wait from here to the end of this block, because the file is renamed.
        let mut slot = self.open.write();
        let old = slot.take().ok_or_else(StorageError::closed)?;
        let sealed = old.file.meta.first;
        let next = seal::roll_segment(old.file, last, &self.settings, &self.faults)?;
        let first = next.meta.first;
        self.sealed_segments.push(sealed);
        *slot = Some(OpenSegment::new(next, Index::new(first)));
        self.presence.turned_over(sealed)?;
        drop(slot);
        self.indexing.wake();
        Ok(first)
    }

    /// Closes the open segment's file cleanly, so that the next open has nothing to repair.
    pub(super) fn close_segment(&self) -> Result<(), StorageError> {
        let open = self.open.write().take();
        open.map_or(Ok(()), |open| open.file.close())
    }

    /// Ends reads and appends. A failed segment was kept open for reads until now; redb writes
    /// nothing to it after a storage error.
    pub(super) fn close(&self) {
        let failed = self.open.write().take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(failed)));
        self.refuse_from_now_on(&StorageError::closed());
    }
}
