//! The agent of a session with a model: what the model is told, and the tools that it may call.
//!
//! *Promises.* What comes from programs, files, memories and the model is data: it stands between
//! lines that it cannot write itself, without control characters, and changes nothing that is
//! enforced outside the model.

pub mod fences;
pub mod plan;
pub mod prompts;
pub mod results;
pub mod tool_names;
pub mod tools;
pub mod visible;
pub mod words;
