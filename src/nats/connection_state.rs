//! Whether there is a connection, and since when.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::NatsBus;

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

impl NatsBus {
    /// Receives every change of the connection. The sender is dropped once the connection is
    /// closed.
    pub fn connection_state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Waits until there has been no connection for `limit` without interruption. Never returns
    /// once the connection is closed.
    pub async fn disconnected_for(&self, limit: Duration) {
        let mut state = self.connection_state();
        loop {
            let since = state.borrow_and_update().lost_since;
            let over = async {
                match since.and_then(|since| since.checked_add(limit)) {
                    Some(over) => sleep_until(over).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = state.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = over => return,
            }
        }
    }
}
