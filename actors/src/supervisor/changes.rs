//! Requests that change a session: passed on to its actor.

use ai_factory_schemas::{
    answer::SessionStatusAnswer,
    id::SessionId,
    problem::Problem,
    request::{Resolve, SessionSelector},
};

use super::Supervisor;
use crate::{
    request::{Request, json},
    session::{
        answers, lookup,
        story::{self, FoldedSession},
        vocabulary::SessionRejection,
    },
    session_registry::SessionRequest,
};

impl Supervisor {
    pub(super) async fn cancel(&self, request: Request) {
        let asked = match request.read::<SessionSelector>() {
            Ok(asked) => self.which(asked, lookup::only).await,
            Err(problem) => Err(problem),
        };
        match asked {
            Ok(id) => self.pass_on(id, SessionRequest::Cancel(request.reply)).await,
            Err(problem) => request.reply.send(Err(problem)).await,
        }
    }

    pub(super) async fn resolve(&self, request: Request) {
        let asked = match request.read::<Resolve>() {
            Ok(Resolve { id, resolution }) => self.only(id).await.map(|id| (id, resolution)),
            Err(problem) => Err(problem),
        };
        match asked {
            Ok((id, resolution)) => {
                self.pass_on(id, SessionRequest::Resolve(resolution, request.reply)).await;
            }
            Err(problem) => request.reply.send(Err(problem)).await,
        }
    }

    /// Passes a request on to a session's actor, started if there is none; answers for a session
    /// that is over.
    pub(super) async fn pass_on(&self, id: SessionId, request: SessionRequest) {
        let Err(request) = self.deps.sessions.send(id, request) else { return };
        let problem = match story::fold(&*self.deps.journal, id).await {
            Ok(Some(folded)) if folded.session.concluded().is_none() => {
                let is_new = self.deps.sessions.enter(id, None);
                // Removed again in between: dropping the request answers it.
                let _ = self.deps.sessions.send(id, *request);
                if is_new {
                    self.start(id, None).await;
                }
                return;
            }
            Ok(Some(folded)) => {
                self.deps.sessions.waiting.remove(id);
                return self.answer_for_ended(id, &folded, *request).await;
            }
            Ok(None) => Problem::not_found(format!("there is no session {id}")),
            Err(problem) => problem,
        };
        if let Some(reply) = request.into_reply() {
            reply.send(Err(problem)).await;
        }
    }

    /// Answers a request to a session that is over: what it asks for cannot happen any more.
    async fn answer_for_ended(
        &self,
        id: SessionId,
        folded: &FoldedSession,
        request: SessionRequest,
    ) {
        let status = folded.session.phase();
        let over = || Err(Problem::conflict(SessionRejection::Over.to_string()));
        match request {
            SessionRequest::Cancel(reply) | SessionRequest::Resolve(_, reply) => {
                reply.send(json(Ok(SessionStatusAnswer { session_id: id, status }))).await;
            }
            SessionRequest::Answer(request, reply) => {
                let answer = if answers::is_given(&self.deps.mask, &folded.recorded, &request.asked)
                {
                    json(Ok(SessionStatusAnswer { session_id: id, status }))
                } else {
                    over()
                };
                reply.send(answer).await;
            }
            SessionRequest::Budget(_, reply) => reply.send(over()).await,
            SessionRequest::QuestionExpired | SessionRequest::RetryTurn => {}
        }
    }
}
