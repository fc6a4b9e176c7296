//! The debugger: runs code in the sandbox, at most so many programs at once, each at most once at a time.

pub mod decider;
mod execute;
mod input;
mod language;
mod perform;
pub mod service;
