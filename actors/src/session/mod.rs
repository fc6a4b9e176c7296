//! Sessions: state and decider, the actor that runs it, and the story read from its records.

pub mod actor;
mod aggregate;
mod check;
mod decider;
mod due;
#[cfg(test)]
mod limits_tests;
pub mod lookup;
pub mod message;
#[cfg(test)]
mod model_script;
#[cfg(test)]
mod model_walk;
mod pause;
mod perform;
mod perform_run;
pub mod replay;
pub mod state;
pub mod story;
mod turns;
#[cfg(test)]
mod turns_tests;
pub mod vocabulary;
#[cfg(test)]
mod walk;
mod with_model;
mod words_size;
