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
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod blob_refs;
mod catalog;
mod chunk;
mod disk;
mod error;
#[doc(hidden)]
pub mod fail_points;
mod index;
mod indexer;
mod layout;
mod metrics;
mod prepare;
mod presence;
mod queue;
mod read;
mod reader;
mod seal;
mod segment;
mod sequencer;
mod settings;
mod signal;
mod state;
mod storage;
mod sync_window;
mod tables;
mod verify;
mod watchdog;
mod writer;

use std::{sync::Arc, thread::JoinHandle};

use ai_factory_ports::{
    journal::{
        Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
    },
    metrics::{MetricSource, ProbedGauge, Registry, Unit},
};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{CommandId, StreamId},
    text::BlobHash,
};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::{
    error::{OpenJournalError, is_panic_guarded},
    layout::{holder, require},
    reader::JournalReader,
    settings::{APPEND_BYTES_MAX, JournalSettings},
    verify::{FaultKind, JournalFault as VerifyFault, VerifiedJournal, VerifyError, verify},
};
use self::{
    error::{StorageError, catch_damage},
    fail_points::{FailPoint, FaultInjection},
    index::Index,
    layout::WriteLock,
    prepare::prepare,
    presence::Presence,
    queue::{AppendQueue, EnqueueError},
    read::{ActiveView, SealedSegments},
    signal::Signal,
    state::{JournalState, OpenSegment, OpenedJournal},
};

/// Reads up to this many records run on the calling thread; longer ones on a blocking thread.
const READ_INLINE_RECORDS_MAX: usize = 64;

/// The journal, open for writing by this process.
pub struct RedbJournal {
    state: Arc<JournalState>,
    running: Mutex<Option<RunningJournal>>,
}

/// What a journal holds until it is closed.
struct RunningJournal {
    threads: [JoinHandle<()>; 3],
    /// Ends the threads that do not end with the queue.
    stops: [Arc<Signal>; 2],
    _lock: WriteLock,
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
        let dir = settings.dir.clone();
        layout::make_dirs(&dir)?;
        let lock = WriteLock::acquire(&dir)?;
        let (active, firsts) = catch_damage(
            || OpenJournalError::damaged_pages(&dir),
            || seal::recover(&settings, &faults),
        )?;
        let io = |error: std::io::Error| OpenJournalError::io(&dir, &error);
        let presence = Presence::new(&dir, &lock, &firsts).map_err(io)?;
        let damaged = |fault: StorageError| OpenJournalError::Damaged {
            dir: dir.clone(),
            reason: fault.reason.to_string(),
        };
        let (index, head) = catch_damage(
            || StorageError::new("pages of it are unreadable"),
            || {
                let tables = active.tables()?;
                Ok((Index::of(active.meta.first, &tables)?, tables.head(&active.meta)?))
            },
        )
        .map_err(damaged)?;
        let sealed_segments =
            Arc::new(SealedSegments::new(dir.clone(), settings.sealed_open_max, firsts));
        let (queue, requests) = AppendQueue::new(&settings);
        let (indexing, watching) = (Arc::<Signal>::default(), Arc::<Signal>::default());
        let segment = (active.meta.first, writer::estimate_bytes(&active, head));
        let state = JournalState::new(OpenedJournal {
            settings,
            faults,
            queue,
            sealed_segments: sealed_segments.clone(),
            segment: OpenSegment::new(active, index),
            head,
            presence,
            indexing: indexing.clone(),
        });
        let threads = [
            indexer::spawn(sealed_segments, indexing.clone()).map_err(io)?,
            watchdog::spawn(state.clone(), watching.clone()).map_err(io)?,
            writer::spawn(state.clone(), requests, segment).map_err(io)?,
        ];
        let running = RunningJournal { threads, stops: [indexing, watching], _lock: lock };
        Ok(Arc::new(Self { state, running: Mutex::new(Some(running)) }))
    }

    /// Writes the queued appends, closes the files cleanly and releases the journal. Blocks until
    /// done. Later appends and reads are refused.
    pub fn close(&self) {
        let Some(running) = self.running.lock().take() else { return };
        // The writer ends when the queue is closed and empty.
        self.state.queue.close();
        running.stops.iter().for_each(|signal| signal.stop());
        for thread in running.threads {
            // A panic in the writer has already been reported as a failure.
            let _ = thread.join();
        }
        self.state.close();
    }

    /// [`Journal::read`] for synchronous callers.
    pub fn read_sync(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        self.state
            .read(|sealed_segments, active_view| sealed_segments.read(active_view, after, limit))
    }

    /// [`Journal::load`] for synchronous callers.
    pub fn load_sync(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.state
            .read(|sealed_segments, active_view| sealed_segments.load(active_view, stream, after))
    }

    /// [`Journal::command`] for synchronous callers.
    pub fn command_sync(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.state.read(|sealed_segments, active_view| sealed_segments.command(active_view, id))
    }

    /// [`Journal::blob`] for synchronous callers.
    pub fn blob_sync(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.state.read(|sealed_segments, active_view| sealed_segments.blob(active_view, hash))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&SealedSegments, ActiveView<'_>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let state = self.state.clone();
        match tokio::task::spawn_blocking(move || state.read(read)).await {
            Ok(answer) => answer,
            Err(error) => Err(StorageError::new(format!("a read did not finish: {error}")).into()),
        }
    }
}

impl Drop for RedbJournal {
    fn drop(&mut self) {
        self.close();
    }
}

impl MetricSource for RedbJournal {
    fn register_metrics(&self, registry: &mut Registry) {
        self.state.metrics.register(registry);
        let probe = |value: fn(&JournalState) -> u64| {
            let state = self.state.clone();
            ProbedGauge::new(move || value(&state))
        };
        registry.register(
            "journal_position",
            "Position of the newest event on disk",
            probe(|state| state.head().position),
        );
        registry.register(
            "journal_queue_appends",
            "Appends that wait for the next commit",
            probe(|state| state.queue.appends() as u64),
        );
        registry.register_with_unit(
            "journal_queue",
            "Records and blobs of the appends that wait or are being committed",
            Unit::Bytes,
            probe(|state| state.queue.bytes() as u64),
        );
    }
}

#[async_trait::async_trait]
impl Journal for RedbJournal {
    /// If the caller is dropped while it waits, the append may still take effect.
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let state = &self.state;
        let fail_points = &state.faults.fail_points;
        fail_points.at(FailPoint::Received);
        if !state.is_accepting() {
            return Err(state.refusal());
        }
        let append = prepare(append, &state.settings.source, &state.sealed_segments)?;
        fail_points.at(FailPoint::Encoded);
        let reply = state.queue.push(append).map_err(|error| match error {
            EnqueueError::Full => {
                state.metrics.refused();
                AppendQueue::busy()
            }
            EnqueueError::Closed => state.refusal(),
        })?;
        reply.await.unwrap_or_else(|_| Err(state.refusal()))
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

    async fn blobs(&self, hashes: Vec<BlobHash>) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        self.blocking(move |sealed_segments, active_view| {
            sealed_segments.blobs(active_view, &hashes)
        })
        .await
    }

    async fn blob_sizes(&self, hashes: Vec<BlobHash>) -> Result<Vec<Option<u64>>, ReadError> {
        self.blocking(move |sealed_segments, active_view| {
            sealed_segments.blob_sizes(active_view, &hashes)
        })
        .await
    }

    fn head(&self) -> Head {
        self.state.head()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.state.watch_head()
    }

    fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.state.watch_health()
    }
}
