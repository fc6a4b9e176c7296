//! Sessions that wait for a person while the command line follows them: the question is put at the
//! prompt, and what cannot be answered there is told.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{
    answer::{OpenQuestion, SessionPending, SessionStatusAnswer},
    problem::Problem,
    request::AnswerQuestion,
    subject::operation,
};
use tokio::task::spawn_blocking;

use super::{budget_words, commands::REQUEST_MS_MAX, output::Output, progress::Progress};
use crate::wiring::Factory;

/// Whether somebody is there who can be asked: a terminal to read from and to write to.
pub(crate) fn somebody_is_there(output: &Output) -> bool {
    !output.quiet && !output.json && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Tells what a session waits for, and what to do.
pub(crate) fn tell(progress: &Progress, output: &Output, name: &str, pending: &SessionPending) {
    let told = budget_words::pending(pending);
    if output.quiet {
        // What is not among the results is told on standard error, whatever is shown there.
        progress.aside(|| output.error(&format!("{name}{}", told.join("\n"))));
    } else {
        for line in told {
            progress.line(output, &format!("{name}{line}"));
        }
    }
}

/// A line from the terminal; `None` if it is blank or there is nothing more to read.
pub(crate) async fn read_line() -> Option<String> {
    let read = || {
        let mut line = String::new();
        io::stdin().read_line(&mut line).ok().map(|_| line)
    };
    let line = spawn_blocking(read).await.ok().flatten()?;
    Some(line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// Answers the question of a session.
pub(crate) async fn answer(
    factory: &Factory,
    pending: &SessionPending,
    question: &OpenQuestion,
    answer: String,
) -> Result<(), Problem> {
    let id = pending.session_id.into();
    let body = AnswerQuestion { id, question_id: Some(question.question_id), answer };
    let wait = Duration::from_millis(REQUEST_MS_MAX);
    let asked = operation::SUPERVISOR_ANSWER;
    let told = factory.call::<SessionStatusAnswer>(asked, &body, Headers::default(), wait).await;
    told.map(|_| ())
}
