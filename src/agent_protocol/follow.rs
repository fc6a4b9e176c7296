//! Notifies waiting tasks of new events of a session.
//!
//! *Promises.* A task that subscribes first and reads the journal afterwards misses nothing:
//! earlier events are in the journal, later ones are notified.
//!
//! *Limits.* The journal's tail is read once for all waiting tasks, `CHUNK_EVENTS_MAX` records at a
//! time, and only while a task waits.

use std::{collections::HashMap, sync::Arc};

use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{envelope::Routing, id::StreamId};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

/// Number of records read at once.
const CHUNK_EVENTS_MAX: usize = 64;

/// The waiting tasks, by stream.
#[derive(Default)]
pub struct StreamWatchers(Mutex<HashMap<StreamId, watch::Sender<u64>>>);

/// A subscription. The value is the position of the newest notified event.
pub struct StreamWatch {
    watchers: Arc<StreamWatchers>,
    stream: StreamId,
    positions: watch::Receiver<u64>,
}

impl StreamWatchers {
    fn streams(&self) -> MutexGuard<'_, HashMap<StreamId, watch::Sender<u64>>> {
        self.0.lock()
    }

    /// Subscribes to future events of a stream.
    pub fn of(self: &Arc<Self>, stream: StreamId) -> StreamWatch {
        let positions = self.streams().entry(stream).or_default().subscribe();
        StreamWatch { watchers: Arc::clone(self), stream, positions }
    }

    /// Reads the journal's tail and notifies. Ends with the journal.
    pub async fn run(self: Arc<Self>, journal: Arc<dyn Journal>) {
        let mut heads = journal.watch();
        let mut position = heads.borrow_and_update().position;
        while heads.changed().await.is_ok() {
            let head = heads.borrow_and_update().position;
            // A later subscriber finds everything up to `head` in the journal.
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
                        && let Some(sender) = streams.get(&stream)
                    {
                        sender.send_replace(record.position);
                    }
                }
            }
        }
    }
}

impl StreamWatch {
    /// Waits for an event that was not notified yet.
    pub async fn next(&mut self) {
        if self.positions.changed().await.is_err() {
            // The sender lives as long as this subscription.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for StreamWatch {
    fn drop(&mut self) {
        let mut streams = self.watchers.streams();
        if streams.get(&self.stream).is_some_and(|sender| sender.receiver_count() <= 1) {
            streams.remove(&self.stream);
        }
    }
}
