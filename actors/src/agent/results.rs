//! Results of tool calls: the message for the model, cut to its bounds, and the complete text.
//!
//! *Limits.* [`TOOL_RESULT_HEAD_BYTES_MAX`] and [`TOOL_RESULT_TAIL_BYTES_MAX`].

use std::{fmt, str::FromStr};

use ai_factory_schemas::{
    chat::{ChatMessage, MessageRef},
    id::ToolCallId,
    limit::{BLOB_BYTES_MAX, TOOL_RESULT_HEAD_BYTES_MAX, TOOL_RESULT_TAIL_BYTES_MAX},
    problem::Problem,
    text::Blob,
    turn::{ToolFinished, ToolOutcome},
};

use super::{
    fences::{CutBounds, FencedText},
    tool_names::READ_OUTPUT,
};

/// The bounds of a result.
pub const RESULT_BOUNDS: CutBounds = CutBounds {
    head_bytes_max: TOOL_RESULT_HEAD_BYTES_MAX,
    tail_bytes_max: TOOL_RESULT_TAIL_BYTES_MAX,
};
/// The largest result, in bytes.
pub const RESULT_BYTES_MAX: usize = TOOL_RESULT_HEAD_BYTES_MAX + TOOL_RESULT_TAIL_BYTES_MAX;
/// The bounds of a complete result: it is a blob.
const COMPLETE_BOUNDS: CutBounds =
    CutBounds { head_bytes_max: BLOB_BYTES_MAX / 4, tail_bytes_max: BLOB_BYTES_MAX / 4 * 3 };

/// The place of a tool call in its session. As text the name of its result for the model: turn and
/// number from 1, such as `3.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToolPlace {
    /// The turn, from 1.
    pub turn: u32,
    /// The tool call in its answer, from 0.
    pub index: u32,
}

impl fmt::Display for ToolPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.turn, self.index.saturating_add(1))
    }
}

/// A text that names no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no result has this name: names look like \"3.2\", and stand where a result was cut")]
pub struct ParsePlaceError;

impl FromStr for ToolPlace {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        let (turn, number) = text.trim().split_once('.').ok_or(ParsePlaceError)?;
        let number: u32 = number.parse().map_err(|_| ParsePlaceError)?;
        let turn = turn.parse().map_err(|_| ParsePlaceError)?;
        Ok(Self { turn, index: number.checked_sub(1).ok_or(ParsePlaceError)? })
    }
}

/// A tool call's result for the record, and the blobs that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolDone {
    /// The record.
    pub finished: ToolFinished,
    /// The blobs: the message, the complete result, contents of files, a list of changes.
    pub blobs: Vec<Blob>,
}

/// The result of a tool call as the record has it. `read_output` finds what was cut.
///
/// # Errors
/// If it cannot be written.
pub fn done(
    place: ToolPlace,
    call: ToolCallId,
    outcome: ToolOutcome,
    result: FencedText,
) -> Result<ToolDone, Problem> {
    let cut = result.cut(RESULT_BOUNDS, |left_out| {
        let total = result.as_str().len();
        format!(
            "[cut: bytes {} to {} of {total} are left out; {READ_OUTPUT} with {{\"output\": \"{place}\", \"offset\": \
             {}}} shows them]",
            left_out.start, left_out.end, left_out.start
        )
    });
    let (text, complete) = match cut {
        Some(cut) => (cut, Some(Blob::new(kept(result).into_bytes()))),
        None => (result.into_string(), None),
    };
    let is_error = outcome != ToolOutcome::Done;
    let message = ChatMessage::Tool { call, text, is_error };
    let message = message.to_blob().map_err(|fault| Problem::internal(fault.to_string()))?;
    let finished = ToolFinished {
        turn: place.turn,
        index: place.index,
        outcome,
        result: MessageRef::from(&message),
        complete: complete.as_ref().map(MessageRef::from),
        run_id: None,
        failure: None,
        workspace: None,
    };
    let blobs = [message].into_iter().chain(complete).collect();
    Ok(ToolDone { finished, blobs })
}

/// As much of a complete result as a blob holds.
fn kept(result: FencedText) -> String {
    let cut = result.cut(COMPLETE_BOUNDS, |left_out| {
        format!("[cut: bytes {} to {} were not kept]", left_out.start, left_out.end)
    });
    cut.unwrap_or_else(|| result.into_string())
}

/// A text that the factory says, cut as a result is; what is left out cannot be read.
pub fn bounded(text: FencedText) -> String {
    let cut = text.cut(RESULT_BOUNDS, |left_out| {
        format!("[cut: bytes {} to {} are left out]", left_out.start, left_out.end)
    });
    cut.unwrap_or_else(|| text.into_string())
}
