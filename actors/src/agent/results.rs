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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{agent::fences::FencedWriter, mask::Mask};

    const PLACE: ToolPlace = ToolPlace { turn: 3, index: 1 };

    /// A result of this size.
    fn result(bytes: usize) -> FencedText {
        let mask = Mask::default();
        let mut text = FencedWriter::new(&mask);
        text.data("");
        let empty = text.finish().as_str().len();
        let mut text = FencedWriter::new(&mask);
        text.data(&("y".repeat(bytes - empty - 1) + "\n"));
        text.finish()
    }

    fn shown(done: &ToolDone) -> String {
        match ChatMessage::from_bytes(done.blobs[0].bytes()).unwrap() {
            ChatMessage::Tool { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_result_of_16_kib_is_whole_and_one_byte_more_is_cut() {
        let call = ToolCallId(Uuid::nil());
        let whole = done(PLACE, call, ToolOutcome::Done, result(RESULT_BYTES_MAX)).unwrap();
        assert_eq!((shown(&whole).len(), whole.blobs.len()), (RESULT_BYTES_MAX, 1));
        assert_eq!(whole.finished.complete, None);
        let text = result(RESULT_BYTES_MAX + 1);
        let cut = done(PLACE, call, ToolOutcome::Done, text.clone()).unwrap();
        let told = shown(&cut);
        assert!(told.len() <= RESULT_BYTES_MAX, "{}", told.len());
        assert!(told.contains("read_output with {\"output\": \"3.2\", \"offset\": 4"), "{told}");
        assert_eq!(cut.blobs[1].bytes(), text.as_str().as_bytes());
        assert_eq!(cut.finished.complete, Some(MessageRef::from(&cut.blobs[1])));
        assert_eq!(cut.finished.result, MessageRef::from(&cut.blobs[0]));
    }

    #[test]
    fn what_is_said_to_be_left_out_is_what_is_left_out() {
        let text: String = (0..9_000).map(|n| format!("ü{n}\n")).collect();
        let mask = Mask::default();
        let mut writer = FencedWriter::new(&mask);
        writer.data(&text);
        let text = writer.finish();
        let call = ToolCallId(Uuid::nil());
        let told = shown(&done(PLACE, call, ToolOutcome::Failed, text.clone()).unwrap());
        let note = told.lines().find(|line| line.starts_with("[cut: bytes ")).unwrap();
        let words: Vec<_> = note.split(' ').collect();
        let (start, end): (usize, usize) = (words[2].parse().unwrap(), words[4].parse().unwrap());
        assert!(told.starts_with(&text.as_str()[..start]) && told.ends_with(&text.as_str()[end..]));
        assert!(start > 4_000 && text.as_str().len() - end > 11_000, "{note}");
    }

    #[test]
    fn a_result_larger_than_a_blob_is_kept_as_far_as_one_holds() {
        let text = result(BLOB_BYTES_MAX + 1);
        let done = done(PLACE, ToolCallId(Uuid::nil()), ToolOutcome::Done, text).unwrap();
        assert!(done.blobs[1].bytes().len() <= BLOB_BYTES_MAX);
        let kept = String::from_utf8_lossy(done.blobs[1].bytes()).into_owned();
        assert!(kept.contains(" were not kept]"));
    }

    #[test]
    fn a_place_reads_back_from_its_name() {
        assert_eq!(PLACE.to_string(), "3.2");
        assert_eq!(" 3.2 ".parse(), Ok(PLACE));
        for wrong in ["", "3", "3.0", "a.1", "1.b", "-1.1", "1.2.3", "99999999999.1"] {
            assert_eq!(wrong.parse::<ToolPlace>(), Err(ParsePlaceError), "{wrong}");
        }
    }
}
