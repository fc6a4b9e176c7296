//! Shortened results: beginning and end stay, what is between is left out.

use ai_factory_schemas::{
    chat::{ChatMessage, MessageRef},
    problem::Problem,
    text::Blob,
    turn::MessageReplaced,
};

use super::message;
use crate::{
    agent::{results::ToolPlace, tool_names::READ_OUTPUT},
    deps::Deps,
    session::state::Session,
    workspace::contents,
};

/// What stays of a shortened result at its beginning, and at its end, in bytes.
const KEPT_BYTES_MAX: usize = 512;

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

/// The text without its middle; `None` if it would hardly become shorter, as one that was cut.
fn shortened(text: &str, place: ToolPlace) -> Option<String> {
    let head = &text[..text.floor_char_boundary(KEPT_BYTES_MAX)];
    let from = text.ceil_char_boundary(text.len().saturating_sub(KEPT_BYTES_MAX));
    let left_out = from.checked_sub(head.len())?;
    let marker = format!(
        "\n[shortened: {left_out} bytes are left out; {READ_OUTPUT} with {{\"output\": \"{place}\"}} shows them]\n"
    );
    let is_worth_it = left_out >= 2 * marker.len();
    is_worth_it.then(|| [head, &marker, &text[from..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_result_keeps_its_beginning_and_end_and_names_itself() {
        let place = ToolPlace { turn: 3, index: 1 };
        let text = format!("first {} last", "ü".repeat(4_000));
        let short = shortened(&text, place).unwrap();
        assert!(short.starts_with("first ") && short.ends_with(" last"));
        assert!(short.contains("\"3.2\"") && short.len() < 2 * KEPT_BYTES_MAX + 120, "{short}");
        assert_eq!(shortened(&short, place), None, "it is not shortened twice");
        assert_eq!(shortened("short", place), None);
    }
}
