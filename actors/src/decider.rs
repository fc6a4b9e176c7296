//! The trait of deciders: pure state machines over their events.
//!
//! *Promises.* No clock, no randomness, no await: the same inputs always give the same events
//! (I-9). What is decided can be evolved (I-1), and the state is the fold of the stream (I-2).

/// An event that cannot follow the ones before it. In a stream that only its decider wrote this is
/// corruption or a bug, never a user's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot follow here: {why}")]
pub struct IllegalEvent {
    /// The event's name.
    pub event: &'static str,
    /// Why it cannot follow.
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
/// The actor around it works in a fixed order: load, fold, receive, decide, append, fold, reply,
/// perform what is pending.
pub trait Decider: Default + Clone {
    /// Commands, in the imperative.
    type Command;
    /// Events, in the past tense.
    type Event: Clone;
    /// Effects that the actor performs.
    type Effect;
    /// Outcomes of effects.
    type Outcome;
    /// Refusals of commands.
    type Rejection;

    /// The events that follow from a command.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// The state after an event. The same function for live writes and for replay.
    fn evolve(&mut self, event: &Self::Event) -> Result<(), IllegalEvent>;

    /// The effects still owed, derived from the state: recovery needs no second mechanism.
    fn pending(&self) -> Vec<Self::Effect>;

    /// The events that follow from an effect's outcome; none for an outcome that is not awaited.
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
