//! Being told when something of a session is recorded.
//!
//! *Promises.* Whoever asks to be told, and then looks into the journal, misses nothing: what was recorded before is found,
//! and what is recorded later is told of.
//!
//! *Limits.* The journal's tail is read once for everybody, `CHUNK_EVENTS_MAX` records at a time, and only while somebody
//! waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ai_factory_actors::ports::journal::Journal;
use ai_factory_schemas::{envelope::Routing, id::StreamId};
use tokio::sync::watch;

/// How many records are read at once.
const CHUNK_EVENTS_MAX: usize = 64;

/// Who waits for news of which stream.
#[derive(Default)]
pub struct News(Mutex<HashMap<StreamId, watch::Sender<u64>>>);

/// Somebody who waits. The value is the position of the newest event that was told of.
pub struct Waiting {
    news: Arc<News>,
    stream: StreamId,
    told: watch::Receiver<u64>,
}

impl News {
    fn streams(&self) -> MutexGuard<'_, HashMap<StreamId, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news of a stream from now on.
    pub fn of(self: &Arc<Self>, stream: StreamId) -> Waiting {
        let told = self.streams().entry(stream).or_default().subscribe();
        Waiting { news: Arc::clone(self), stream, told }
    }

    /// Reads the journal's tail and tells whoever waits. Ends with the journal.
    pub async fn run(self: Arc<Self>, journal: Arc<dyn Journal>) {
        let mut heads = journal.watch();
        let mut position = heads.borrow_and_update().position;
        while heads.changed().await.is_ok() {
            let head = heads.borrow_and_update().position;
            // Who begins to wait after this finds what is recorded up to `head` in the journal.
            if self.streams().is_empty() {
                position = head;
            }
            while position < head {
                let records = match journal.read(position, CHUNK_EVENTS_MAX).await {
                    Ok(records) => records,
                    Err(error) => {
                        tracing::error!(%error, position, "the journal's tail cannot be read");
                        break;
                    }
                };
                let Some(last) = records.last() else { break };
                position = last.position;
                let streams = self.streams();
                for record in &records {
                    if let Ok(Routing { stream, .. }) = Routing::decode(&record.bytes)
                        && let Some(told) = streams.get(&stream)
                    {
                        told.send_replace(record.position);
                    }
                }
            }
        }
    }
}

impl Waiting {
    /// Waits for something that was not told of yet.
    pub async fn next(&mut self) {
        if self.told.changed().await.is_err() {
            // The sender is kept as long as this is.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut streams = self.news.streams();
        if streams.get(&self.stream).is_some_and(|told| told.receiver_count() <= 1) {
            streams.remove(&self.stream);
        }
    }
}
