//! Streams: what a server with JetStream keeps for us, and how it gets there.
//!
//! *Promises.* A stream that is missing is made; one that exists with settings that fit is left alone; one that does
//! not fit is refused with the difference, and what would go there waits. Nothing counts as there before the stream has
//! acknowledged it.
//!
//! *Not here.* What is put into them: events come from the relay, goals from whoever publishes them.

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

/// How long the server may take for an answer or an acknowledgement.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// JetStream over this connection. Each request has a limit, which the connection itself does not set.
pub(super) fn context(client: &Client) -> jetstream::Context {
    ContextBuilder::new().timeout(ANSWER_MAX).build(client.clone())
}
