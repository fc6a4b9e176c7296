//! Sessions: state and decider, the actor that runs it, and the story read from its records.

pub mod actor;
mod aggregate;
mod check;
mod decider;
pub mod lookup;
pub mod message;
mod pause;
mod perform;
pub(crate) mod perform_run;
pub mod state;
pub mod story;
pub mod vocabulary;
#[cfg(test)]
mod walk;
