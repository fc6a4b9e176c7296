//! The effects of a turn: what is said before it, the call, the tools, and shortened results.

pub mod call;
pub mod compact;
pub mod prepare;
pub mod tool;

use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{chat::ChatMessage, problem::Problem, text::BlobHash};

use crate::workspace::contents;

/// A message of a conversation.
pub(crate) async fn message(journal: &dyn Journal, hash: BlobHash) -> Result<ChatMessage, Problem> {
    let what = "a message of the conversation";
    let bytes = contents::load(journal, hash, what).await.map_err(Problem::internal)?;
    ChatMessage::from_bytes(&bytes)
        .map_err(|fault| Problem::internal(format!("the message {hash} is unreadable: {fault}")))
}
