//! Sessions: state and decider, the actor that runs it, and the story read from its records.

mod active;
pub mod actor;
mod aggregate;
pub mod answers;
pub mod budget;
pub mod calls;
mod check;
mod decider;
pub mod departure;
mod due;
#[cfg(test)]
mod limits_tests;
pub mod lookup;
pub mod message;
#[cfg(test)]
mod model_script;
#[cfg(test)]
mod model_walk;
pub(crate) mod pause;
mod perform;
mod perform_model;
pub(crate) mod perform_run;
mod performing;
mod place;
pub mod replay;
mod requests;
mod save;
pub mod state;
pub mod story;
mod turns;
#[cfg(test)]
mod turns_tests;
pub mod vocabulary;
pub mod waits;
#[cfg(test)]
mod walk;
mod with_model;
mod words_size;
