//! The factory as an agent of the Synadia Agent Protocol for NATS, version 0.3: a prompt is a goal.
//!
//! The protocol is `core-protocol.md` of github.com/synadia-ai/synadia-agent-sdk-docs; `§` in this
//! directory cites its sections. The agent is a service (§3) `agents` with the endpoints `prompt`
//! (§5, §6) and `status` (§8.7), and a heartbeat (§8). Two endpoints are extensions, which other
//! callers ignore (§12): `cancel` ends a session, `events` returns the events after a position.
//!
//! *Promises.* The reply to a prompt is a stream: an `ack` first, then one status for each event of
//! its session, in journal order and none left out, then the result in chunks that fit the server's
//! payload limit, then the empty final message. A prompt repeated under its `Nats-Msg-Id` has the
//! same session and the same answer. A request that names a session, a key or an instance reaches
//! the instance that has it. A session does not depend on whether its caller still listens.
//!
//! *Limits.* `prompts_max` concurrent prompts of at most [`PROMPT_BYTES_MAX`] bytes each; the limit
//! of goals applies too. No attachments. The only question (§7) is whether to repeat a step with an
//! unknown outcome. The sender is recorded: as proven if the prompt is signed (§13.7), else as
//! claimed.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod chunk;
mod claims;
mod envelope;
mod events;
mod follow;
mod forwarding;
mod host;
mod identity;
mod peers;
mod prompt;
mod question;
mod refusal;
mod sender;
mod state;

pub use claims::ClaimsSettings;
pub use envelope::PROMPT_BYTES_MAX;
pub use host::{Agent, AgentLimits};
pub use identity::{AgentIdentity, token};

/// Silence on a stream before a keep-alive status: callers give up after 60 s (§6.6).
pub const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(20);
