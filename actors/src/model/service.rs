//! The actor of the model: takes calls from sessions.

use std::sync::Arc;

use ai_factory_schemas::{
    answer::{CallCancelAnswer, Completed},
    problem::Problem,
    request::{CancelCall, Complete},
};

use super::execute::CallExecutor;
use crate::{
    deps::Deps,
    request::{Answer, Request, json, unknown_operation},
    service::{Handling, Service},
    tasks::Tasks,
};

/// The actor of the model. Calls are its tasks: when it dies their requests end, and their records
/// say that their end is unknown.
pub struct ModelService {
    executor: Arc<CallExecutor>,
    deps: Arc<Deps>,
}

impl Service for ModelService {
    const ACTOR: &'static str = "model";

    fn new(deps: Arc<Deps>) -> Self {
        Self { executor: Arc::new(CallExecutor::new(Arc::clone(&deps))), deps }
    }

    fn started(&mut self, tasks: &mut Tasks) {
        let executor = Arc::clone(&self.executor);
        let starting = self.deps.starting.token();
        tasks.spawn(async move {
            executor.abandon_orphans().await;
            drop(starting);
        });
    }

    fn handle(&mut self, request: Request) -> Handling {
        // Nobody outside asks a model through the factory, or ends a call: for them there are no
        // such operations.
        if !request.context.as_recorded {
            let unknown = unknown_operation(Self::ACTOR, &request.verb);
            return Handling::answer(request, Err(unknown));
        }
        let executor = Arc::clone(&self.executor);
        Handling::beside(async move {
            let answer = answer(&executor, &request).await;
            request.reply.send(answer).await;
        })
    }
}

async fn answer(executor: &CallExecutor, request: &Request) -> Answer {
    match request.verb.as_str() {
        "complete" => json(complete(executor, request).await),
        "cancel" => json(cancel(executor, request).await),
        verb => Err(unknown_operation(ModelService::ACTOR, verb)),
    }
}

async fn complete(executor: &CallExecutor, request: &Request) -> Result<Completed, Problem> {
    let asked: Complete = request.read()?;
    executor.complete(&request.context, &asked).await
}

async fn cancel(executor: &CallExecutor, request: &Request) -> Result<CallCancelAnswer, Problem> {
    let CancelCall { call_id } = request.read()?;
    Ok(CallCancelAnswer { call_id, was_running: executor.cancel(call_id).await? })
}
