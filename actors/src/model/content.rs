//! The content of a call: messages, tools and schema, from the journal by their hashes.
//!
//! Consecutive calls of a conversation share nearly all of their messages, so messages are cached.

use std::sync::Arc;

use ai_factory_ports::{journal::Journal, model::ModelCall};
use ai_factory_schemas::{chat::ChatMessage, problem::Problem, request::Complete, text::BlobHash};
use lru::LruCache;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

/// Messages that are cached, in bytes of their blobs.
const CACHED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Loads contents, and caches messages.
pub(super) struct CallContents(Mutex<MessageCache>);

struct MessageCache {
    messages: LruCache<BlobHash, (Arc<ChatMessage>, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl MessageCache {
    fn new(bytes_max: usize) -> Self {
        Self { messages: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    fn get(&mut self, hash: &BlobHash) -> Option<Arc<ChatMessage>> {
        self.messages.get(hash).map(|(message, _)| Arc::clone(message))
    }

    /// Caches a message, in the place of those that were not used for the longest time.
    fn put(&mut self, hash: BlobHash, message: Arc<ChatMessage>, bytes: usize) {
        if let Some((_, before)) = self.messages.put(hash, (message, bytes)) {
            self.bytes -= before;
        }
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some((_, (_, oldest))) = self.messages.pop_lru()
        {
            self.bytes -= oldest;
        }
    }
}

impl Default for CallContents {
    fn default() -> Self {
        Self(Mutex::new(MessageCache::new(CACHED_BYTES_MAX)))
    }
}

impl CallContents {
    /// The call as the model is asked.
    pub(super) async fn load(
        &self,
        journal: &dyn Journal,
        asked: &Complete,
    ) -> Result<ModelCall, Problem> {
        let request = &asked.request;
        let tools = match request.tools {
            Some(hash) => blob(journal, hash, "the tools").await?,
            None => Vec::new(),
        };
        let schema = match request.schema {
            Some(hash) => Some(Arc::new(blob(journal, hash, "the schema").await?)),
            None => None,
        };
        let hashes = request.messages.iter().map(|message| message.hash).collect();
        Ok(ModelCall {
            endpoint: asked.endpoint.clone(),
            parameters: request.parameters,
            messages: self.messages(journal, hashes).await?,
            tools: tools.into(),
            schema,
        })
    }

    async fn messages(
        &self,
        journal: &dyn Journal,
        hashes: Vec<BlobHash>,
    ) -> Result<Vec<Arc<ChatMessage>>, Problem> {
        let mut found: Vec<_> = {
            let mut cache = self.0.lock();
            hashes.iter().map(|hash| cache.get(hash)).collect()
        };
        let missing = hashes.iter().zip(&found).filter(|(_, found)| found.is_none());
        let missing: Vec<BlobHash> = missing.map(|(hash, _)| *hash).collect();
        let loaded = journal.blobs(missing.clone()).await.map_err(Problem::from)?;
        let mut loaded = missing.into_iter().zip(loaded);
        for slot in found.iter_mut().filter(|found| found.is_none()) {
            let Some((hash, bytes)) = loaded.next() else { break };
            let bytes = bytes.ok_or_else(|| gone(hash, "a message"))?;
            let message = ChatMessage::from_bytes(&bytes);
            let message = Arc::new(message.map_err(|fault| unread(hash, "a message", &fault))?);
            self.0.lock().put(hash, Arc::clone(&message), bytes.len());
            *slot = Some(message);
        }
        Ok(found.into_iter().flatten().collect())
    }
}

async fn blob<T: DeserializeOwned>(
    journal: &dyn Journal,
    hash: BlobHash,
    what: &str,
) -> Result<T, Problem> {
    let bytes = journal.blob(hash).await.map_err(Problem::from)?;
    let bytes = bytes.ok_or_else(|| gone(hash, what))?;
    serde_json::from_slice(&bytes).map_err(|fault| unread(hash, what, &fault))
}

fn gone(hash: BlobHash, what: &str) -> Problem {
    let hint = "`ai-factory verify` checks the whole journal";
    Problem::internal(format!("{what} of the call is not in the journal ({hash}); {hint}"))
}

fn unread(hash: BlobHash, what: &str, fault: &serde_json::Error) -> Problem {
    Problem::internal(format!("{what} of the call cannot be read ({hash}): {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_its_bytes_the_cache_forgets_what_was_not_used_for_the_longest_time() {
        let mut cache = MessageCache::new(10);
        let message = Arc::new(ChatMessage::User { text: "x".into() });
        let hashes = [b"a", b"b", b"c"].map(|name| BlobHash::of(name));
        cache.put(hashes[0], Arc::clone(&message), 4);
        cache.put(hashes[1], Arc::clone(&message), 4);
        assert!(cache.get(&hashes[0]).is_some());
        cache.put(hashes[2], Arc::clone(&message), 4);
        let kept = hashes.map(|hash| cache.get(&hash).is_some());
        assert_eq!((kept, cache.bytes), ([true, false, true], 8));
        cache.put(hashes[1], message, 11);
        assert_eq!((cache.messages.len(), cache.bytes), (0, 0));
    }
}
