//! Sessions: state and decider, the actor that runs it, and the story read from its records.

pub mod actor;
mod aggregate;
mod check;
mod decider;
mod due;
pub mod lookup;
pub mod message;
mod pause;
mod perform;
mod perform_run;
pub mod replay;
pub mod state;
pub mod story;
mod turns;
pub mod vocabulary;
#[cfg(test)]
mod walk;
mod with_model;
mod words_size;
