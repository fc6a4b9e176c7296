//! The agent: how a model does the work of a session.
//!
//! *Promises.* What is here decides nothing by a clock or by chance: the conversation, its budget
//! and its limits are folds of the session's events.

pub mod answer;
pub mod budget;
pub mod compaction;
pub mod conversation;
pub mod retry;
pub mod size;
pub mod stuck;
pub mod tool_names;
