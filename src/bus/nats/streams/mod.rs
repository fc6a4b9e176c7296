//! JetStream streams of the factory, and publication into them.
//!
//! *Promises.* A missing stream is created; an existing one with suitable settings is left alone;
//! an unsuitable one is refused with the difference, and its messages wait. A message counts as
//! stored only after the stream's acknowledgement.
//!
//! *Not here.* The content: events come from the relay, goals from their publishers.

mod dead;
mod ensure;
mod events;
mod journal_stream;
mod link;
mod past;
mod pipeline;
mod place;
mod sessions;
mod settings;
mod stored;
mod undertaker;
mod waiting;

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{self, context::ContextBuilder},
};

pub(super) use self::{
    dead::Letters,
    ensure::{Trouble, base, ensure, is_before, server},
    stored::{Stored, stored, stored_from},
};
pub use self::{
    dead::{DeadError, DeadLetter, DeadLetters, REASON as DEAD_REASON, Undeliverable},
    journal_stream::{JournalStream, Known, Resumed},
    past::{PastError, PastEvents},
    pipeline::Broken,
    place::JournalMark,
    sessions::SessionsBucket,
    settings::StreamsSettings,
    undertaker::Undertaker,
    waiting::{GoalsQueue, QueueError, Taken, WaitingGoal},
};

/// Timeout of the server's replies and acknowledgements.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// JetStream over this connection. Each request has a timeout, which the connection itself does not
/// set.
pub(super) fn context(client: &Client) -> jetstream::Context {
    ContextBuilder::new().timeout(ANSWER_MAX).build(client.clone())
}
