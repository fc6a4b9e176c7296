//! Whether there is a connection, and since when.

use tokio::time::Instant;

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// How often the connection was lost, or failed at first.
    pub losses: u64,
    /// Since when there is one again after a loss.
    pub back_since: Option<Instant>,
    /// Since when there has been none; `None` while there is one.
    pub lost_since: Option<Instant>,
}

impl ConnectionState {
    /// No connection yet.
    pub(super) fn new() -> Self {
        Self { losses: 0, back_since: None, lost_since: Some(Instant::now()) }
    }

    pub(super) fn note_connected(&mut self) {
        self.lost_since = None;
        self.back_since = (self.losses > 0).then(Instant::now);
    }

    pub(super) fn note_lost(&mut self) {
        self.losses += 1;
        self.lost_since.get_or_insert_with(Instant::now);
    }
}
