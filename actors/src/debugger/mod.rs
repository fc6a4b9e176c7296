//! The debugger: runs code in the sandbox, a limited number of programs at once, each run at most
//! once at a time.

pub mod decider;
mod execute;
pub(crate) mod input;
mod language;
mod perform;
pub mod service;
mod workspace;
