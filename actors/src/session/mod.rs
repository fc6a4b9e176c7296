//! Sessions: state and decider, the shell that runs it, and the story that is told of it.

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
