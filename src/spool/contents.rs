//! The contents of a spool: what is there, in memory, and its files.

use std::{collections::HashMap, io};

use ai_factory_ports::uploads::UploadError;
use ai_factory_schemas::{answer::Uploaded, text::BlobHash, time::Timestamp};

use super::{
    directory::{Directory, FoundFile, SpoolName},
    limits::{SPOOL_AGE_MAX, SPOOL_BYTES_MAX, SPOOL_CONTENT_BYTES_MIN},
    metrics::SpoolMetrics,
};

/// A content.
#[derive(Clone, Copy)]
struct SpooledContent {
    /// The size of the whole, as its first part declared it.
    bytes: u64,
    received: u64,
    is_complete: bool,
    asked: Timestamp,
}

impl SpooledContent {
    /// The room that it takes, in bytes: from its first part on that of the whole, so that every
    /// upload that was begun can be finished.
    fn room(&self) -> u64 {
        room_of(self.bytes)
    }

    /// The name of its file.
    fn name(&self, hash: BlobHash) -> SpoolName {
        SpoolName { hash, part_of: (!self.is_complete).then_some(self.bytes) }
    }
}

fn room_of(bytes: u64) -> u64 {
    bytes.max(SPOOL_CONTENT_BYTES_MIN)
}

/// All contents.
pub(crate) struct Contents {
    directory: Directory,
    entries: HashMap<BlobHash, SpooledContent>,
    /// The room that they take together, in bytes.
    bytes: u64,
    /// The time of the present call.
    now: Timestamp,
    /// Nothing expires before this time, in microseconds.
    next_expiry: i64,
    metrics: SpoolMetrics,
}

impl Contents {
    /// What a directory has.
    pub(crate) fn open(directory: Directory, metrics: SpoolMetrics) -> io::Result<Self> {
        let mut entries: HashMap<BlobHash, SpooledContent> = HashMap::new();
        let mut found = directory.files()?;
        // Of a content that is there twice the complete file counts, which comes last.
        found.sort_by_key(|file| file.name.part_of.is_none());
        for FoundFile { name, bytes: received, asked } in found {
            let (bytes, is_complete) = (name.part_of.unwrap_or(received), name.part_of.is_none());
            if received > bytes {
                directory.remove(name)?;
                continue;
            }
            let entry = SpooledContent { bytes, received, is_complete, asked };
            if let Some(other) = entries.insert(name.hash, entry) {
                directory.remove(other.name(name.hash))?;
            }
        }
        let bytes = entries.values().map(SpooledContent::room).sum();
        let now = Timestamp::default();
        Ok(Self { directory, entries, bytes, now, next_expiry: i64::MIN, metrics })
    }

    /// Begins a call at `now`: drops what has expired.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.now = now;
        if now.as_micros() < self.next_expiry {
            return;
        }
        let age_max = i64::try_from(SPOOL_AGE_MAX.as_micros()).unwrap_or(i64::MAX);
        let oldest = now.as_micros().saturating_sub(age_max);
        let expired = self.entries.iter().filter(|(_, entry)| entry.asked.as_micros() <= oldest);
        let expired: Vec<_> = expired.map(|(hash, _)| *hash).collect();
        for hash in expired {
            match self.drop_content(hash) {
                Ok(()) => self.metrics.expired(),
                Err(error) => tracing::warn!(%error, "an expired upload cannot be removed"),
            }
        }
        let asked = self.entries.values().map(|entry| entry.asked).min().unwrap_or(now);
        self.next_expiry = asked.as_micros().saturating_add(age_max);
        self.metrics.in_use(self.bytes);
    }

    /// Whether a content is complete; it is kept for its full age again, and so is a part of it.
    pub(crate) fn has(&mut self, hash: BlobHash) -> bool {
        self.note_asked(hash);
        self.entries.get(&hash).is_some_and(|entry| entry.is_complete)
    }

    /// Stores a part, as the port says.
    pub(crate) fn put(
        &mut self,
        hash: BlobHash,
        bytes: u64,
        offset: u64,
        part: &[u8],
    ) -> Result<Uploaded, UploadError> {
        if let Some(known) = self.entries.get(&hash).filter(|entry| entry.is_complete) {
            let received = known.received;
            self.note_asked(hash);
            return Ok(Uploaded { hash, received, complete: true });
        }
        check_end(bytes, offset, part)?;
        self.admit(hash, bytes)?;
        let received = self.received_before(hash, bytes, offset, part)?;
        let known = usize::try_from(received - offset).unwrap_or(usize::MAX);
        let new = part.get(known..).unwrap_or_default();
        if received == bytes || !new.is_empty() {
            let name = SpoolName { hash, part_of: Some(bytes) };
            self.directory.append(name, received, new).map_err(|error| storage(&error))?;
            self.note_received(hash, bytes, received + new.len() as u64);
        }
        let received = received + new.len() as u64;
        if received < bytes {
            return Ok(Uploaded { hash, received, complete: false });
        }
        self.complete(hash)?;
        Ok(Uploaded { hash, received, complete: true })
    }

    /// How much was received of an incomplete content, all of it as this part has it, too. A part
    /// at offset 0 that contradicts what was received begins the content again: otherwise a wrong
    /// upload would block the right one.
    fn received_before(
        &mut self,
        hash: BlobHash,
        bytes: u64,
        offset: u64,
        part: &[u8],
    ) -> Result<u64, UploadError> {
        let Some(known) = self.entries.get(&hash).copied() else {
            return check_begin(0, offset).map(|()| 0);
        };
        let fault = if known.bytes == bytes {
            check_begin(known.received, offset)?;
            let overlap = usize::try_from(known.received - offset).unwrap_or(usize::MAX);
            let overlap = part.get(..overlap).unwrap_or(part);
            let same = self.directory.has_at(known.name(hash), offset, overlap);
            if same.map_err(|error| storage(&error))? {
                return Ok(known.received);
            }
            "the part differs from what was received before".to_owned()
        } else {
            format!("the content was begun as one of {} bytes, not of {bytes}", known.bytes)
        };
        if offset > 0 {
            let sentence = format!("{fault}: send the content again from offset 0");
            return Err(UploadError::Refused(sentence));
        }
        self.drop_content(hash).map_err(|error| storage(&error))?;
        Ok(0)
    }

    /// A complete content. A damaged one is dropped.
    pub(crate) fn content(&mut self, hash: BlobHash) -> Result<Option<Vec<u8>>, UploadError> {
        if !self.has(hash) {
            return Ok(None);
        }
        let read = match self.directory.read(SpoolName { hash, part_of: None }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|error| storage(&error))?),
        };
        if let Some(content) = read.filter(|content| BlobHash::of(content) == hash) {
            return Ok(Some(content));
        }
        self.drop_content(hash).map_err(|error| storage(&error))?;
        self.metrics.damaged();
        Ok(None)
    }

    /// Drops contents that nobody needs here any more.
    pub(crate) fn release(&mut self, hashes: &[BlobHash]) -> Result<(), UploadError> {
        for hash in hashes {
            self.drop_content(*hash).map_err(|error| storage(&error))?;
        }
        Ok(())
    }

    /// Checks that there is room for the whole of a content.
    fn admit(&self, hash: BlobHash, bytes: u64) -> Result<(), UploadError> {
        let others = self.bytes - self.entries.get(&hash).map_or(0, SpooledContent::room);
        if others.saturating_add(room_of(bytes)) > SPOOL_BYTES_MAX {
            return Err(UploadError::Full { bytes: others, bytes_max: SPOOL_BYTES_MAX });
        }
        Ok(())
    }

    /// Notes the bytes of an incomplete content that are on disk.
    fn note_received(&mut self, hash: BlobHash, bytes: u64, received: u64) {
        let entry = SpooledContent { bytes, received, is_complete: false, asked: self.now };
        self.bytes += entry.room();
        if let Some(known) = self.entries.insert(hash, entry) {
            self.bytes -= known.room();
        }
        self.metrics.in_use(self.bytes);
        self.note_asked(hash);
    }

    /// Completes a content all of whose bytes are on disk. One without its hash is dropped.
    fn complete(&mut self, hash: BlobHash) -> Result<(), UploadError> {
        let Some(entry) = self.entries.get_mut(&hash) else { return Ok(()) };
        let name = entry.name(hash);
        let actual = self.directory.hash_of(name).map_err(|error| storage(&error))?;
        if actual == hash {
            self.directory.complete(name).map_err(|error| storage(&error))?;
            entry.is_complete = true;
            return Ok(());
        }
        self.drop_content(hash).map_err(|error| storage(&error))?;
        self.metrics.damaged();
        Err(UploadError::Refused(format!(
            "the bytes received have the hash {actual}, not {hash}: send the content again from offset 0"
        )))
    }

    /// Keeps a content for its full age again. The file's time only matters after a restart: if it
    /// cannot be set, the content is dropped earlier then.
    fn note_asked(&mut self, hash: BlobHash) {
        let Some(entry) = self.entries.get_mut(&hash) else { return };
        entry.asked = self.now;
        if let Err(error) = self.directory.note(entry.name(hash), self.now) {
            tracing::debug!(%error, "the age of an upload cannot be noted");
        }
    }

    fn drop_content(&mut self, hash: BlobHash) -> io::Result<()> {
        let Some(entry) = self.entries.get(&hash) else { return Ok(()) };
        self.directory.remove(entry.name(hash))?;
        self.bytes -= entry.room();
        self.entries.remove(&hash);
        self.metrics.in_use(self.bytes);
        Ok(())
    }
}

/// Checks that a part begins within what was received.
fn check_begin(received: u64, offset: u64) -> Result<(), UploadError> {
    if offset <= received {
        return Ok(());
    }
    Err(UploadError::Refused(format!(
        "the part begins at {offset}, but {received} bytes were received: go on from offset {received}"
    )))
}

/// Checks that a part ends within the content.
fn check_end(bytes: u64, offset: u64, part: &[u8]) -> Result<(), UploadError> {
    let end = offset.saturating_add(part.len() as u64);
    if end <= bytes {
        return Ok(());
    }
    Err(UploadError::Refused(format!("the content has {bytes} bytes, but {end} were sent")))
}

fn storage(error: &io::Error) -> UploadError {
    UploadError::Storage(error.to_string())
}
