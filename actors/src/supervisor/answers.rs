//! What a person gives a session that waits: an answer, or another budget.

use ai_factory_schemas::{
    answer::BudgetAnswer,
    id::SessionId,
    limit::QUESTION_ANSWER_BYTES_MAX,
    problem::Problem,
    request::{AnswerQuestion, ChangeBudget},
};

use super::Supervisor;
use crate::{
    request::{Request, json},
    session::{budget, story},
    session_registry::{AnswerRequest, BudgetRequest, SessionRequest},
};

/// Refuses an answer that is blank, too long, or cannot be written down.
fn check(answer: &str) -> Result<(), Problem> {
    let bytes = answer.len();
    if answer.trim().is_empty() {
        return Err(Problem::bad_request("`answer` is blank: say what the model is to know"));
    }
    if bytes > QUESTION_ANSWER_BYTES_MAX {
        return Err(Problem::too_large(format!(
            "`answer` of {bytes} bytes is too long: at most {QUESTION_ANSWER_BYTES_MAX}"
        )));
    }
    if answer.contains('\0') {
        return Err(Problem::bad_request("`answer` must not contain a NUL character"));
    }
    Ok(())
}

impl Supervisor {
    /// Answers the question that a session waits with.
    pub(super) async fn answer_question(&self, request: Request) {
        let asked = match request.read::<AnswerQuestion>() {
            Ok(asked) => match check(&asked.answer) {
                Ok(()) => self.only(asked.id.clone()).await.map(|id| (id, asked)),
                Err(problem) => Err(problem),
            },
            Err(problem) => Err(problem),
        };
        let Request { context, reply, .. } = request;
        match asked {
            Ok((id, asked)) => {
                let answer = Box::new(AnswerRequest { asked, by: context.submitter });
                self.pass_on(id, SessionRequest::Answer(answer, reply)).await;
            }
            Err(problem) => reply.send(Err(problem)).await,
        }
    }

    /// Changes what a session may spend; without a change, answers what it spent. The same change
    /// under the same key takes effect once.
    pub(super) async fn change_budget(&self, request: Request) {
        let asked = match request.read::<ChangeBudget>() {
            Ok(asked) => self.only(asked.id.clone()).await.map(|id| (id, asked)),
            Err(problem) => Err(problem),
        };
        let Request { context, reply, .. } = request;
        let (id, asked) = match asked {
            Ok(asked) => asked,
            Err(problem) => return reply.send(Err(problem)).await,
        };
        if budget::is_question(&asked) {
            return reply.send(json(self.budget(id).await)).await;
        }
        let command = context.command("budget", &(id, &asked));
        match budget::is_repeated(&*self.deps.journal, id, command.as_ref()).await {
            Ok(true) => return reply.send(json(self.budget(id).await)).await,
            Ok(false) => {}
            Err(problem) => return reply.send(Err(problem)).await,
        }
        let (by, may_raise) = (context.submitter, context.may_raise);
        let request = Box::new(BudgetRequest { asked, by, may_raise, command });
        self.pass_on(id, SessionRequest::Budget(request, reply)).await;
    }

    async fn budget(&self, id: SessionId) -> Result<BudgetAnswer, Problem> {
        let folded = story::fold(&*self.deps.journal, id).await?;
        let folded =
            folded.ok_or_else(|| Problem::not_found(format!("there is no session {id}")))?;
        budget::answer(id, &folded.session)
    }
}
