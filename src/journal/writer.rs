//! The writer's thread: drains the queue into one transaction, syncs once, and replies to all.
//!
//! *Promises.* A reply is sent strictly after the sync (I-4). After a storage error or a panic
//! nothing is written or acknowledged; a failed sync is never repeated, because a second one may
//! succeed without having written anything. Nothing is acknowledged whose file was removed.
//!
//! *Limits.* Memory is bounded by one segment, the index of the active one. The caller has already
//! queried the catalog about sealed segments.
//!
//! *Not here.* Whether an append fits the journal: the sequencer decides.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
};

use ai_factory_ports::journal::Head;
use ai_factory_schemas::id::CommandId;

use super::{
    chunk::{AppliedCommand, ChunkBuilder},
    error::StorageError,
    fail_points::FailPoint,
    index::Index,
    prepare::{PreparedAppend, SealedLookup},
    queue::{AppendRequest, AppendRequests, reply_to_all},
    segment::ActiveSegment,
    sequencer::{RecordedState, Sequencer, Verdict},
    state::{JournalState, OpenSegment},
    tables::{BLOBS, RECORDS},
};

/// The writer, at the end of the journal.
struct Writer {
    state: Arc<JournalState>,
    requests: AppendRequests,
    tail: Head,
    chunk: ChunkBuilder,
    /// The active segment's first position.
    segment_first: u64,
    /// Bytes of records and blobs in the active segment; estimated for those of an earlier process.
    segment_bytes: u64,
}

/// A command that a commit records, and the first position of its chunk.
type CommandChunk<'a> = (&'a CommandId, u64);

/// Bytes of records and blobs in a segment that ends at `tail`: a redb file is between half full
/// and full.
pub(super) fn estimate_bytes(segment: &ActiveSegment, tail: Head) -> u64 {
    if tail == segment.meta.before() { 0 } else { segment.file_bytes() / 2 }
}

/// Starts the thread, which writes until the queue is closed and empty.
pub(super) fn spawn(
    state: Arc<JournalState>,
    requests: AppendRequests,
    (segment_first, segment_bytes): (u64, u64),
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("journal-writer".to_owned()).spawn(move || {
        let tail = state.head();
        let chunk = ChunkBuilder::default();
        Writer { state, requests, tail, chunk, segment_first, segment_bytes }.work();
    })
}

impl Writer {
    /// The body of the thread. However it ends, every waiting caller gets a reply.
    fn work(&mut self) {
        let mut batch = Vec::new();
        let ended = catch_unwind(AssertUnwindSafe(|| self.run(&mut batch)));
        let fault = match ended {
            // redb may panic on a damaged page, so closing is guarded as well.
            Ok(Ok(())) => match catch_unwind(AssertUnwindSafe(|| self.state.close_segment())) {
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
        self.state.fail(&fault);
        self.requests.refuse_all(batch, &fault.reason);
    }

    /// Writes until the queue is closed and empty. After an early end the unfinished requests are
    /// in `batch`.
    fn run(&mut self, batch: &mut Vec<AppendRequest>) -> Result<(), StorageError> {
        while self.requests.drain(batch, self.state.settings.commit_bytes_max) {
            self.write(batch)?;
            if self.is_full() {
                self.segment_first = self.state.seal(self.tail)?;
                self.segment_bytes = 0;
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let settings = &self.state.settings;
        let events = self.tail.position + 1 - self.segment_first;
        events >= settings.segment_events_max || self.segment_bytes >= settings.segment_bytes_max
    }

    /// Writes a batch in one commit, replies to it and empties it.
    fn write(&mut self, batch: &mut Vec<AppendRequest>) -> Result<(), StorageError> {
        let state = self.state.clone();
        let fail_points = &*state.faults.fail_points;
        let open = state.open_segment();
        let open = open.as_ref().ok_or_else(StorageError::closed)?;
        let bytes: usize = batch.iter().map(|request| request.append.bytes).sum();

        let mut sequencer = Sequencer::after(self.tail);
        let verdicts: Vec<_> =
            batch.iter_mut().map(|request| self.judge(&mut sequencer, open, request)).collect();
        fail_points.at(FailPoint::Validated);
        let is_writing = verdicts.iter().any(|verdict| verdict.accepted().is_some());
        if is_writing {
            let txn = open.file().begin_write()?;
            let commands = self.insert(&txn, batch, &verdicts)?;
            fail_points.at(FailPoint::Inserted);
            fail_points.at(FailPoint::BeforeCommit);
            let synced_in = open.file().commit(txn)?;
            add_to_index(&mut open.index().write(), &verdicts, &commands);
            fail_points.at(FailPoint::AfterCommit);
            self.segment_bytes += bytes as u64;
            let events = sequencer.head().position - self.tail.position;
            let appends = verdicts.iter().filter_map(Verdict::accepted).count();
            state.metrics.committed(appends, events, synced_in);
            self.tail = sequencer.head();
        }
        state.check_segments()?;
        if let Some(failure) = state.failure() {
            return Err(failure);
        }
        if is_writing {
            fail_points.at(FailPoint::BeforePublish);
            state.publish(self.tail);
        }
        state.queue.release(bytes);
        // I-4: everything above is on disk before any reply.
        fail_points.at(FailPoint::BeforeAnswer);
        reply_to_all(batch, verdicts.into_iter().map(Verdict::into_reply));
        Ok(())
    }

    /// Asks the sequencer. An append about which the files cannot be read is refused alone.
    fn judge(
        &self,
        sequencer: &mut Sequencer,
        open: &OpenSegment,
        request: &mut AppendRequest,
    ) -> Verdict {
        match self.recorded(open, &request.append) {
            Ok(recorded) => sequencer.judge(&mut request.append.proposal, recorded),
            Err(fault) => Verdict::refused(fault),
        }
    }

    /// What is on disk of an append's stream and command.
    fn recorded(
        &self,
        open: &OpenSegment,
        append: &PreparedAppend,
    ) -> Result<RecordedState, StorageError> {
        let (stream, command) = (append.proposal.stream, append.proposal.command.as_ref());
        let sealed_segments = &self.state.sealed_segments;
        let sealed = if append.sealed_lookup.is_current(sealed_segments) {
            append.sealed_lookup
        } else {
            SealedLookup::of(sealed_segments, stream, command)?
        };
        let index = open.index().read();
        let effect = match command {
            Some(command) => in_segment(open.file(), &index, &command.id)?.or(sealed.effect),
            None => None,
        };
        let version = index.version(stream).unwrap_or(sealed.version);
        Ok(RecordedState { version, effect })
    }

    /// Adds the accepted records to the transaction, in chunks.
    fn insert<'a>(
        &mut self,
        txn: &redb::WriteTransaction,
        batch: &'a [AppendRequest],
        verdicts: &[Verdict],
    ) -> Result<Vec<CommandChunk<'a>>, StorageError> {
        let mut records = txn.open_table(RECORDS)?;
        let mut commands = Vec::new();
        // The first position of the chunk under construction, and the next record's.
        let mut first = self.tail.position + 1;
        let mut position = first;
        for (AppendRequest { append, .. }, verdict) in batch.iter().zip(verdicts) {
            let Some(appended) = verdict.accepted() else { continue };
            let proposal = &append.proposal;
            let mut version = proposal.expected;
            for json in &proposal.records {
                version += 1;
                if self.chunk.is_full_for(json.len()) {
                    put(&mut records, first, &mut self.chunk)?;
                    first = position;
                }
                self.chunk.record(proposal.stream, version, json);
                position += 1;
            }
            if let Some(command) = &proposal.command {
                self.chunk.effect(&command.id, AppliedCommand::of(command, appended));
                commands.push((&command.id, first));
            }
            for blob in &append.blobs {
                txn.open_table(BLOBS)?.insert(&blob.hash().0, blob.bytes())?;
            }
        }
        put(&mut records, first, &mut self.chunk)?;
        Ok(commands)
    }
}

/// Adds a commit's records and commands to the index.
fn add_to_index(index: &mut Index, verdicts: &[Verdict], commands: &[CommandChunk<'_>]) {
    for appended in verdicts.iter().filter_map(Verdict::accepted) {
        let count = appended.last + 1 - appended.first;
        for version in appended.version + 1 - count..=appended.version {
            index.record(appended.stream, version);
        }
    }
    for (id, chunk) in commands {
        index.command(id.as_str(), *chunk);
    }
}

/// The command's effect, if it is in the active segment.
fn in_segment(
    active: &ActiveSegment,
    index: &Index,
    id: &CommandId,
) -> Result<Option<AppliedCommand>, StorageError> {
    let id = id.as_str();
    if index.may_have(id) { index.effect(&active.tables()?, id) } else { Ok(None) }
}

/// Writes the chunk straight into redb's page.
fn put(
    records: &mut redb::Table<'_, u64, &'static [u8]>,
    first: u64,
    chunk: &mut ChunkBuilder,
) -> Result<(), StorageError> {
    let mut place = records.insert_reserve(first, chunk.len())?;
    chunk.finish(place.as_mut());
    Ok(())
}
