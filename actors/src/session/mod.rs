//! Sessions: state and decider, the actor that runs it, and the story read from its records.

mod active;
pub mod actor;
mod aggregate;
pub mod answers;
pub mod budget;
pub mod calls;
mod check;
mod decider;
pub mod lookup;
pub mod message;
pub(crate) mod pause;
mod perform;
mod perform_model;
mod perform_run;
mod performing;
mod requests;
mod save;
pub mod state;
pub mod story;
pub mod vocabulary;
pub mod waits;
#[cfg(test)]
mod walk;
