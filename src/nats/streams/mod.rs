//! JetStream streams of the factory, and publication into them.
//!
//! *Promises.* A missing stream is created; an existing one with suitable settings is left alone;
//! an unsuitable one is refused with the difference, and its messages wait. A message counts as
//! stored only after the stream's acknowledgement.
//!
//! *Not here.* The content: events come from the relay, goals from their publishers.

mod context;
mod dead_letter_publisher;
mod dead_letters;
mod ensure;
mod event_history;
mod events;
mod goals_queue;
mod journal_stream;
mod link;
mod pipeline;
mod resume_point;
mod sessions;
mod settings;
mod stored;

pub(super) use self::{
    context::context,
    dead_letters::DeadLetterStore,
    ensure::{Trouble, base, ensure, is_before, server},
    stored::{Stored, stored, stored_from},
};
pub use self::{
    dead_letter_publisher::DeadLetterPublisher,
    dead_letters::{
        DeadLetter, DeadLetterError, DeadLetters, REASON as DEAD_REASON, Undeliverable,
    },
    event_history::{EventHistory, EventHistoryError},
    goals_queue::{EnqueueReceipt, GoalsQueue, QueueError, WaitingGoal},
    journal_stream::{JournalStream, KnownPosition, ResumePoint},
    pipeline::StreamError,
    resume_point::JournalMark,
    sessions::SessionsBucket,
    settings::StreamsSettings,
};
