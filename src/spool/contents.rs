//! The contents of a spool: what is there, in memory, and its files.

use std::{collections::HashMap, io};

use ai_factory_ports::uploads::UploadError;
use ai_factory_schemas::{answer::Uploaded, text::BlobHash, time::Timestamp};

use super::{
    directory::Directory,
    limits::{SPOOL_AGE_MAX, SPOOL_BYTES_MAX, SPOOL_CONTENT_BYTES_MIN},
    metrics::SpoolMetrics,
};

/// A content.
struct SpooledContent {
    received: u64,
    is_complete: bool,
    asked: Timestamp,
}

impl SpooledContent {
    /// The room that it takes, in bytes.
    fn room(&self) -> u64 {
        self.received.max(SPOOL_CONTENT_BYTES_MIN)
    }
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
        found.sort_by_key(|file| file.is_complete);
        for file in found {
            let entry = SpooledContent {
                received: file.bytes,
                is_complete: file.is_complete,
                asked: file.asked,
            };
            if entries.insert(file.hash, entry).is_some() {
                directory.remove(file.hash, false)?;
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
        self.note_asked(hash);
        let known = self.entries.get(&hash);
        let received = known.map_or(0, |entry| entry.received);
        if known.is_some_and(|entry| entry.is_complete) {
            return Ok(Uploaded { hash, received, complete: true });
        }
        let new = new_part(received, bytes, offset, part)?;
        if received == bytes || !new.is_empty() {
            self.admit(hash, bytes)?;
            self.directory.append(hash, received, new).map_err(|error| storage(&error))?;
            self.note_received(hash, received + new.len() as u64);
        }
        let received = received + new.len() as u64;
        if received < bytes {
            return Ok(Uploaded { hash, received, complete: false });
        }
        self.complete(hash)?;
        Ok(Uploaded { hash, received, complete: true })
    }

    /// A complete content. A damaged one is dropped.
    pub(crate) fn content(&mut self, hash: BlobHash) -> Result<Option<Vec<u8>>, UploadError> {
        if !self.has(hash) {
            return Ok(None);
        }
        let read = match self.directory.read(hash) {
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

    /// Checks that there is room for the whole of a content.
    fn admit(&self, hash: BlobHash, bytes: u64) -> Result<(), UploadError> {
        let others = self.bytes - self.entries.get(&hash).map_or(0, SpooledContent::room);
        if others.saturating_add(bytes.max(SPOOL_CONTENT_BYTES_MIN)) > SPOOL_BYTES_MAX {
            return Err(UploadError::Full { bytes: others, bytes_max: SPOOL_BYTES_MAX });
        }
        Ok(())
    }

    /// Notes the bytes of an incomplete content that are on disk.
    fn note_received(&mut self, hash: BlobHash, received: u64) {
        let entry = SpooledContent { received, is_complete: false, asked: self.now };
        self.bytes += entry.room();
        if let Some(known) = self.entries.insert(hash, entry) {
            self.bytes -= known.room();
        }
        self.metrics.in_use(self.bytes);
        self.note_asked(hash);
    }

    /// Completes a content all of whose bytes are on disk.
    fn complete(&mut self, hash: BlobHash) -> Result<(), UploadError> {
        let actual = self.directory.hash_of_part(hash).map_err(|error| storage(&error))?;
        if actual != hash {
            self.drop_content(hash).map_err(|error| storage(&error))?;
            self.metrics.damaged();
            return Err(UploadError::Refused(format!(
                "the bytes received have the hash {actual}, not {hash}: send the content again from offset 0"
            )));
        }
        self.directory.complete(hash).map_err(|error| storage(&error))?;
        if let Some(entry) = self.entries.get_mut(&hash) {
            entry.is_complete = true;
        }
        Ok(())
    }

    /// Keeps a content for its full age again. The file's time only matters after a restart: if it
    /// cannot be set, the content is dropped earlier then.
    fn note_asked(&mut self, hash: BlobHash) {
        let Some(entry) = self.entries.get_mut(&hash) else { return };
        entry.asked = self.now;
        if let Err(error) = self.directory.note(hash, entry.is_complete, self.now) {
            tracing::debug!(%error, "the age of an upload cannot be noted");
        }
    }

    fn drop_content(&mut self, hash: BlobHash) -> io::Result<()> {
        let Some(entry) = self.entries.get(&hash) else { return Ok(()) };
        self.directory.remove(hash, entry.is_complete)?;
        self.bytes -= entry.room();
        self.entries.remove(&hash);
        self.metrics.in_use(self.bytes);
        Ok(())
    }
}

/// What of a part was not received before.
fn new_part(received: u64, bytes: u64, offset: u64, part: &[u8]) -> Result<&[u8], UploadError> {
    let refused = |sentence: String| Err(UploadError::Refused(sentence));
    if offset > received {
        return refused(format!(
            "the part begins at {offset}, but {received} bytes were received: go on from offset {received}"
        ));
    }
    let end = offset.saturating_add(part.len() as u64);
    if end > bytes || received > bytes {
        let end = end.max(received);
        return refused(format!("the content has {bytes} bytes, but {end} were sent"));
    }
    let known = usize::try_from(received - offset).unwrap_or(usize::MAX);
    Ok(part.get(known..).unwrap_or_default())
}

fn storage(error: &io::Error) -> UploadError {
    UploadError::Storage(error.to_string())
}
