//! The planner actor: plans prompts, and records those sent to it directly.

use std::sync::Arc;

use ai_factory_ports::journal::Append;
use ai_factory_schemas::{
    answer::Dispatched,
    envelope::EventDraft,
    event::Event,
    id::{EventId, PlanId},
    plan::{Plan, PlanEvent, PlanProposed},
    problem::Problem,
    request::Dispatch,
};

use super::{PlanError, propose};
use crate::{
    append,
    deps::Deps,
    service::{Answer, Request, RequestContext, Service, Tasks, json, unknown_operation},
};

/// The planner actor. It has no state: a plan is a function of its prompt.
pub struct Planner {
    deps: Arc<Deps>,
}

impl Service for Planner {
    const ACTOR: &'static str = "planner";

    fn new(deps: Arc<Deps>) -> Self {
        Self { deps }
    }

    fn handle(&mut self, request: Request, tasks: &mut Tasks) {
        let deps = Arc::clone(&self.deps);
        let planned = request.read::<Dispatch>().and_then(|asked| {
            let plan = propose(&asked.prompt, asked.task_type).map_err(|error| refusal(&error))?;
            Ok((asked, plan))
        });
        tasks.spawn(async move {
            let answer = match (request.verb.as_str(), planned) {
                ("dispatch" | "propose", Err(problem)) => Err(problem),
                ("dispatch", Ok((asked, plan))) => {
                    json(record(&deps, &request.context, asked, plan).await)
                }
                ("propose", Ok((_, plan))) => json(Ok(Dispatched {
                    request_id: request.context.request_id.clone(),
                    created_at: deps.clock.now(),
                    plan,
                })),
                (verb, _) => unknown(verb),
            };
            request.reply.send(answer).await;
        });
    }
}

fn unknown(verb: &str) -> Answer {
    Err(unknown_operation(Planner::ACTOR, verb))
}

fn refusal(error: &PlanError) -> Problem {
    Problem::invalid(&["body", "prompt"], "value_error", error.to_string())
}

async fn record(
    deps: &Deps,
    context: &RequestContext,
    asked: Dispatch,
    plan: Plan,
) -> Result<Dispatched, Problem> {
    let command = context.command("dispatch", &asked);
    let created_at = deps.clock.now();
    let proposed = PlanProposed {
        request_id: context.request_id.clone(),
        prompt: asked.prompt,
        plan: plan.clone(),
    };
    let append = Append {
        stream: PlanId(deps.ids.new_id()).into(),
        expected: 0,
        events: vec![EventDraft {
            id: EventId(deps.ids.new_id()),
            time: created_at,
            event: proposed.into(),
            trail: context.trail(),
        }],
        command,
        blobs: Vec::new(),
    };
    let appended = append::append(&*deps.journal, append).await.map_err(Problem::from)?;
    if !appended.repeated {
        return Ok(Dispatched { request_id: context.request_id.clone(), created_at, plan });
    }
    // I-5: a repetition gets the first answer.
    let first = deps.journal.load(appended.stream, 0).await.map_err(Problem::from)?;
    match first.into_iter().next().map(|recorded| (recorded.time, recorded.event)) {
        Some((created_at, Event::Plan(PlanEvent::Proposed(first)))) => {
            Ok(Dispatched { request_id: first.request_id, created_at, plan: first.plan })
        }
        _ => Err(Problem::conflict("the key was already used for something else")),
    }
}
