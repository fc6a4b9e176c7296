//! Sessions: state and decider, the actor that runs it, and the story read from its records.

mod active;
pub mod actor;
mod aggregate;
mod check;
mod decider;
pub mod lookup;
pub mod message;
mod pause;
mod perform;
mod perform_run;
mod performing;
mod save;
pub mod state;
pub mod story;
pub mod vocabulary;
#[cfg(test)]
mod walk;
