//! A journal in memory: the port with all its promises but the disk.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
};

use ai_factory_ports::journal::{
    Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
    RefusalCause,
};
use ai_factory_schemas::{
    envelope::{ChainHash, Recorded, seal},
    id::{CommandId, StreamId},
    limit::{APPEND_EVENTS_MAX, BLOB_BYTES_MAX, RECORD_BYTES_MAX},
    text::BlobHash,
};
use bytes::Bytes;
use tokio::sync::watch;

/// A journal that is lost with its last handle. Cut it with [`MemoryJournal::fork`].
#[derive(Debug)]
pub struct MemoryJournal {
    written: Mutex<Written>,
    head: watch::Sender<Head>,
    health: watch::Sender<JournalHealth>,
}

#[derive(Clone, Debug, Default)]
struct Written {
    /// The record with position `n` is at `n - 1`.
    records: Vec<Bytes>,
    /// The index of each record of a stream; its version is its place in the list, from 1.
    streams: BTreeMap<StreamId, Vec<usize>>,
    commands: HashMap<CommandId, (Command, Appended)>,
    blobs: HashMap<BlobHash, Vec<u8>>,
    hash: ChainHash,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::holding(Written::default(), Head::default())
    }
}

impl MemoryJournal {
    fn holding(written: Written, head: Head) -> Self {
        let (head, health) = (watch::Sender::new(head), watch::Sender::default());
        Self { written: Mutex::new(written), head, health }
    }

    /// From now on it accepts no appends, as after a failed write.
    pub fn fail(&self, reason: &str) {
        let (cause, reason) = (RefusalCause::Storage, reason.into());
        self.health.send_replace(JournalHealth::Refusing { cause, reason });
    }

    /// A journal with the first `position` records of this one.
    pub fn fork(&self, position: usize) -> Self {
        let mut written = self.written().clone();
        written.records.truncate(position);
        written.streams.values_mut().for_each(|records| records.retain(|at| *at < position));
        let kept = |appended: &Appended| appended.last <= position as u64;
        written.commands.retain(|_, (_, appended)| kept(appended));
        written.hash = written
            .records
            .last()
            .map_or(ChainHash::GENESIS, |record| Recorded::decode(record).unwrap().hash);
        let head = Head { position: position as u64, hash: written.hash };
        Self::holding(written, head)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap()
    }
}

impl Written {
    fn append(&mut self, append: Append) -> Result<Appended, AppendError> {
        if let Some(command) = &append.command
            && let Some((first, appended)) = self.commands.get(&command.id)
        {
            if first.fingerprint != command.fingerprint {
                return Err(AppendError::CommandConflict { id: command.id.clone() });
            }
            return Ok(Appended { repeated: true, ..*appended });
        }
        let stream = append.stream;
        let actual = self.streams.get(&stream).map_or(0, Vec::len) as u64;
        if actual != append.expected {
            return Err(AppendError::WrongVersion { stream, expected: append.expected, actual });
        }
        let refused = |reason: &str| Err(AppendError::Refused(reason.to_owned()));
        if append.events.is_empty() || append.events.len() > APPEND_EVENTS_MAX {
            return refused("an append has 1 to 256 events");
        }
        if append.events.iter().any(|draft| draft.event.category() != stream.category) {
            return refused("an event is not of its stream's category");
        }
        if append.blobs.iter().any(|blob| blob.bytes().len() > BLOB_BYTES_MAX) {
            return refused("a blob is too large");
        }
        let first = self.records.len() as u64 + 1;
        let mut records = Vec::with_capacity(append.events.len());
        let mut hash = self.hash;
        for (offset, draft) in (0..).zip(&append.events) {
            let json = draft.encode("/ai-factory/test", stream);
            let mut json = json.map_err(|error| AppendError::Refused(error.to_string()))?;
            hash = seal(&mut json, first + offset, actual + offset + 1, hash);
            if json.len() > RECORD_BYTES_MAX {
                return refused("a record is too large");
            }
            records.push(Bytes::from(json));
        }
        let count = records.len() as u64;
        let appended = Appended {
            stream,
            first,
            last: first + count - 1,
            version: actual + count,
            repeated: false,
        };
        let places = self.records.len()..self.records.len() + records.len();
        self.streams.entry(stream).or_default().extend(places);
        self.records.extend(records);
        self.hash = hash;
        self.blobs.extend(append.blobs.into_iter().map(|blob| (blob.hash(), blob.into_bytes())));
        if let Some(command) = append.command {
            self.commands.insert(command.id.clone(), (command, appended));
        }
        Ok(appended)
    }
}

#[async_trait::async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        if let Some(reason) = self.health().failure() {
            return Err(AppendError::Storage(reason.clone()));
        }
        let mut written = self.written();
        let appended = written.append(append)?;
        let head = Head { position: written.records.len() as u64, hash: written.hash };
        self.head.send_replace(head);
        Ok(appended)
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        let written = self.written();
        let records = written.streams.get(&stream).map_or(&[][..], Vec::as_slice);
        let after = usize::try_from(after).unwrap().min(records.len());
        Ok(records[after..]
            .iter()
            .map(|at| Recorded::decode(&written.records[*at]).unwrap())
            .collect())
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        let written = self.written();
        let records = (1..).zip(&written.records).skip(usize::try_from(after).unwrap());
        Ok(records
            .take(limit)
            .map(|(position, bytes)| RawRecord { position, bytes: bytes.clone() })
            .collect())
    }

    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        Ok(self.written().commands.get(id).cloned())
    }

    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.written().blobs.get(&hash).cloned())
    }

    fn head(&self) -> Head {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.health.subscribe()
    }
}
