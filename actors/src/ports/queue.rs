//! What waits for one subscriber of a bus: bounded in messages and in bytes, with a count of what did not fit.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::bus::Message;

/// The most that waits for one subscriber, in bytes as a bus counts them. As much as a NATS server keeps for a client that does not
/// keep up, unless it is told otherwise (`max_pending`).
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A queue for at most so many messages and [`QUEUE_BYTES_MAX`]: the ends of whoever hands messages over, and of who reads them.
pub fn bounded(messages_max: usize) -> (Feed, Waiting) {
    let (sender, messages) = mpsc::channel(messages_max.max(1));
    let lost = Arc::new(AtomicU64::new(0));
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
    (Feed { messages: sender, room, lost: Arc::clone(&lost) }, Waiting { messages, lost })
}

/// A message, and the room that it takes.
struct Held {
    message: Message,
    _room: OwnedSemaphorePermit,
}

/// The end of whoever hands messages over.
pub struct Feed {
    messages: mpsc::Sender<Held>,
    room: Arc<Semaphore>,
    lost: Arc<AtomicU64>,
}

/// What became of a message that was not handed over.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no room for it.
    Full(Message),
    /// Nobody reads any more.
    Gone(Message),
}

impl Feed {
    /// Hands a message over, if there is room for it. Never waits.
    pub fn hand(&self, message: Message) -> Result<(), Refused> {
        if self.messages.is_closed() {
            return Err(Refused::Gone(message));
        }
        // One that is larger than all of the room has it to itself.
        let bytes = message.bytes().min(QUEUE_BYTES_MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return Err(Refused::Full(message));
        };
        self.messages.try_send(Held { message, _room: room }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(held) => Refused::Full(held.message),
            mpsc::error::TrySendError::Closed(held) => Refused::Gone(held.message),
        })
    }

    /// Counts a message that did not fit.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The end of who reads. Closed when it is dropped.
pub struct Waiting {
    messages: mpsc::Receiver<Held>,
    lost: Arc<AtomicU64>,
}

impl Waiting {
    /// The next message; `None` once nobody hands any over and all is read.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await.map(|held| held.message)
    }

    /// A message that is there.
    pub fn try_next(&mut self) -> Option<Message> {
        self.messages.try_recv().ok().map(|held| held.message)
    }

    /// How many did not fit by now.
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
        feed.hand(message(half)).unwrap();
        feed.hand(message(half)).unwrap();
        assert_eq!(feed.hand(message(1)), Err(Refused::Full(message(1))));
        assert_eq!(waiting.try_next().unwrap().payload.len(), half);
        feed.hand(message(1)).unwrap();
        assert!(matches!(feed.hand(message(half)), Err(Refused::Full(_))));
        while waiting.try_next().is_some() {}
        feed.hand(message(QUEUE_BYTES_MAX + 1)).unwrap();
        assert!(matches!(feed.hand(message(1)), Err(Refused::Full(_))));
        assert!(waiting.try_next().is_some());
        drop(waiting);
        assert!(matches!(feed.hand(message(1)), Err(Refused::Gone(_))));
    }

    #[test]
    fn a_message_that_does_not_fit_by_number_takes_no_room() {
        let (feed, mut waiting) = bounded(1);
        feed.hand(message(1)).unwrap();
        for _ in 0..3 {
            assert!(matches!(feed.hand(message(QUEUE_BYTES_MAX / 2)), Err(Refused::Full(_))));
        }
        assert!(waiting.try_next().is_some());
        feed.hand(message(QUEUE_BYTES_MAX)).unwrap();
    }
}
