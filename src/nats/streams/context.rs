//! JetStream over a connection.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{self, context::ContextBuilder},
};

/// Timeout of the server's replies and acknowledgements.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// JetStream over this connection. Each request has a timeout, which the connection itself does not
/// set.
pub(crate) fn context(client: &Client) -> jetstream::Context {
    ContextBuilder::new().timeout(ANSWER_MAX).build(client.clone())
}
