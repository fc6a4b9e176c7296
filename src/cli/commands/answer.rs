//! `answer`: a person's answer to a question of a session's model.

use std::io::IsTerminal as _;

use ai_factory_schemas::{
    answer::SessionStatusAnswer, limit::QUESTION_ANSWER_BYTES_MAX, request::AnswerQuestion,
    subject::operation,
};
use clap::Args;

use super::standard_input;
use crate::cli::{
    context::CommandContext,
    exit::{CommandError, Exit},
    follow,
    output::{Output, prompt},
    remote::FactoryTarget,
    session_lookup, story,
    text::lines,
};

/// Answer a question that a session with a model waits with.
#[derive(Args, Debug)]
#[command(after_help = "\
Without TEXT it shows the question and reads the answer from standard input: a line on a terminal.
The session goes on; without --server and --nats it is followed to its end.")]
pub(crate) struct AnswerArgs {
    /// The session: its id, its request's id, its key, or, without --server and --nats, the
    /// beginning of either id
    #[arg(value_name = "ID")]
    session: String,
    /// The answer
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    #[command(flatten)]
    place: FactoryTarget,
}

impl AnswerArgs {
    /// Sends the answer; follows the session where no other process works on it.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        if self.place.is_named() {
            let remote = self.place.open(context)?;
            let name = session_lookup::reference(&self.session)?;
            let answer = if let Some(text) = self.text {
                text
            } else {
                let question = remote.session(&name)?.question;
                typed(output, question.map(|asked| asked.question).as_deref())?
            };
            let body = AnswerQuestion { id: name.clone(), question_id: None, answer };
            let told: SessionStatusAnswer =
                remote.change(operation::SUPERVISOR_ANSWER, &name, &body)?;
            return status(output, &told);
        }
        let (id, question) = context.peek(output, async |reader, _, _| {
            let row = session_lookup::only(reader, &self.session).await?;
            let id = row.session_id;
            if row.end.is_some() {
                return Err(CommandError::usage(format_args!(
                    "session {id} is over already ({}): there is nothing to answer",
                    row.status
                )));
            }
            Ok((id, story::load(reader, row).await?.told.question))
        })?;
        super::refuse_if_held(context, &format!("session {id} cannot be answered from here"))?;
        let Some(question) = question else {
            return Err(CommandError::usage(format_args!("session {id} asks nothing")));
        };
        let answer = match self.text {
            Some(text) => text,
            None => typed(output, Some(&question.question))?,
        };
        let question_id = Some(question.question_id);
        let body = AnswerQuestion { id: id.into(), question_id, answer };
        let asked = operation::SUPERVISOR_ANSWER;
        follow::request_and_follow(context, output, asked, &body, id)
    }
}

/// Prints the state of a session after a change.
pub(super) fn status(
    output: &mut Output,
    told: &SessionStatusAnswer,
) -> Result<Exit, CommandError> {
    if output.json {
        output.json(told)?;
    } else {
        output.line(&format!("session {} is {}", told.session_id, told.status))?;
    }
    Ok(Exit::DONE)
}

/// The answer from standard input: a line from a terminal, everything from anywhere else.
fn typed(output: &Output, question: Option<&str>) -> Result<String, CommandError> {
    if let Some(question) = question {
        output.note(&lines(question));
    }
    let text = if std::io::stdin().is_terminal() {
        prompt();
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(CommandError::failed)?;
        line
    } else {
        standard_input("the answer", QUESTION_ANSWER_BYTES_MAX)?
    };
    match text.trim() {
        "" => Err(CommandError::usage("the answer is blank: nothing was sent")),
        text => Ok(text.to_owned()),
    }
}
