//! Uploads in memory: the port with all its promises but the files.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ai_factory::spool::{SPOOL_AGE_MAX, SPOOL_BYTES_MAX, SPOOL_CONTENT_BYTES_MIN};
use ai_factory_ports::{
    clock::Clock,
    uploads::{UploadError, Uploads},
};
use ai_factory_schemas::{answer::Uploaded, text::BlobHash, time::Timestamp};

/// Uploads that are lost with their last handle.
pub struct MemoryUploads {
    clock: Arc<dyn Clock>,
    contents: Mutex<HashMap<BlobHash, MemoryUpload>>,
}

#[derive(Default)]
struct MemoryUpload {
    bytes: u64,
    received: Vec<u8>,
    is_complete: bool,
    asked: Timestamp,
}

impl MemoryUploads {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, contents: Mutex::default() }
    }

    /// What has not expired, with the age of these contents set back.
    fn contents(&self, asked: &[BlobHash]) -> MutexGuard<'_, HashMap<BlobHash, MemoryUpload>> {
        let now = self.clock.now();
        let oldest = now.as_micros() - i64::try_from(SPOOL_AGE_MAX.as_micros()).unwrap();
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.retain(|_, content| content.asked.as_micros() > oldest);
        for hash in asked {
            if let Some(content) = contents.get_mut(hash) {
                content.asked = now;
            }
        }
        contents
    }
}

#[async_trait::async_trait]
impl Uploads for MemoryUploads {
    async fn has(&self, hashes: Vec<BlobHash>) -> Result<Vec<bool>, UploadError> {
        let contents = self.contents(&hashes);
        let is_complete = |hash| contents.get(hash).is_some_and(|content| content.is_complete);
        Ok(hashes.iter().map(is_complete).collect())
    }

    async fn put(
        &self,
        hash: BlobHash,
        bytes: u64,
        offset: u64,
        part: Vec<u8>,
    ) -> Result<Uploaded, UploadError> {
        let mut contents = self.contents(&[]);
        let now = self.clock.now();
        if let Some(whole) = contents.get_mut(&hash).filter(|content| content.is_complete) {
            whole.asked = now;
            return Ok(Uploaded { hash, received: whole.bytes, complete: true });
        }
        let refused = |sentence: String| Err(UploadError::Refused(sentence));
        let end = offset.saturating_add(part.len() as u64);
        if end > bytes {
            return refused(format!("the content has {bytes} bytes, but {end} were sent"));
        }
        let room = |bytes: u64| bytes.max(SPOOL_CONTENT_BYTES_MIN);
        let others = contents.iter().filter(|(other, _)| **other != hash);
        let others: u64 = others.map(|(_, content)| room(content.bytes)).sum();
        if others.saturating_add(room(bytes)) > SPOOL_BYTES_MAX {
            return Err(UploadError::Full { bytes: others, bytes_max: SPOOL_BYTES_MAX });
        }
        let known = contents.get(&hash);
        let received = known.map_or(&[][..], |content| &content.received);
        let is_other = known.is_some_and(|content| content.bytes != bytes);
        let at = usize::try_from(offset).unwrap();
        if !is_other && at > received.len() {
            return refused(format!("go on from offset {}", received.len()));
        }
        if is_other || received[at..].iter().zip(&part).any(|(known, sent)| known != sent) {
            if offset > 0 {
                return refused("send the content again from offset 0".to_owned());
            }
            contents.remove(&hash);
        }
        let known = contents.get(&hash).map_or(0, |content| content.received.len());
        let new = part.get(known - at..).unwrap_or_default();
        if new.is_empty() && bytes > 0 {
            return Ok(Uploaded { hash, received: known as u64, complete: false });
        }
        let content = contents.entry(hash).or_default();
        content.received.extend(new);
        (content.bytes, content.asked) = (bytes, now);
        let received = content.received.len() as u64;
        content.is_complete = received == bytes;
        if content.is_complete && BlobHash::of(&content.received) != hash {
            contents.remove(&hash);
            return refused("send the content again from offset 0".to_owned());
        }
        Ok(Uploaded { hash, received, complete: received == bytes })
    }

    async fn content(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, UploadError> {
        let contents = self.contents(&[hash]);
        let content = contents.get(&hash).filter(|content| content.is_complete);
        Ok(content.map(|content| content.received.clone()))
    }

    async fn release(&self, hashes: Vec<BlobHash>) -> Result<(), UploadError> {
        self.contents(&[]).retain(|hash, _| !hashes.contains(hash));
        Ok(())
    }
}
