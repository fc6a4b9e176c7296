//! The most bytes that the factory's words before a turn can have, known before they are composed:
//! a session that they do not fit waits without composing them.

use ai_factory_schemas::{
    check::CheckFinished,
    limit::{TOOL_RESULT_HEAD_BYTES_MAX, TOOL_RESULT_TAIL_BYTES_MAX},
    model::SessionModel,
    text::Text,
};

use super::{state::Session, vocabulary::WordsDue};
use crate::agent::{visible, words::LEFT_OUT_BYTES};

/// JSON around the texts of a turn's words.
const FRAME_BYTES: u64 = 1024;
/// JSON around one message.
const MESSAGE_FRAME_BYTES: u64 = 128;
/// The most bytes of a list of the workspace's files in the conversation.
pub const FILE_LIST_BYTES_MAX: u64 = 16 * 1024;
/// The usual bytes of a file in that list.
const FILE_BYTES: u64 = 64;
/// Messages of the factory before a turn, beside the results of tool calls.
const MESSAGES: u64 = 4;

/// The most bytes of these words, and the most messages.
pub(super) fn most(session: &Session, terms: &SessionModel, words: &WordsDue) -> (u64, u64) {
    let frame = terms.prompts_bytes.saturating_mul(2).saturating_add(FRAME_BYTES);
    let (data, calls) = match words {
        WordsDue::Opening => (opening(session), 0),
        WordsDue::PlanFault { fault } => (json_bytes(fault), 0),
        WordsDue::CarryOut { .. } => (0, 0),
        WordsDue::NotExecuted { calls, reason } => {
            let each = json_bytes(reason).saturating_add(MESSAGE_FRAME_BYTES);
            let calls = calls.len() as u64;
            (calls.saturating_add(1).saturating_mul(each), calls)
        }
        WordsDue::LeftOut { calls, .. } => {
            let calls = calls.len() as u64;
            (calls.saturating_mul(LEFT_OUT_BYTES + MESSAGE_FRAME_BYTES), calls)
        }
        WordsDue::CheckFailed { .. } => (session.last_check().map_or(0, output), 1),
        WordsDue::NotDone { .. } => (0, 1),
    };
    (frame.saturating_add(data), MESSAGES + calls)
}

fn opening(session: &Session) -> u64 {
    let goal = session.opened.as_ref().map_or(0, |opened| json_bytes(&opened.goal));
    let files = session.opened.as_ref().and_then(|opened| opened.workspace);
    let files = files.map_or(0, |workspace| {
        u64::from(workspace.files).saturating_mul(FILE_BYTES).min(FILE_LIST_BYTES_MAX)
    });
    let memories = session.recalled().iter().map(|memory| {
        json_bytes(&memory.text).saturating_add(json_bytes(&memory.id)) + MESSAGE_FRAME_BYTES
    });
    let code = session.check().map_or(0, |check| json_bytes(&visible::content(&check.code)));
    let check = session.last_check().map_or(0, output).saturating_add(code);
    memories.fold(goal, u64::saturating_add).saturating_add(files).saturating_add(check)
}

/// The output of a check as the model is told of it.
fn output(check: &CheckFinished) -> u64 {
    let tests = check.changed_tests.iter().map(|test| json_bytes(test));
    let message = check.diagnosis.as_ref().map_or(0, |diagnosis| json_bytes(&diagnosis.message));
    tests.fold(message, u64::saturating_add)
        + text_bytes(&check.stdout)
        + text_bytes(&check.stderr)
        + MESSAGE_FRAME_BYTES
}

fn text_bytes(text: &Text) -> u64 {
    match text {
        Text::Inline(text) => json_bytes(text),
        Text::Blob { .. } => (TOOL_RESULT_HEAD_BYTES_MAX + TOOL_RESULT_TAIL_BYTES_MAX) as u64,
    }
}

/// The bytes of a text in JSON.
fn json_bytes(text: &str) -> u64 {
    text.bytes().fold(0, |sum, byte| {
        sum + match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_text_in_json_are_counted_without_writing_it() {
        for text in ["", "plain", "ü\"\\\n\t\r\u{8}\u{c}\u{1}\u{1b}[0m"] {
            let written = serde_json::to_string(text).unwrap().len() as u64;
            assert_eq!(json_bytes(text) + 2, written, "{text:?}");
        }
    }
}
