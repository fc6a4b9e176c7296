//! Sessions: the decider, the shell that runs it, and the story that is told of it.

pub mod aggregate;
pub mod decider;
pub mod live;
mod perform;
pub mod shell;
pub mod story;
#[cfg(test)]
mod walk;
