//! The factory as an agent of the Synadia Agent Protocol for NATS, version 0.3: a prompt is a goal.
//!
//! The protocol is `core-protocol.md` of github.com/synadia-ai/synadia-agent-sdk-docs, and `§` in this directory counts its
//! sections. It is a service (§3) `agents` with the endpoints `prompt` (§5, §6) and `status` (§8.7), and a heartbeat (§8).
//! Two endpoints are our own, which §12 has callers ignore: `cancel` ends a session, `events` tells what was recorded
//! behind a position.
//!
//! *Promises.* A prompt's answer is a stream: an `ack` first, then one status for each event of its session, in the order of
//! the journal and none left out, then the result in pieces that the server carries, then the empty end. A prompt that is
//! repeated under its `Nats-Msg-Id` has the same session and the same answer. What names a session, a key or an instance reaches
//! the instance that has it. Whether the caller still listens is
//! nothing to the session.
//!
//! *Limits.* `prompts_max` prompts at once, each of at most [`PROMPT_BYTES_MAX`] bytes, as the goal in it is bounded too. No
//! attachments. The one question in between (§7) is whether a step may be repeated whose end is unknown. Who prompts is recorded:
//! as proven where they signed the prompt (§13.7), else as they say it.

mod chunk;
mod claims;
mod envelope;
mod events;
mod follow;
mod host;
mod identity;
mod peers;
mod prompt;
mod question;
mod refusal;
mod sender;

pub use claims::ClaimsSettings;
pub use host::{Agent, AgentLimits};
pub use identity::{Identity, token};

/// How long a stream is silent before a status says that it lives: callers give up after 60 s (§6.6).
pub const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(20);
/// The largest prompt with its envelope, in bytes: the longest goal, whatever its escapes in JSON, and some more.
pub const PROMPT_BYTES_MAX: usize = 1024 * 1024;
