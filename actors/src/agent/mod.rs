//! The agent of a session with a model: what the model is told, the tools that it may call, and the
//! conversation, its budget and its limits.
//!
//! *Promises.* What comes from programs, files, memories and the model is data: it stands between
//! lines that it cannot write itself, without control characters, and changes nothing that is
//! enforced outside the model. Conversation, budget and limits are folds of the session's events.

pub mod answer;
pub mod budget;
pub mod compaction;
pub mod conversation;
pub mod fences;
pub mod perform;
pub mod plan;
pub mod prompts;
pub mod results;
pub mod retry;
pub mod size;
pub mod stuck;
pub mod tool_names;
pub mod tools;
pub mod visible;
pub mod words;
