//! Answers to the questions of a model.

use ai_factory_schemas::{
    envelope::Recorded,
    event::Event,
    problem::Problem,
    request::AnswerQuestion,
    session::{SessionEvent, Submitter},
    text::{Blob, Text},
    turn::{QuestionAnswered, QuestionAsked, ToolFinished},
};

use crate::{
    agent::{
        results::{ToolDone, ToolPlace},
        tools,
    },
    mask::Mask,
};

/// The records of an answer.
pub struct AnswerGiven {
    /// The answer.
    pub answered: QuestionAnswered,
    /// The result of the tool call that asked.
    pub result: ToolFinished,
    /// The blobs that they refer to.
    pub blobs: Vec<Blob>,
}

/// The records of an answer to a question, or of none in time.
///
/// # Errors
/// If they cannot be written.
pub fn give(
    asked: &QuestionAsked,
    answer: Option<&str>,
    by: Option<Submitter>,
    mask: &Mask,
) -> Result<AnswerGiven, Problem> {
    let place = ToolPlace { turn: asked.turn, index: asked.index };
    let done = tools::answered(place, asked.question_id, answer, mask)?;
    let ToolDone { finished: result, mut blobs } = done;
    let answer = answer.map(|answer| Text::new(mask.apply(answer)));
    let (answer, blob) = answer.map_or((None, None), |(text, blob)| (Some(text), blob));
    blobs.extend(blob);
    let answered = QuestionAnswered { question_id: asked.question_id, answer, by };
    Ok(AnswerGiven { answered, result, blobs })
}

/// Whether a session that does not wait with the question has exactly this answer to it already;
/// without a question named, to its last one.
pub fn is_given(mask: &Mask, recorded: &[Recorded], asked: &AnswerQuestion) -> bool {
    let answers = recorded.iter().filter_map(|recorded| match &recorded.event {
        Event::Session(SessionEvent::QuestionAnswered(answered)) => Some(answered),
        _ => None,
    });
    let named = |answered: &&QuestionAnswered| {
        asked.question_id.is_none_or(|id| id == answered.question_id)
    };
    let Some(given) = answers.filter(named).last() else { return false };
    given.answer.as_ref() == Some(&Text::new(mask.apply(&asked.answer)).0)
}
