//! Requests to the actor of a session with a model: an answer, another budget, the end of a wait.

use ai_factory_schemas::{
    answer::SessionStatusAnswer, problem::Problem, request::ChangeBudget, session::SessionEvent,
    turn::QuestionAsked,
};
use ractor::ActorProcessingErr;

use super::{
    active::SessionActorState,
    answers::{self, AnswerGiven},
    budget, story,
    vocabulary::{SessionCommand, SessionRejection},
};
use crate::{
    decider::Decider,
    request::{Reply, json},
    session_registry::{AnswerRequest, BudgetRequest},
};

impl SessionActorState {
    fn question(&self) -> Option<&QuestionAsked> {
        self.session.conversation().and_then(|conversation| conversation.question())
    }

    /// Stages the answer to the open question; `None` if another one is asked for, or none is open.
    fn answer(&mut self, request: &AnswerRequest) -> Result<Option<Vec<SessionEvent>>, Problem> {
        let AnswerRequest { asked, by } = request;
        let open = self.question();
        let open = open.filter(|open| asked.question_id.is_none_or(|id| id == open.question_id));
        let Some(open) = open else { return Ok(None) };
        let mask = &self.start.deps.mask;
        let given = answers::give(open, Some(&asked.answer), by.clone(), mask)?;
        let events = self.decide_answer(given);
        events.map(Some).map_err(|rejection| Problem::conflict(rejection.to_string()))
    }

    fn decide_answer(&mut self, given: AnswerGiven) -> Result<Vec<SessionEvent>, SessionRejection> {
        let AnswerGiven { answered, result, blobs } = given;
        let events = self.session.decide(SessionCommand::Answer {
            answered: Box::new(answered),
            result: Box::new(result),
            next: self.next(),
        })?;
        self.unsaved_blobs.extend(blobs);
        Ok(events)
    }

    /// Takes an answer: on disk before it is acknowledged. The same answer again is acknowledged
    /// again.
    pub(super) async fn take_answer(
        &mut self,
        request: &AnswerRequest,
        reply: Reply,
    ) -> Result<(), ActorProcessingErr> {
        let answered = match self.answer(request) {
            Ok(Some(events)) => {
                self.stage(events)?;
                self.save().await?;
                // The wait for the answer does not count.
                self.set_deadline();
                Ok(())
            }
            Ok(None) => self.was_given(request).await,
            Err(problem) => Err(problem),
        };
        let (session_id, status) = (self.start.id, self.session.phase());
        let answer = answered.map(|()| SessionStatusAnswer { session_id, status });
        reply.send(json(answer)).await;
        Ok(())
    }

    async fn was_given(&self, request: &AnswerRequest) -> Result<(), Problem> {
        let folded = story::fold(&*self.start.deps.journal, self.start.id).await?;
        let recorded = folded.map(|folded| folded.recorded).unwrap_or_default();
        if answers::is_given(&self.start.deps.mask, &recorded, &request.asked) {
            return Ok(());
        }
        Err(Problem::conflict(SessionRejection::NothingAsked.to_string()))
    }

    /// Sets another budget: on disk before it is acknowledged.
    pub(super) async fn take_budget(
        &mut self,
        request: BudgetRequest,
        reply: Reply,
    ) -> Result<(), ActorProcessingErr> {
        let command = request.command.clone();
        let journal = &*self.start.deps.journal;
        let changed = match budget::is_repeated(journal, self.start.id, command.as_ref()).await {
            Ok(true) => Ok(None),
            Ok(false) => self.change_budget(request).map(Some),
            Err(problem) => Err(problem),
        };
        match changed {
            Ok(None) => reply.send(json(budget::answer(self.start.id, &self.session))).await,
            Ok(Some(events)) => {
                self.stage(events)?;
                // The day may have room as well.
                self.retry_turn()?;
                self.command = command;
                self.save().await?;
                self.set_deadline();
                reply.send(json(budget::answer(self.start.id, &self.session))).await;
            }
            Err(problem) => reply.send(Err(problem)).await,
        }
        Ok(())
    }

    fn change_budget(&mut self, request: BudgetRequest) -> Result<Vec<SessionEvent>, Problem> {
        let BudgetRequest { asked, by, may_raise, .. } = request;
        let refused = |rejection: SessionRejection| Problem::conflict(rejection.to_string());
        let conversation = self.session.conversation().zip(self.session.model());
        let (conversation, terms) =
            conversation.ok_or_else(|| refused(SessionRejection::NoModel))?;
        let now = conversation.spend().budget();
        let asked: &ChangeBudget = &asked;
        let budget = budget::changed(now, asked, terms.prices.is_some(), may_raise)?;
        let next = self.next();
        self.session.decide(SessionCommand::ChangeBudget { budget, by, next }).map_err(refused)
    }

    /// Gives the open question up, if its time is over.
    pub(super) fn expire_question(&mut self) -> Result<(), ActorProcessingErr> {
        let deps = &self.start.deps;
        let open = self.question();
        let Some(open) = open.filter(|open| open.expires <= deps.clock.now()) else {
            return Ok(());
        };
        let given = answers::give(open, None, None, &deps.mask)?;
        self.set_deadline();
        match self.decide_answer(given) {
            Ok(events) => self.stage(events),
            // It was answered, or is over.
            Err(_) => Ok(()),
        }
    }

    /// Tries again what the day's budget had no room for.
    pub(super) fn retry_turn(&mut self) -> Result<(), ActorProcessingErr> {
        let next = self.next();
        match self.session.decide(SessionCommand::RetryTurn { next }) {
            Ok(events) => {
                self.set_deadline();
                self.stage(events)
            }
            Err(_) => Ok(()),
        }
    }
}
