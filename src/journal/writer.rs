//! The one thread that writes: it drains its queue into one transaction, syncs once, and answers all.
//!
//! *Promises.* An answer goes out strictly after the sync (I-4). Each append is judged against everything
//! before it, also within the same commit, and refused alone. After a storage error or a panic nothing is
//! written or acknowledged any more; a failed sync is never tried again, because a second one may succeed
//! without having written anything.
//!
//! *Limits.* What the writer keeps in memory is bounded by one segment: the version of each stream and a
//! hash of each command in the active one. About sealed segments the caller has asked the catalog already.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, atomic::Ordering},
};

use ai_factory_actors::ports::journal::{AppendError, Appended, Head};
use ai_factory_schemas::{
    envelope,
    id::{CommandId, StreamId},
};
use redb::ReadableTable as _;
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    error::Fault,
    prepare::{Past, Prepared},
    seam::Point,
    segment::{self, Active, Effect},
};

/// One append on its way to the writer.
pub(super) struct Request {
    pub(super) append: Prepared,
    pub(super) answer: oneshot::Sender<Result<Appended, AppendError>>,
}

/// What the writer knows of the active segment without looking.
#[derive(Default)]
struct Index {
    /// The version of each stream that has events in the active segment.
    streams: HashMap<StreamId, u64>,
    /// Hashes of the command ids in it: what is not here is not there.
    commands: HashSet<u64>,
    hasher: RandomState,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    tail: Head,
    index: Index,
    /// Of records and blobs in the active segment; an estimate for what an earlier process wrote.
    segment_bytes: u64,
}

/// What becomes of one append of a batch.
enum Verdict {
    Write(Appended),
    Answer(Result<Appended, AppendError>),
}

impl Writer {
    /// Reads what it must know of the active segment.
    pub(super) fn new(
        shared: Arc<Shared>,
        active: &Active,
        queue: mpsc::Receiver<Request>,
    ) -> Result<Self, Fault> {
        let tables = active.tables()?;
        let mut index = Index::default();
        for entry in tables.streams.iter()? {
            let (key, _) = entry?;
            let (stream, version) = segment::split_key(key.value())
                .ok_or_else(|| Fault::new("the active segment has an unreadable stream"))?;
            // In key order, so that the last version stays.
            index.streams.insert(stream, version);
        }
        for entry in tables.commands.iter()? {
            index.commands.insert(index.hasher.hash_one(entry?.0.value()));
        }
        let tail = tables.head(&active.meta)?;
        // A redb file is between half and wholly full.
        let segment_bytes = if tail == active.meta.before() { 0 } else { active.file_bytes() / 2 };
        Ok(Self { shared, queue, tail, index, segment_bytes })
    }

    pub(super) fn tail(&self) -> Head {
        self.tail
    }

    /// Writes until the queue is closed and empty. Whatever ends it early, what it was at stays in `batch`.
    pub(super) fn run(&mut self, batch: &mut Vec<Request>) -> Result<(), Fault> {
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
                self.index = Index::default();
                self.segment_bytes = 0;
            }
        }
        Ok(())
    }

    /// Refuses everything that waits. What comes later finds the queue closed.
    pub(super) fn refuse(&mut self, mut batch: Vec<Request>, reason: &Arc<str>) {
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

    /// Writes a batch in one commit, and answers and empties it.
    fn write(&mut self, batch: &mut Vec<Request>) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let points = &*shared.seams.points;
        let active = shared.active();
        let active = active.as_ref().ok_or_else(|| Fault::new("the journal is closed"))?;
        let bytes: usize = batch.iter().map(|request| request.append.bytes).sum();

        let verdicts = self.judge(active, batch);
        points.at(Point::Validated);
        if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Write(_))) {
            let txn = active.begin_write()?;
            self.insert(&txn, batch, &verdicts)?;
            points.at(Point::Inserted);
            points.at(Point::BeforeCommit);
            active.commit(txn)?;
            points.at(Point::AfterCommit);
            self.segment_bytes += bytes as u64;
            points.at(Point::BeforePublish);
            shared.head.send_replace(self.tail);
        }
        shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        // I-4: everything above is on disk; only now is anyone told.
        points.at(Point::BeforeAnswer);
        for (request, verdict) in batch.drain(..).zip(verdicts) {
            let answer = match verdict {
                Verdict::Write(appended) => Ok(appended),
                Verdict::Answer(answer) => answer,
            };
            // A caller that has gone away does not need its answer; the append stands.
            let _ = request.answer.send(answer);
        }
        Ok(())
    }

    /// Decides each append of the batch, in order. The index runs ahead of the disk here: if the commit
    /// fails, nothing is ever decided again.
    fn judge(&mut self, active: &Active, batch: &[Request]) -> Vec<Verdict> {
        let mut position = self.tail.position;
        let mut effects: HashMap<&CommandId, Effect> = HashMap::new();
        let mut verdicts = Vec::with_capacity(batch.len());
        for Request { append, .. } in batch {
            let verdict = self.judge_one(active, append, position, &effects);
            if let Verdict::Write(appended) = verdict {
                position = appended.last;
                self.index.streams.insert(append.stream, appended.version);
                if let Some(command) = &append.command {
                    let hash = self.index.hasher.hash_one(command.id.as_str());
                    self.index.commands.insert(hash);
                    effects.insert(&command.id, effect(append, &appended, command.fingerprint));
                }
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    fn judge_one(
        &self,
        active: &Active,
        append: &Prepared,
        position: u64,
        effects: &HashMap<&CommandId, Effect>,
    ) -> Verdict {
        let refuse = |error| Verdict::Answer(Err(error));
        let past = match self.past(append) {
            Ok(past) => past,
            Err(error) => return refuse(error),
        };
        if let Some(command) = &append.command {
            let found = match effects.get(&command.id) {
                Some(effect) => Some(*effect),
                None => match self.effect(active, &command.id) {
                    Ok(found) => found.or(past.effect),
                    Err(fault) => return refuse(fault.into()),
                },
            };
            // I-5: the second time gets the first answer.
            if let Some(effect) = found {
                return if effect.fingerprint == command.fingerprint {
                    Verdict::Answer(Ok(Appended { repeated: true, ..effect.appended() }))
                } else {
                    refuse(AppendError::CommandConflict { id: command.id.clone() })
                };
            }
        }
        let actual = self.index.streams.get(&append.stream).copied().unwrap_or(past.version);
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

    /// What the caller found in the sealed segments, or the same anew where one was sealed since.
    fn past(&self, append: &Prepared) -> Result<Past, AppendError> {
        let segments = self.shared.sealed_count.load(Ordering::Acquire);
        match append.past {
            Some(past) if past.segments == segments => Ok(past),
            _ => Past::of(&self.shared.shelf, segments, append.stream, append.command.as_ref()),
        }
    }

    fn effect(&self, active: &Active, id: &CommandId) -> Result<Option<Effect>, Fault> {
        if !self.index.commands.contains(&self.index.hasher.hash_one(id.as_str())) {
            return Ok(None);
        }
        active.tables()?.effect(id)
    }

    /// Seals the records of the batch and puts them into the transaction.
    fn insert(
        &mut self,
        txn: &redb::WriteTransaction,
        batch: &mut [Request],
        verdicts: &[Verdict],
    ) -> Result<(), Fault> {
        let mut records = txn.open_table(segment::RECORDS)?;
        let mut streams = txn.open_table(segment::STREAMS)?;
        for (Request { append, .. }, verdict) in batch.iter_mut().zip(verdicts) {
            let Verdict::Write(appended) = verdict else { continue };
            let mut version = appended.version - append.events.len() as u64;
            for json in &mut append.events {
                let position = self.tail.position + 1;
                version += 1;
                let hash = envelope::seal(json, position, version, self.tail.hash);
                self.tail = Head { position, hash };
                records.insert(position, json.as_bytes())?;
                streams.insert(&segment::version_key(append.stream, version), position)?;
            }
            if let Some(command) = &append.command {
                let effect = effect(append, appended, command.fingerprint).to_bytes();
                txn.open_table(segment::COMMANDS)?.insert(command.id.as_str(), &effect)?;
            }
            for (hash, blob) in &append.blobs {
                txn.open_table(segment::BLOBS)?.insert(&hash.0, blob.as_slice())?;
            }
        }
        Ok(())
    }
}

fn effect(
    append: &Prepared,
    appended: &Appended,
    fingerprint: ai_factory_schemas::text::BlobHash,
) -> Effect {
    Effect {
        fingerprint,
        stream: append.stream,
        first: appended.first,
        last: appended.last,
        version: appended.version,
    }
}
