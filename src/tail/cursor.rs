//! One follower's place in the journal.

use std::sync::Arc;

use ai_factory_ports::journal::{Head, ReadError};
use tokio::sync::watch;

use super::{record::TailRecord, shared::Tail};

/// A place in the journal that moves forward with each read.
pub struct TailCursor {
    tail: Arc<Tail>,
    heads: watch::Receiver<Head>,
    position: u64,
    /// The journal's end at the last read that gave nothing.
    read_in_vain_at: u64,
}

impl Tail {
    /// A cursor whose first record is the one after `position`.
    pub fn cursor(self: &Arc<Self>, position: u64) -> TailCursor {
        let heads = self.journal().watch();
        TailCursor { tail: Arc::clone(self), heads, position, read_in_vain_at: 0 }
    }
}

impl TailCursor {
    /// The last position that was read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The journal's last position.
    pub fn head(&self) -> u64 {
        self.tail.head().position
    }

    /// Continues after this position.
    pub fn move_to(&mut self, position: u64) {
        self.position = position;
        self.read_in_vain_at = 0;
    }

    /// The next records, at most `limit`; none at the journal's end. After an error, and when the
    /// future is dropped, the next read begins at the same record.
    pub async fn read(&mut self, limit: usize) -> Result<Vec<TailRecord>, ReadError> {
        let head = self.head();
        let read = self.tail.read(self.position, limit).await;
        match read.as_deref().map(<[_]>::last) {
            Ok(Some(last)) => self.position = last.position(),
            // Nothing was asked for.
            Ok(None) if limit == 0 => {}
            _ => self.read_in_vain_at = head,
        }
        read
    }

    /// Waits until a read may give something: there is more than was read, and after a failed or
    /// empty read more than there was then. `false` once the journal is gone. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        loop {
            let head = self.heads.borrow_and_update().position;
            if head > self.position.max(self.read_in_vain_at) {
                return true;
            }
            if self.heads.changed().await.is_err() {
                return false;
            }
        }
    }
}
