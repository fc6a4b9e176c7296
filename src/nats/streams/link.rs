//! A connection that may be lost, from the view of a stream's publisher.

use std::sync::Arc;

use tokio::sync::watch;

use super::pipeline::StreamError;
use crate::bus::NatsBus;

/// A connection that may be lost.
pub(super) struct Link {
    pub(super) bus: Arc<NatsBus>,
    connections: watch::Receiver<u64>,
}

impl Link {
    pub(super) fn new(bus: Arc<NatsBus>) -> Self {
        Self { connections: bus.connections(), bus }
    }

    /// Waits for a connection; returns whether its server has JetStream.
    pub(super) async fn up(&mut self) -> Result<bool, StreamError> {
        self.connections.mark_unchanged();
        if !self.bus.is_connected() && self.connections.changed().await.is_err() {
            return Err(StreamError::Failed("the connection to NATS is closed".to_owned()));
        }
        Ok(self.bus.server().has_jetstream)
    }

    /// Waits for a connection other than that of [`Self::up`]: it may lead to another server, with
    /// another stream or none. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.connections.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// An error if there is no connection: [`Self::up`] waits for the next one.
    pub(super) fn ensure_up(&self) -> Result<(), StreamError> {
        if self.bus.is_connected() { Ok(()) } else { Err(StreamError::Restart) }
    }
}
