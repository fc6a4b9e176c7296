//! What a tool call needs, and what its end is before it is made a result.

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{
    chat::MessageRef,
    id::{RunId, SessionId, ToolCallId},
    problem::Problem,
    text::{Blob, BlobHash},
    turn::{ToolFinished, ToolOutcome},
    workspace::{WorkspaceEnd, WorkspaceManifest},
};

use crate::{
    agent::{
        fences::{FencedText, FencedWriter},
        results::{self, ToolDone, ToolPlace},
    },
    mask::Mask,
};

/// What a tool call needs of its session.
#[derive(Clone, Debug)]
pub struct ToolTerms {
    /// The session.
    pub session: SessionId,
    /// The place of the call.
    pub place: ToolPlace,
    /// Whether it is the only call of its answer.
    pub alone: bool,
    /// Whether the model may ask a person.
    pub may_ask: bool,
    /// The run, if the call is one.
    pub run_id: Option<RunId>,
    /// Time limit of a run, in milliseconds.
    pub tool_wall_ms_max: u64,
    /// The session's files at this moment.
    pub files: WorkspaceManifest,
    /// The results before this one.
    pub earlier: Vec<EarlierResult>,
    /// Headers of requests to other actors.
    pub headers: Headers,
}

/// A result before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierResult {
    /// Its place.
    pub place: ToolPlace,
    /// The message that the model saw.
    pub result: MessageRef,
    /// The complete text, if the message has only a part of it.
    pub complete: Option<MessageRef>,
}

impl From<&ToolFinished> for EarlierResult {
    fn from(finished: &ToolFinished) -> Self {
        Self {
            place: ToolPlace { turn: finished.turn, index: finished.index },
            result: finished.result,
            complete: finished.complete,
        }
    }
}

/// The end of a call before it is made a result.
pub(super) struct ToolEnd {
    pub(super) outcome: ToolOutcome,
    pub(super) text: FencedText,
    pub(super) run_id: Option<RunId>,
    pub(super) failure: Option<BlobHash>,
    pub(super) workspace: Option<WorkspaceEnd>,
    pub(super) blobs: Vec<Blob>,
}

impl ToolEnd {
    /// An end without more than its text.
    pub(super) fn new(outcome: ToolOutcome, text: FencedText) -> Self {
        Self { outcome, text, run_id: None, failure: None, workspace: None, blobs: Vec::new() }
    }

    /// One sentence of the factory.
    pub(super) fn sentence(outcome: ToolOutcome, words: impl Into<String>, mask: &Mask) -> Self {
        let mut text = FencedWriter::new(mask);
        text.say(words);
        Self::new(outcome, text.finish())
    }

    /// The call with its result.
    pub(super) fn done(self, place: ToolPlace, call: ToolCallId) -> Result<ToolDone, Problem> {
        let Self { outcome, text, run_id, failure, workspace, blobs } = self;
        let ToolDone { finished, blobs: mut all } = results::done(place, call, outcome, text)?;
        all.extend(blobs);
        let finished = ToolFinished { run_id, failure, workspace, ..finished };
        Ok(ToolDone { finished, blobs: all })
    }
}
