//! The part of an append that runs on the caller's thread, to spare the writer: checks, encoding,
//! look-ups.

use ai_factory_ports::journal::{Append, AppendError, Command};
use ai_factory_schemas::{
    envelope::SEAL_BYTES_MAX,
    id::StreamId,
    limit::{APPEND_EVENTS_MAX, BLOB_BYTES_MAX, RECORD_BYTES_MAX},
    text::Blob,
};

use super::{
    chunk::AppliedCommand, error::StorageError, read::SealedSegments, sequencer::Proposal,
    settings::APPEND_BYTES_MAX,
};

/// An append that is valid in itself. The sequencer decides whether it fits the journal.
pub(super) struct PreparedAppend {
    pub(super) proposal: Proposal,
    pub(super) blobs: Vec<Blob>,
    /// Of records and blobs.
    pub(super) bytes: usize,
    /// Of the caller, current while no further segment is sealed.
    pub(super) sealed_lookup: SealedLookup,
}

/// What the sealed segments know about an append's stream and command.
#[derive(Clone, Copy)]
pub(super) struct SealedLookup {
    /// The number of sealed segments when the look-up began.
    segments: usize,
    pub(super) version: u64,
    pub(super) effect: Option<AppliedCommand>,
}

impl SealedLookup {
    pub(super) fn of(
        sealed_segments: &SealedSegments,
        stream: StreamId,
        command: Option<&Command>,
    ) -> Result<Self, StorageError> {
        let segments = sealed_segments.count();
        if segments == 0 {
            return Ok(Self { segments, version: 0, effect: None });
        }
        let effect =
            command.map(|command| sealed_segments.effect(&command.id)).transpose()?.flatten();
        Ok(Self { segments, version: sealed_segments.last_version(stream)?, effect })
    }

    /// Whether no segment was sealed since.
    pub(super) fn is_current(&self, sealed_segments: &SealedSegments) -> bool {
        self.segments == sealed_segments.count()
    }
}

/// Checks and encodes an append, and looks up what the sealed segments know of it.
pub(super) fn prepare(
    append: Append,
    source: &str,
    sealed_segments: &SealedSegments,
) -> Result<PreparedAppend, AppendError> {
    let Append { stream, expected, events, command, blobs } = append;
    let refuse = |reason: String| Err(AppendError::Refused(reason));
    if events.is_empty() {
        return refuse(format!("an append to {stream} without events: add at least one"));
    }
    if events.len() > APPEND_EVENTS_MAX {
        let count = events.len();
        return refuse(format!(
            "{count} events in one append to {stream}: at most {APPEND_EVENTS_MAX}, split it"
        ));
    }
    let mut bytes = 0;
    let mut records = Vec::with_capacity(events.len());
    for draft in &events {
        let name = draft.event.name();
        if draft.event.category() != stream.category {
            return refuse(format!(
                "`{name}` does not belong in {stream}: it belongs in a {} stream",
                draft.event.category()
            ));
        }
        let json = draft.encode(source, stream).map_err(|error| {
            AppendError::Refused(format!("`{name}` cannot be encoded: {error}"))
        })?;
        let length = json.len() + SEAL_BYTES_MAX;
        if length > RECORD_BYTES_MAX {
            return refuse(format!(
                "`{name}` takes {length} bytes, at most {RECORD_BYTES_MAX}: put large texts into blobs"
            ));
        }
        bytes += length;
        records.push(json);
    }
    for blob in &blobs {
        let length = blob.bytes().len();
        if length > BLOB_BYTES_MAX {
            let hash = blob.hash();
            return refuse(format!(
                "the blob {hash} has {length} bytes, at most {BLOB_BYTES_MAX}: cut it"
            ));
        }
        bytes += length;
    }
    if bytes > APPEND_BYTES_MAX {
        return refuse(format!(
            "an append to {stream} of {bytes} bytes: at most {APPEND_BYTES_MAX}, split it"
        ));
    }
    let sealed_lookup = SealedLookup::of(sealed_segments, stream, command.as_ref())?;
    let proposal = Proposal { stream, expected, records, command };
    Ok(PreparedAppend { proposal, blobs, bytes, sealed_lookup })
}
