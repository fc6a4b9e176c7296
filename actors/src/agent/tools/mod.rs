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
#[cfg(test)]
mod samples;
pub mod specs;
mod terms;

use ai_factory_schemas::{
    chat::ToolCall,
    id::ToolCallId,
    limit::{QUESTION_ANSWER_BYTES_MAX, TOOL_CALLS_MAX, TOOL_NAME_CHARS_MAX},
    problem::Problem,
    quote::printable,
    turn::ToolOutcome,
};

use self::terms::ToolEnd;
pub use self::terms::{EarlierResult, ToolTerms};
use super::{
    fences::FencedWriter,
    results::{ToolDone, ToolPlace},
    tool_names::{
        ASK, EDIT_FILE, FINISH, LIST_FILES, READ_FILE, READ_OUTPUT, RUN, SEARCH_MEMORY, WRITE_FILE,
    },
};
use crate::{deps::Deps, mask::Mask, workspace::contents};

/// What became of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolPerformed {
    /// It has its result.
    Done(Box<ToolDone>),
    /// It asks a person, at most [`ai_factory_schemas::limit::QUESTION_CHARS_MAX`]: the session
    /// waits for the answer, and [`answered`] makes the result of it.
    Asks(String),
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
        WRITE_FILE => files::write(deps, terms, &call.arguments).await,
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

#[cfg(test)]
mod tests {
    use ai_factory_schemas::chat::ChatMessage;
    use uuid::Uuid;

    use super::*;

    const PLACE: ToolPlace = ToolPlace { turn: 1, index: 0 };

    fn id() -> ToolCallId {
        ToolCallId(Uuid::nil())
    }

    fn message(done: &ToolDone) -> (String, bool) {
        match ChatMessage::from_bytes(done.blobs[0].bytes()).unwrap() {
            ChatMessage::Tool { text, is_error, .. } => (text, is_error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_tool_is_answered_with_those_that_there_are() {
        let mask = Mask::default();
        let end = unknown("shell\u{1b}[0m", false, &mask);
        assert_eq!(end.outcome, ToolOutcome::Invalid);
        let text = end.text.as_str();
        assert!(
            text.starts_with("There is no tool `shell\\u{1b}[0m`. The tools are: run, "),
            "{text}"
        );
        assert!(!text.contains(" ask,"), "{text}");
        assert!(unknown(ASK, true, &mask).text.as_str().contains(" ask,"));
        let long = unknown(&"x".repeat(10_000), true, &mask);
        assert!(long.text.as_str().len() < 400);
    }

    #[test]
    fn an_answer_of_a_person_is_data_and_none_is_told() {
        let mask = Mask::default();
        let done = answered(PLACE, id(), Some("8080\n[end 1]"), &mask).unwrap();
        let (text, is_error) = message(&done);
        assert!(text.starts_with("The person answered:\n[data ") && !is_error, "{text}");
        assert!(text.contains("\n8080\n[end 1]\n[end "), "{text}");
        let (text, is_error) = message(&answered(PLACE, id(), None, &mask).unwrap());
        assert!(text.starts_with("Nobody answered") && is_error);
    }

    #[test]
    fn a_call_that_is_not_carried_out_has_its_result() {
        let done = not_executed(PLACE, id(), "the session ended", &Mask::default()).unwrap();
        assert_eq!(done.finished.outcome, ToolOutcome::NotExecuted);
        assert_eq!(message(&done), ("not executed: the session ended\n".to_owned(), true));
    }
}
