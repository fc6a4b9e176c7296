//! The tools of a model: how each is told of, and how a call of it is carried out.
//!
//! *Promises.* A call changes the session's files only through the changes in its result, all or
//! none, within the limits of a workspace; no file of the machine is touched. Each call has a
//! result, whatever its name and arguments are.

mod arguments;
mod ask;
mod edit;
mod failure;
mod files;
pub mod finish;
pub(super) mod listing;
mod memory;
mod output;
mod read;
mod run;
pub mod run_report;
pub mod specs;

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{
    chat::{MessageRef, ToolCall},
    id::{RunId, SessionId, ToolCallId},
    limit::{QUESTION_ANSWER_BYTES_MAX, TOOL_CALLS_MAX, TOOL_NAME_CHARS_MAX},
    problem::Problem,
    quote::printable,
    text::{Blob, BlobHash},
    turn::{ToolFinished, ToolOutcome},
    workspace::{WorkspaceEnd, WorkspaceManifest},
};

use super::{
    fences::{FencedText, FencedWriter},
    results::{self, ToolDone, ToolPlace},
    tool_names::{
        ASK, EDIT_FILE, FINISH, LIST_FILES, READ_FILE, READ_OUTPUT, RUN, SEARCH_MEMORY, WRITE_FILE,
    },
};
use crate::{deps::Deps, mask::Mask, workspace::contents};

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

/// What became of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolPerformed {
    /// It has its result.
    Done(Box<ToolDone>),
    /// It asks a person, at most [`ai_factory_schemas::limit::QUESTION_CHARS_MAX`]: the session
    /// waits for the answer, and [`answered`] makes the result of it.
    Asks(String),
}

/// The end of a call before it is made a result.
struct ToolEnd {
    outcome: ToolOutcome,
    text: FencedText,
    run_id: Option<RunId>,
    failure: Option<BlobHash>,
    workspace: Option<WorkspaceEnd>,
    blobs: Vec<Blob>,
}

impl ToolEnd {
    /// An end without more than its text.
    fn new(outcome: ToolOutcome, text: FencedText) -> Self {
        Self { outcome, text, run_id: None, failure: None, workspace: None, blobs: Vec::new() }
    }

    /// One sentence of the factory.
    fn sentence(outcome: ToolOutcome, words: impl Into<String>, mask: &Mask) -> Self {
        let mut text = FencedWriter::new(mask);
        text.say(words);
        Self::new(outcome, text.finish())
    }

    fn done(self, place: ToolPlace, call: ToolCallId) -> Result<ToolDone, Problem> {
        let Self { outcome, text, run_id, failure, workspace, blobs } = self;
        let ToolDone { finished, blobs: mut all } = results::done(place, call, outcome, text)?;
        all.extend(blobs);
        let finished = ToolFinished { run_id, failure, workspace, ..finished };
        Ok(ToolDone { finished, blobs: all })
    }
}

/// Carries out a tool call. A wrong name and wrong arguments have a result, as have all failures
/// of the tool.
///
/// # Errors
/// If the journal cannot be read, or the result cannot be written.
pub async fn perform(
    deps: &Deps,
    terms: &ToolTerms,
    call: &ToolCall,
) -> Result<ToolPerformed, Problem> {
    let end = match call.name.as_str() {
        _ if terms.place.index as usize >= TOOL_CALLS_MAX => {
            return Ok(ToolPerformed::Done(Box::new(not_executed(
                terms.place,
                call.id,
                &format!("one answer may call {TOOL_CALLS_MAX} tools"),
                &deps.mask,
            )?)));
        }
        ASK if terms.may_ask => match ask::question(&call.arguments) {
            Ok(question) => return Ok(ToolPerformed::Asks(question)),
            Err(fault) => ToolEnd::sentence(ToolOutcome::Invalid, fault, &deps.mask),
        },
        RUN => run::perform(deps, terms, &call.arguments).await?,
        WRITE_FILE => files::write(deps, terms, &call.arguments),
        EDIT_FILE => edit::perform(deps, terms, &call.arguments).await,
        READ_FILE => read::perform(deps, terms, &call.arguments).await,
        LIST_FILES => listing::perform(terms, &call.arguments, &deps.mask),
        READ_OUTPUT => output::perform(deps, terms, &call.arguments).await,
        SEARCH_MEMORY => memory::perform(deps, terms, &call.arguments).await,
        FINISH => finish::refusal(&call.arguments, terms.alone, &deps.mask),
        name => unknown(name, terms.may_ask, &deps.mask),
    };
    let mut done = end.done(terms.place, call.id)?;
    let stored = contents::without_stored(&*deps.journal, done.blobs).await;
    done.blobs = stored.map_err(Problem::from)?;
    Ok(ToolPerformed::Done(Box::new(done)))
}

fn unknown(name: &str, may_ask: bool, mask: &Mask) -> ToolEnd {
    let known: Vec<_> = specs::specs(may_ask).into_iter().map(|spec| spec.name).collect();
    let name = printable(name, TOOL_NAME_CHARS_MAX);
    let words = format!("There is no tool `{name}`. The tools are: {}.", known.join(", "));
    ToolEnd::sentence(ToolOutcome::Invalid, words, mask)
}

/// The result of a call that is not carried out; `reason` is the end of a sentence.
///
/// # Errors
/// If it cannot be written.
pub fn not_executed(
    place: ToolPlace,
    call: ToolCallId,
    reason: &str,
    mask: &Mask,
) -> Result<ToolDone, Problem> {
    let words = format!("not executed: {}", mask.apply(reason));
    ToolEnd::sentence(ToolOutcome::NotExecuted, words, mask).done(place, call)
}

/// The result of a call that asked a person; without an answer, nobody answered in time. What is
/// beyond [`QUESTION_ANSWER_BYTES_MAX`] is cut.
///
/// # Errors
/// If it cannot be written.
pub fn answered(
    place: ToolPlace,
    call: ToolCallId,
    answer: Option<&str>,
    mask: &Mask,
) -> Result<ToolDone, Problem> {
    let Some(answer) = answer else {
        let words = "Nobody answered in time. Go on without the answer as well as you can.";
        return ToolEnd::sentence(ToolOutcome::Failed, words, mask).done(place, call);
    };
    let answer = &answer[..answer.floor_char_boundary(QUESTION_ANSWER_BYTES_MAX)];
    let mut text = FencedWriter::new(mask);
    text.say("The person answered:");
    text.data(answer);
    ToolEnd::new(ToolOutcome::Done, text.finish()).done(place, call)
}
