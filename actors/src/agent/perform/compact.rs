//! Shortened results of the conversation: beginning and end stay, with their fences.

use ai_factory_schemas::{
    chat::{ChatMessage, MessageRef},
    problem::Problem,
    text::Blob,
    turn::MessageReplaced,
};

use super::message;
use crate::{
    agent::results::{ToolPlace, shortened},
    deps::Deps,
    session::state::Session,
    workspace::contents,
};

/// The results at these places of the conversation, shortened, and their blobs. A result that would
/// not become shorter stays.
pub async fn shorten(
    deps: &Deps,
    session: &Session,
    at: &[u32],
) -> Result<(Vec<MessageReplaced>, Vec<Blob>), Problem> {
    let Some(conversation) = session.conversation() else {
        return Err(Problem::internal("the session has no conversation"));
    };
    let (mut replaced, mut blobs) = (Vec::new(), Vec::new());
    for at in at.iter().copied() {
        let said = usize::try_from(at).ok().and_then(|at| conversation.messages().get(at));
        let result = conversation.results().iter().find(|result| result.at == at);
        let (Some(said), Some(result)) = (said, result) else { continue };
        let ChatMessage::Tool { call, text, is_error } = message(&*deps.journal, said.hash).await?
        else {
            continue;
        };
        let place = ToolPlace { turn: result.turn, index: result.index };
        let Some(text) = shortened(&text, place) else { continue };
        let blob = ChatMessage::Tool { call, text, is_error }.to_blob();
        let blob = blob.map_err(|fault| Problem::internal(fault.to_string()))?;
        replaced.push(MessageReplaced { at, message: MessageRef::from(&blob) });
        blobs.push(blob);
    }
    let lacking = contents::without_stored(&*deps.journal, blobs).await.map_err(Problem::from)?;
    Ok((replaced, lacking))
}
