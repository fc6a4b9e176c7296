//! The journal on redb: one active segment, written by one thread, and immutable sealed segments.
//!
//! *Promises.* Those of the port [`ai_factory_ports::journal`]. In addition: other
//! processes can read while one writes ([`JournalReader`]); a start after a crash repairs one
//! bounded segment, whatever the journal's length; memory does not grow with the number of streams;
//! [`verify()`] finds every altered, missing or inserted record.
//!
//! *Limits.* After a storage error, or when its files are removed or replaced while it is open, the
//! journal is read-only until it is opened again. Sizes of segments, commits and the queue:
//! [`JournalSettings`].
//!
//! *Not here.* Publishing events (the relay), queries over them (the projections).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod catalog;
mod chunk;
mod error;
#[doc(hidden)]
pub mod fail_points;
mod index;
mod indexer;
mod layout;
mod prepare;
mod presence;
mod read;
mod reader;
mod seal;
mod segment;
mod settings;
mod storage;
mod verify;
mod writer;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use ai_factory_ports::{
    journal::{Append, AppendError, Appended, Command, Head, Journal, RawRecord, ReadError},
    retry_after,
};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{CommandId, StreamId},
    text::BlobHash,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

pub use self::{
    error::{OpenJournalError, is_panic_guarded},
    layout::{holder, require},
    reader::JournalReader,
    settings::{APPEND_BYTES_MAX, JournalSettings},
    verify::{FaultKind, JournalFault as VerifyFault, VerifiedJournal, VerifyError, verify},
};
use self::{
    error::{StorageError, catch_damage, damaged_pages},
    fail_points::{FailPoint, FaultInjection},
    index::Index,
    indexer::Indexer,
    layout::WriteLock,
    prepare::{SealedLookup, prepare},
    presence::{Presence, Watch},
    read::{ActiveView, SealedSegments},
    segment::{ActiveSegment, ReadOnlySegment, SegmentTables},
    writer::{AppendRequest, Writer},
};

/// Reads up to this many records run on the calling thread; longer ones on a blocking thread.
const READ_INLINE_RECORDS_MAX: usize = 64;

/// State shared by the writer and the callers.
struct JournalState {
    settings: JournalSettings,
    faults: FaultInjection,
    sealed_segments: SealedSegments,
    /// `None` while a segment is turned over, and after the journal is closed.
    active: RwLock<Option<ActiveSegment>>,
    active_first: AtomicU64,
    /// Of the active segment. Ahead of the disk by the commit in progress.
    index: RwLock<Index>,
    /// The number of sealed segments: shows whether an answer about them is current.
    sealed_count: AtomicU64,
    head: watch::Sender<Head>,
    /// Why the journal accepts no more appends.
    failed: watch::Sender<Option<Arc<str>>>,
    queued_bytes: AtomicUsize,
    indexer: Indexer,
    presence: Presence,
    watch: Watch,
    /// After a storage error redb cannot read through the writer's handle; this one still can.
    rescue: Mutex<Option<ReadOnlySegment>>,
}

impl JournalState {
    fn active(&self) -> RwLockReadGuard<'_, Option<ActiveSegment>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.failed.borrow().clone()
    }

    fn stopped(&self) -> AppendError {
        AppendError::Storage(self.failure().unwrap_or_else(|| "the journal is closed".into()))
    }

    /// Nothing is written or acknowledged after this. The first reason stays.
    fn fail(&self, fault: &StorageError) {
        tracing::error!(reason = %fault, "the journal accepts no more appends");
        self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert_with(|| fault.0.clone());
            is_first
        });
    }

    fn tables(&self, active: &ActiveSegment) -> Result<SegmentTables, StorageError> {
        // If the path leads to another file, only the writer's handle still has this one.
        if self.failed.borrow().is_none() || !self.presence.has_active() {
            return active.tables();
        }
        let mut rescue = self.rescue.lock().unwrap_or_else(PoisonError::into_inner);
        if rescue.is_none() {
            *rescue = ReadOnlySegment::open(&layout::active(&self.settings.dir))?;
        }
        let reader =
            rescue.as_ref().ok_or_else(|| StorageError::new("the active segment is gone"))?;
        Ok(reader.snapshot()?.1)
    }

    fn with_active_view<T>(
        &self,
        read: impl FnOnce(&SealedSegments, ActiveView<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let active = self.active();
        let Some(active) = &*active else {
            return Err(StorageError::new("the journal is closed").into());
        };
        catch_damage(damaged_pages, || {
            let tables = self.tables(active)?;
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            read(
                &self.sealed_segments,
                ActiveView { first: active.meta.first, tables: &tables, index: &index },
            )
        })
    }

    /// Seals the active segment, which ends at `last`, and continues in a new one.
    fn seal(&self, last: Head) -> Result<Head, StorageError> {
        let fail_points = &self.faults.fail_points;
        fail_points.at(FailPoint::BeforeSeal);
        if let Some(active) = &*self.active() {
            active.seal(last)?;
        }
        fail_points.at(FailPoint::SealMarked);
        // Reads wait from here to the end of this block, because the file is renamed.
        let mut slot = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let old = slot.take().ok_or_else(|| StorageError::new("the journal is closed"))?;
        let first = old.meta.first;
        let active = seal::roll_segment(old, last, &self.settings, &self.faults)?;
        self.sealed_segments.push(first);
        self.sealed_count.fetch_add(1, Ordering::AcqRel);
        self.active_first.store(active.meta.first, Ordering::Release);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Index::new(active.meta.first);
        *slot = Some(active);
        self.presence.turned_over(first)?;
        drop(slot);
        self.indexer.wake();
        Ok(last)
    }
}

/// The journal, open for writing by this process.
pub struct RedbJournal {
    shared: Arc<JournalState>,
    queue: Mutex<Option<mpsc::Sender<AppendRequest>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<WriteLock>>,
}

impl RedbJournal {
    /// Opens the journal, creates it if it does not exist, and repairs what a crash left.
    pub fn open(settings: JournalSettings) -> Result<Arc<Self>, OpenJournalError> {
        Self::open_with(settings, FaultInjection::default())
    }

    /// [`Self::open`] with fail points and a replaced disk, for tests.
    #[doc(hidden)]
    pub fn open_with(
        settings: JournalSettings,
        faults: FaultInjection,
    ) -> Result<Arc<Self>, OpenJournalError> {
        layout::make_dirs(&settings.dir)?;
        let lock = WriteLock::acquire(&settings.dir)?;
        let (active, firsts) = catch_damage(
            || OpenJournalError::damaged_pages(&settings.dir),
            || seal::recover(&settings, &faults),
        )?;
        let presence = Presence::new(&settings.dir, &lock, &firsts)
            .map_err(|error| OpenJournalError::io(&settings.dir, &error))?;
        let dir = settings.dir.clone();
        let failed = |fault: StorageError| OpenJournalError::Damaged {
            dir: dir.clone(),
            reason: fault.0.to_string(),
        };

        let index = catch_damage(
            || StorageError::new("pages of it are unreadable"),
            || Index::of(active.meta.first, &active.tables()?),
        )
        .map_err(failed)?;
        let shared = Arc::new(JournalState {
            index: RwLock::new(index),
            sealed_segments: SealedSegments::new(
                settings.dir.clone(),
                settings.sealed_open_max,
                firsts,
            ),
            active_first: AtomicU64::new(active.meta.first),
            active: RwLock::new(None),
            sealed_count: AtomicU64::new(0),
            head: watch::Sender::new(Head::default()),
            failed: watch::Sender::new(None),
            queued_bytes: AtomicUsize::new(0),
            indexer: Indexer::default(),
            presence,
            watch: Watch::default(),
            rescue: Mutex::new(None),
            settings,
            faults,
        });
        let (queue, appends) = mpsc::channel(shared.settings.queue_appends_max.max(1));
        let mut writer = Writer::new(shared.clone(), &active, appends).map_err(failed)?;
        shared.head.send_replace(writer.tail());
        *shared.active.write().unwrap_or_else(PoisonError::into_inner) = Some(active);

        let spawned = |error: std::io::Error| OpenJournalError::io(&shared.settings.dir, &error);
        let indexing = indexer::spawn(shared.clone()).map_err(spawned)?;
        let watching = presence::spawn(shared.clone()).map_err(spawned)?;
        let writing = std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn({
                let shared = shared.clone();
                move || write(&shared, &mut writer)
            })
            .map_err(spawned)?;
        Ok(Arc::new(Self {
            shared,
            queue: Mutex::new(Some(queue)),
            threads: Mutex::new(vec![writing, indexing, watching]),
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// Why the journal accepts no more appends; `None` while it is healthy.
    pub fn health(&self) -> Option<String> {
        self.shared.failure().map(|reason| reason.to_string())
    }

    /// Receives every change of [`Self::health`].
    pub fn watch_health(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.failed.subscribe()
    }

    /// Writes the queued appends, closes the files cleanly and releases the journal. Blocks until
    /// done. Later appends and reads are refused.
    pub fn close(&self) {
        // The writer ends when the last sender is gone and the queue is empty.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.indexer.stop();
        self.shared.watch.stop();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic in the writer has already been reported as a failure.
            let _ = thread.join();
        }
        // A failed segment is still open for reading; redb writes nothing to it after a storage
        // error.
        let failed = self.shared.active.write().unwrap_or_else(PoisonError::into_inner).take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(failed)));
        self.shared.rescue.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// [`Journal::read`] for synchronous callers.
    pub fn read_sync(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        self.shared.with_active_view(|sealed_segments, active_view| {
            sealed_segments.read(active_view, after, limit)
        })
    }

    /// [`Journal::load`] for synchronous callers.
    pub fn load_sync(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.shared.with_active_view(|sealed_segments, active_view| {
            sealed_segments.load(active_view, stream, after)
        })
    }

    /// [`Journal::command`] for synchronous callers.
    pub fn command_sync(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.shared.with_active_view(|sealed_segments, active_view| {
            sealed_segments.command(active_view, id)
        })
    }

    /// [`Journal::blob`] for synchronous callers.
    pub fn blob_sync(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.shared.with_active_view(|sealed_segments, active_view| {
            sealed_segments.blob(active_view, hash)
        })
    }

    fn enqueue(&self, request: AppendRequest) -> Result<(), AppendError> {
        let busy = AppendError::Busy { retry_after: retry_after::COMMIT };
        let bytes = request.append.bytes;
        let waiting = self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        let sent = if waiting > 0 && waiting + bytes > self.shared.settings.queue_bytes_max {
            Err(busy)
        } else {
            match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
                None => Err(self.shared.stopped()),
                Some(queue) => queue.try_send(request).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => busy,
                    mpsc::error::TrySendError::Closed(_) => self.shared.stopped(),
                }),
            }
        };
        if sent.is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        sent
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&SealedSegments, ActiveView<'_>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let shared = self.shared.clone();
        spawn_blocking(move || shared.with_active_view(read)).await
    }
}

impl Drop for RedbJournal {
    fn drop(&mut self) {
        self.close();
    }
}

/// The body of the writer's thread. However it ends, every waiting caller gets an answer.
fn write(shared: &JournalState, writer: &mut Writer) {
    let mut batch = Vec::new();
    let ended = catch_unwind(AssertUnwindSafe(|| writer.run(&mut batch)));
    let close = || {
        let active = shared.active.write().unwrap_or_else(PoisonError::into_inner).take();
        active.map_or(Ok(()), ActiveSegment::close)
    };
    let fault = match ended {
        // redb may panic on a damaged page, so closing is guarded as well.
        Ok(Ok(())) => match catch_unwind(AssertUnwindSafe(close)) {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => fault,
            Err(_) => StorageError::new("the writer panicked while closing"),
        },
        // The failed segment stays open: its locks keep the file readable for this and other
        // processes.
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            StorageError::new(format!("the writer panicked: {}", text.unwrap_or_default()))
        }
    };
    shared.fail(&fault);
    writer.refuse(batch, &fault.0);
}

async fn spawn_blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(answer) => answer,
        Err(error) => Err(StorageError::new(format!("a read did not finish: {error}")).into()),
    }
}

#[async_trait::async_trait]
impl Journal for RedbJournal {
    /// If the caller is dropped while it waits, the append may still take effect.
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let fail_points = &self.shared.faults.fail_points;
        fail_points.at(FailPoint::Received);
        if self.shared.failed.borrow().is_some() {
            return Err(self.shared.stopped());
        }
        let mut append = prepare(append, &self.shared.settings.source)?;
        let segments = self.shared.sealed_count.load(Ordering::Acquire);
        let (stream, command) = (append.stream, append.command.as_ref());
        append.sealed_lookup =
            Some(SealedLookup::of(&self.shared.sealed_segments, segments, stream, command)?);
        fail_points.at(FailPoint::Encoded);
        let (answer, answered) = oneshot::channel();
        self.enqueue(AppendRequest { append, answer, runtime: Handle::try_current().ok() })?;
        answered.await.unwrap_or_else(|_| Err(self.shared.stopped()))
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.blocking(move |sealed_segments, active_view| {
            sealed_segments.load(active_view, stream, after)
        })
        .await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        if limit <= READ_INLINE_RECORDS_MAX {
            return self.read_sync(after, limit);
        }
        self.blocking(move |sealed_segments, active_view| {
            sealed_segments.read(active_view, after, limit)
        })
        .await
    }

    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.command_sync(id)
    }

    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.blocking(move |sealed_segments, active_view| sealed_segments.blob(active_view, hash))
            .await
    }

    fn head(&self) -> Head {
        *self.shared.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.shared.head.subscribe()
    }
}
