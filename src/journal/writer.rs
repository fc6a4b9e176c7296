//! The writer's thread: drains the queue into one transaction, syncs once, and replies to all.
//!
//! *Promises.* A reply is sent strictly after the sync (I-4). Each append is checked against
//! everything before it, also within the same commit, and refused alone. After a storage error or a
//! panic nothing is written or acknowledged; a failed sync is never repeated, because a second one
//! may succeed without having written anything. Nothing is acknowledged whose file was removed.
//!
//! *Limits.* Memory is bounded by one segment, the index of the active one. The caller has already
//! queried the catalog about sealed segments.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use ai_factory_ports::journal::{AppendError, Appended, Head};
use ai_factory_schemas::{envelope, id::CommandId};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{
    JournalState,
    chunk::{AppliedCommand, ChunkBuilder},
    error::StorageError,
    fail_points::FailPoint,
    index::Index,
    prepare::{PreparedAppend, SealedLookup},
    segment::{self, ActiveSegment},
};

/// An append in the queue.
pub(super) struct AppendRequest {
    pub(super) append: PreparedAppend,
    pub(super) answer: AppendReply,
    /// The runtime of the waiting caller.
    pub(super) runtime: Option<Handle>,
}

/// Receives the reply to an append.
type AppendReply = oneshot::Sender<Result<Appended, AppendError>>;

pub(super) struct Writer {
    shared: Arc<JournalState>,
    queue: mpsc::Receiver<AppendRequest>,
    tail: Head,
    chunk: ChunkBuilder,
    /// Bytes of records and blobs in the active segment; estimated for those of an earlier process.
    segment_bytes: u64,
}

/// The decision about one append of a batch.
enum Verdict {
    Write(Appended),
    Answer(Result<Appended, AppendError>),
}

impl Writer {
    /// Starts at the end of the active segment.
    pub(super) fn new(
        shared: Arc<JournalState>,
        active: &ActiveSegment,
        queue: mpsc::Receiver<AppendRequest>,
    ) -> Result<Self, StorageError> {
        let tail = active.tables()?.head(&active.meta)?;
        // A redb file is between half full and full.
        let segment_bytes = if tail == active.meta.before() { 0 } else { active.file_bytes() / 2 };
        Ok(Self { shared, queue, tail, chunk: ChunkBuilder::default(), segment_bytes })
    }

    pub(super) fn tail(&self) -> Head {
        self.tail
    }

    /// Writes until the queue is closed and empty. After an early end the unfinished requests are
    /// in `batch`.
    pub(super) fn run(&mut self, batch: &mut Vec<AppendRequest>) -> Result<(), StorageError> {
        while let Some(request) = self.queue.blocking_recv() {
            let mut bytes = request.append.bytes;
            batch.push(request);
            while bytes < self.shared.settings.commit_bytes_max {
                let Ok(request) = self.queue.try_recv() else { break };
                bytes += request.append.bytes;
                batch.push(request);
            }
            self.write(batch)?;
            if self.is_full() {
                self.tail = self.shared.seal(self.tail)?;
                self.segment_bytes = 0;
            }
        }
        Ok(())
    }

    /// Refuses everything queued. Later appends find the queue closed.
    pub(super) fn refuse(&mut self, mut batch: Vec<AppendRequest>, reason: &Arc<str>) {
        self.queue.close();
        batch.extend(std::iter::from_fn(|| self.queue.try_recv().ok()));
        for request in batch {
            let _ = request.answer.send(Err(AppendError::Storage(reason.clone())));
        }
    }

    fn is_full(&self) -> bool {
        let settings = &self.shared.settings;
        let events = self.tail.position + 1 - self.shared.active_first.load(Ordering::Acquire);
        events >= settings.segment_events_max || self.segment_bytes >= settings.segment_bytes_max
    }

    /// Writes a batch in one commit, replies to it and empties it.
    fn write(&mut self, batch: &mut Vec<AppendRequest>) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        let fail_points = &*shared.faults.fail_points;
        let active = shared.active();
        let active = active.as_ref().ok_or_else(|| StorageError::new("the journal is closed"))?;
        let bytes: usize = batch.iter().map(|request| request.append.bytes).sum();

        let verdicts = self.judge(active, batch);
        fail_points.at(FailPoint::Validated);
        let is_writing = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Write(_)));
        if is_writing {
            let txn = active.begin_write()?;
            self.insert(&txn, batch, &verdicts)?;
            fail_points.at(FailPoint::Inserted);
            fail_points.at(FailPoint::BeforeCommit);
            active.commit(txn)?;
            fail_points.at(FailPoint::AfterCommit);
            self.segment_bytes += bytes as u64;
        }
        // Data synced to a file that was removed is lost.
        shared.presence.check()?;
        if let Some(reason) = shared.failure() {
            return Err(StorageError(reason));
        }
        if is_writing {
            fail_points.at(FailPoint::BeforePublish);
            shared.head.send_replace(self.tail);
        }
        shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        // I-4: everything above is on disk before any reply.
        fail_points.at(FailPoint::BeforeAnswer);
        let runtime = shared_runtime(batch);
        let answers = batch.drain(..).zip(verdicts).map(|(request, verdict)| match verdict {
            Verdict::Write(appended) => (request.answer, Ok(appended)),
            Verdict::Answer(answer) => (request.answer, answer),
        });
        send_replies(runtime, answers.collect());
        Ok(())
    }

    /// Decides each append of the batch, in order. Here the index is ahead of the disk: readers
    /// stop at the disk's last position, and after a failed commit nothing is decided again.
    fn judge(&mut self, active: &ActiveSegment, batch: &[AppendRequest]) -> Vec<Verdict> {
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        let mut position = self.tail.position;
        let mut effects: HashMap<&CommandId, AppliedCommand> = HashMap::new();
        let mut verdicts = Vec::with_capacity(batch.len());
        for AppendRequest { append, .. } in batch {
            let verdict = self.judge_one(active, &index, append, position, &effects);
            if let Verdict::Write(appended) = verdict {
                position = appended.last;
                let before = appended.version - append.events.len() as u64;
                for version in before + 1..=appended.version {
                    index.record(append.stream, version);
                }
                if let Some(command) = &append.command {
                    effects.insert(&command.id, effect(append, &appended, command.fingerprint));
                }
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    fn judge_one(
        &self,
        active: &ActiveSegment,
        index: &Index,
        append: &PreparedAppend,
        position: u64,
        effects: &HashMap<&CommandId, AppliedCommand>,
    ) -> Verdict {
        let refuse = |error| Verdict::Answer(Err(error));
        let sealed_lookup = match self.sealed_lookup(append) {
            Ok(sealed_lookup) => sealed_lookup,
            Err(error) => return refuse(error),
        };
        if let Some(command) = &append.command {
            let found = match effects.get(&command.id) {
                Some(effect) => Some(*effect),
                None => match committed(active, index, command.id.as_str()) {
                    Ok(found) => found.or(sealed_lookup.effect),
                    Err(fault) => return refuse(fault.into()),
                },
            };
            // I-5: a repeated command gets the first reply.
            if let Some(effect) = found {
                return if effect.fingerprint == command.fingerprint {
                    Verdict::Answer(Ok(Appended { repeated: true, ..effect.appended() }))
                } else {
                    refuse(AppendError::CommandConflict { id: command.id.clone() })
                };
            }
        }
        let actual = index.version(append.stream).unwrap_or(sealed_lookup.version);
        if actual != append.expected {
            let (stream, expected) = (append.stream, append.expected);
            return refuse(AppendError::WrongVersion { stream, expected, actual });
        }
        let count = append.events.len() as u64;
        Verdict::Write(Appended {
            stream: append.stream,
            first: position + 1,
            last: position + count,
            version: actual + count,
            repeated: false,
        })
    }

    /// The caller's look-up in the sealed segments, repeated if one was sealed since.
    fn sealed_lookup(&self, append: &PreparedAppend) -> Result<SealedLookup, AppendError> {
        let segments = self.shared.sealed_count.load(Ordering::Acquire);
        match append.sealed_lookup {
            Some(sealed_lookup) if sealed_lookup.segments == segments => Ok(sealed_lookup),
            _ => SealedLookup::of(
                &self.shared.sealed_segments,
                segments,
                append.stream,
                append.command.as_ref(),
            ),
        }
    }

    /// Seals the batch's records and adds them to the transaction.
    fn insert(
        &mut self,
        txn: &redb::WriteTransaction,
        batch: &mut [AppendRequest],
        verdicts: &[Verdict],
    ) -> Result<(), StorageError> {
        let mut records = txn.open_table(segment::RECORDS)?;
        let mut commands = Vec::new();
        // The first position of the chunk under construction.
        let mut first = self.tail.position + 1;
        for (AppendRequest { append, .. }, verdict) in batch.iter_mut().zip(verdicts) {
            let Verdict::Write(appended) = verdict else { continue };
            let mut version = appended.version - append.events.len() as u64;
            for json in &mut append.events {
                let position = self.tail.position + 1;
                version += 1;
                let hash = envelope::seal(json, position, version, self.tail.hash);
                self.tail = Head { position, hash };
                if self.chunk.is_full_for(json.len()) {
                    put(&mut records, first, &mut self.chunk)?;
                    first = position;
                }
                self.chunk.record(append.stream, version, json);
            }
            if let Some(command) = &append.command {
                self.chunk.effect(&command.id, effect(append, appended, command.fingerprint));
                commands.push((&command.id, first));
            }
            for blob in &append.blobs {
                txn.open_table(segment::BLOBS)?.insert(&blob.hash().0, blob.bytes())?;
            }
        }
        put(&mut records, first, &mut self.chunk)?;
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        for (id, chunk) in commands {
            index.command(id.as_str(), chunk);
        }
        Ok(())
    }
}

/// The runtime of all callers, if they share one.
fn shared_runtime(batch: &[AppendRequest]) -> Option<Handle> {
    let first = batch.first()?.runtime.clone()?;
    let id = first.id();
    let same = |request: &AppendRequest| request.runtime.as_ref().is_some_and(|it| it.id() == id);
    batch.iter().all(same).then_some(first)
}

/// Replies to all callers. To many from within their runtime, if they share one: waking them from
/// this thread costs one system call each.
fn send_replies(
    runtime: Option<Handle>,
    answers: Vec<(AppendReply, Result<Appended, AppendError>)>,
) {
    let is_many = answers.len() > 1;
    let send = move || {
        for (answer, verdict) in answers {
            // A caller that was dropped needs no reply; the append stands.
            let _ = answer.send(verdict);
        }
    };
    match runtime {
        Some(runtime) if is_many => drop(runtime.spawn(async move { send() })),
        _ => send(),
    }
}

/// The command's effect, if it is in the active segment.
fn committed(
    active: &ActiveSegment,
    index: &Index,
    id: &str,
) -> Result<Option<AppliedCommand>, StorageError> {
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

fn effect(
    append: &PreparedAppend,
    appended: &Appended,
    fingerprint: ai_factory_schemas::text::BlobHash,
) -> AppliedCommand {
    AppliedCommand {
        fingerprint,
        stream: append.stream,
        first: appended.first,
        last: appended.last,
        version: appended.version,
    }
}
