//! The queue of one subscriber of a bus: bounded in messages and in bytes, with a count of dropped
//! messages.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{message::Message, metrics::Counter};

/// The most bytes waiting for one subscriber, counted as the bus counts them. The default of a NATS
/// server for a slow client (`max_pending`).
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A queue for at most `messages_max` messages and [`QUEUE_BYTES_MAX`]: the writing and the reading
/// end.
pub fn bounded(messages_max: usize) -> (QueueSender, QueueReceiver) {
    bounded_counting(messages_max, Counter::default())
}

/// [`bounded`], with a counter of the messages that all queues of one bus dropped.
pub fn bounded_counting(messages_max: usize, lost_total: Counter) -> (QueueSender, QueueReceiver) {
    let (sender, messages) = mpsc::channel(messages_max.max(1));
    let lost = Arc::new(AtomicU64::new(0));
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
    (
        QueueSender { messages: sender, room, lost: Arc::clone(&lost), lost_total },
        QueueReceiver { messages, lost },
    )
}

/// A message, and the permit for its bytes.
struct QueuedMessage {
    message: Message,
    _room: OwnedSemaphorePermit,
}

/// The writing end.
pub struct QueueSender {
    messages: mpsc::Sender<QueuedMessage>,
    room: Arc<Semaphore>,
    lost: Arc<AtomicU64>,
    lost_total: Counter,
}

/// Why a message was not queued.
#[derive(Debug, PartialEq, Eq)]
pub enum PushError {
    /// The queue is full.
    Full(Message),
    /// The reading end is gone.
    Closed(Message),
}

impl QueueSender {
    /// Queues a message if there is room. Never waits.
    pub fn push(&self, message: Message) -> Result<(), PushError> {
        if self.messages.is_closed() {
            return Err(PushError::Closed(message));
        }
        // A message larger than the whole queue takes all of it.
        let bytes = message.bytes().min(QUEUE_BYTES_MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return Err(PushError::Full(message));
        };
        self.messages.try_send(QueuedMessage { message, _room: room }).map_err(|refused| {
            match refused {
                mpsc::error::TrySendError::Full(held) => PushError::Full(held.message),
                mpsc::error::TrySendError::Closed(held) => PushError::Closed(held.message),
            }
        })
    }

    /// Counts a message that did not fit.
    pub fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.lost_total.inc();
    }
}

/// The reading end. Dropping it closes the queue.
pub struct QueueReceiver {
    messages: mpsc::Receiver<QueuedMessage>,
    lost: Arc<AtomicU64>,
}

impl QueueReceiver {
    /// The next message; `None` after the writing end is gone and all is read.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await.map(|held| held.message)
    }

    /// A message that has already arrived, if there is one.
    pub fn try_next(&mut self) -> Option<Message> {
        self.messages.try_recv().ok().map(|held| held.message)
    }

    /// Messages that did not fit so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message::new("a".parse().unwrap(), vec![b'x'; bytes])
    }

    #[test]
    fn what_is_read_makes_room_and_one_that_is_larger_than_all_of_it_has_it_to_itself() {
        let (feed, mut waiting) = bounded(8);
        let half = QUEUE_BYTES_MAX / 2;
        feed.push(message(half)).unwrap();
        feed.push(message(half)).unwrap();
        assert_eq!(feed.push(message(1)), Err(PushError::Full(message(1))));
        assert_eq!(waiting.try_next().unwrap().payload.len(), half);
        feed.push(message(1)).unwrap();
        assert!(matches!(feed.push(message(half)), Err(PushError::Full(_))));
        while waiting.try_next().is_some() {}
        feed.push(message(QUEUE_BYTES_MAX + 1)).unwrap();
        assert!(matches!(feed.push(message(1)), Err(PushError::Full(_))));
        assert!(waiting.try_next().is_some());
        drop(waiting);
        assert!(matches!(feed.push(message(1)), Err(PushError::Closed(_))));
    }

    #[test]
    fn a_message_that_does_not_fit_by_number_takes_no_room() {
        let (feed, mut waiting) = bounded(1);
        feed.push(message(1)).unwrap();
        for _ in 0..3 {
            assert!(matches!(feed.push(message(QUEUE_BYTES_MAX / 2)), Err(PushError::Full(_))));
        }
        assert!(waiting.try_next().is_some());
        feed.push(message(QUEUE_BYTES_MAX)).unwrap();
    }
}
