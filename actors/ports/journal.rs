//! The journal: the append-only source of truth.
//!
//! An implementation promises:
//! - an append is whole or absent, and on disk before it is acknowledged (I-4);
//! - positions and versions count from 1, have no gaps and never change (I-6);
//! - an append that names a wrong version changes nothing;
//! - a command id takes effect at most once; the second time gets the first answer (I-5);
//! - what was acknowledged is in the very next read (I-13);
//! - its health says why it accepts no more appends; the first reason stays, and reads go on.

use std::{sync::Arc, time::Duration};

use ai_factory_schemas::{
    envelope::{ChainHash, EventDraft, Recorded},
    id::{CommandId, StreamId},
    text::{Blob, BlobHash},
};
use bytes::Bytes;
use tokio::sync::watch;

/// A command that takes effect at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its key.
    pub id: CommandId,
    /// Fingerprint of the request: the same key with another fingerprint is refused.
    pub fingerprint: BlobHash,
}

/// Events to add to one stream, all or none.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// The version that the stream must have; 0 for a stream that must not exist yet.
    pub expected: u64,
    /// At least one, at most [`ai_factory_schemas::limit::APPEND_EVENTS_MAX`], all of the stream's
    /// category.
    pub events: Vec<EventDraft>,
    /// The command that they answer, if it has a key.
    pub command: Option<Command>,
    /// The blobs that the events refer to.
    pub blobs: Vec<Blob>,
}

/// The place of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The stream; of a repeated append that of the first one.
    pub stream: StreamId,
    /// The position of the first event.
    pub first: u64,
    /// The position of the last event.
    pub last: u64,
    /// The stream's version after the last event.
    pub version: u64,
    /// Whether the command had already taken effect, and nothing was written.
    pub repeated: bool,
}

/// The end of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last position; 0 for an empty journal.
    pub position: u64,
    /// The hash of the last record.
    pub hash: ChainHash,
}

/// Why nothing was appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Another writer appended to the stream.
    #[error(
        "stream {stream} is at version {actual}, not {expected}: load it again and decide anew"
    )]
    WrongVersion {
        /// The stream.
        stream: StreamId,
        /// What the append named.
        expected: u64,
        /// The actual version.
        actual: u64,
    },
    /// The key was used for a different request.
    #[error("the key `{id}` was already used for a different request: use a new key")]
    CommandConflict {
        /// The key.
        id: CommandId,
    },
    /// The append breaks a limit or a rule of the journal.
    #[error("refused by the journal: {0}")]
    Refused(String),
    /// The writer's queue is full.
    #[error("the journal has too many appends waiting: try again in {} ms", retry_after.as_millis())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The disk failed. Nothing is acknowledged from here on; what was acknowledged stays.
    #[error("the journal cannot be written: {0}")]
    Storage(Arc<str>),
}

impl AppendError {
    /// Whether the same append may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}

/// Why nothing was read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// A record exists and cannot be read.
    #[error(
        "record {position} cannot be read: {reason}; `ai-factory verify` checks the whole journal"
    )]
    Undecodable {
        /// Its position.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk failed.
    #[error("the journal cannot be read: {0}")]
    Storage(Arc<str>),
}

/// Why a journal appends nothing. None of these passes: only opening the journal again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// It was opened for reading. Another process may be writing it.
    ReadOnly,
    /// Its owner closed it.
    Closed,
    /// Its files were removed, moved or replaced while it was open.
    FilesTaken,
    /// A write or a sync failed, or the writer ended unexpectedly.
    Storage,
}

impl RefusalCause {
    /// Whether nobody intended it.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::FilesTaken | Self::Storage)
    }
}

/// Whether a journal accepts appends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JournalHealth {
    /// It accepts appends. Single ones may be refused all the same.
    #[default]
    Accepting,
    /// It accepts none any more. What was acknowledged stays.
    Refusing {
        /// The kind of reason.
        cause: RefusalCause,
        /// The reason, for people.
        reason: Arc<str>,
    },
}

impl JournalHealth {
    /// Whether appends are accepted.
    pub const fn is_accepting(&self) -> bool {
        matches!(self, Self::Accepting)
    }

    /// Why it accepts no more appends, if something failed.
    pub fn failure(&self) -> Option<&Arc<str>> {
        match self {
            Self::Refusing { cause, reason } if cause.is_failure() => Some(reason),
            _ => None,
        }
    }
}

/// The stored bytes of one record, and its position.
#[derive(Clone, Debug)]
pub struct RawRecord {
    /// Its position.
    pub position: u64,
    /// The CloudEvents envelope.
    pub bytes: Bytes,
}

/// The append-only source of truth. The module's documentation has the promises of an
/// implementation.
#[async_trait::async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Adds events to one stream; returns when they are on disk.
    async fn append(&self, append: Append) -> Result<Appended, AppendError>;

    /// The events of one stream with a version above `after`, in order.
    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError>;

    /// At most `limit` stored records with a position above `after`, in order.
    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError>;

    /// Where the command with this key took effect, if it did.
    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError>;

    /// A blob's bytes.
    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError>;

    /// The bytes of these blobs, in the order asked; `None` for one that is not there.
    async fn blobs(&self, hashes: Vec<BlobHash>) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let mut blobs = Vec::with_capacity(hashes.len());
        for hash in hashes {
            blobs.push(self.blob(hash).await?);
        }
        Ok(blobs)
    }

    /// The sizes of these blobs in bytes, in the order asked; `None` for one that is not there.
    async fn blob_sizes(&self, hashes: Vec<BlobHash>) -> Result<Vec<Option<u64>>, ReadError> {
        let mut sizes = Vec::with_capacity(hashes.len());
        for hash in hashes {
            sizes.push(self.blob(hash).await?.map(|bytes| bytes.len() as u64));
        }
        Ok(sizes)
    }

    /// The end of the journal on disk.
    fn head(&self) -> Head;

    /// Notifies of each new end of the journal.
    fn watch(&self) -> watch::Receiver<Head>;

    /// Whether it accepts appends.
    fn health(&self) -> JournalHealth {
        self.watch_health().borrow().clone()
    }

    /// Notifies of each change of [`Self::health`].
    fn watch_health(&self) -> watch::Receiver<JournalHealth>;
}
