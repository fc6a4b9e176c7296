//! Sessions: state and decider, the actor that runs it, and the story read from its records.

mod aggregate;
mod decider;
pub mod live;
pub mod lookup;
mod perform;
pub mod shell;
pub mod state;
pub mod story;
pub mod vocabulary;
#[cfg(test)]
mod walk;
