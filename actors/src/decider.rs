//! What every decider is: a pure state machine over its events.
//!
//! *Promises.* No clock, no randomness, no await: the same inputs give the same events, for ever (I-9).
//! Whatever is decided can be evolved (I-1), and the state is the fold of the stream (I-2).

/// An event that cannot follow the ones before it. In a stream that only its decider wrote, this is
/// corruption or a bug; it is never a user's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot follow here: {why}")]
pub struct IllegalEvent {
    /// The event's name.
    pub event: &'static str,
    /// What speaks against it.
    pub why: &'static str,
}

impl IllegalEvent {
    /// `event` cannot follow because of `why`.
    pub const fn new(event: &'static str, why: &'static str) -> Self {
        Self { event, why }
    }
}

/// A pure state machine whose states are folds of its events.
///
/// The shell around it always works in the same order: load, fold, receive, decide, append, fold, reply,
/// perform what is pending.
pub trait Decider: Default + Clone {
    /// What it is asked to do, imperative.
    type Command;
    /// What happened, past tense.
    type Event: Clone;
    /// What it still owes to the world.
    type Effect;
    /// What the world answered.
    type Outcome;
    /// Why a command was refused.
    type Rejection;

    /// What follows from a command.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// The state after an event. The one function for live writes and for replay.
    fn evolve(&mut self, event: &Self::Event) -> Result<(), IllegalEvent>;

    /// What is still owed to the world: derived from the state, so that recovery needs no second mechanism.
    fn pending(&self) -> Vec<Self::Effect>;

    /// What follows from an answer of the world. An answer that nobody waits for any more gives no events.
    fn settle(&self, outcome: Self::Outcome) -> Vec<Self::Event>;

    /// The state after all of `events` (I-2).
    fn fold<'a>(events: impl IntoIterator<Item = &'a Self::Event>) -> Result<Self, IllegalEvent>
    where
        Self::Event: 'a,
    {
        let mut state = Self::default();
        for event in events {
            state.evolve(event)?;
        }
        Ok(state)
    }
}
