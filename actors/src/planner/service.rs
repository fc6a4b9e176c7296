//! The planner actor: plans prompts, and records those sent to it directly.

use std::{marker::PhantomData, sync::Arc};

use ai_factory_ports::journal::Append;
use ai_factory_schemas::{
    answer::Dispatched,
    envelope::EventDraft,
    event::Event,
    id::{EventId, PlanId},
    plan::{Plan, PlanEvent, PlanProposed, TaskType},
    problem::Problem,
    request::Dispatch,
};

use tokio::task::spawn_blocking;

use super::{PlanError, propose};
use crate::{
    append,
    deps::Deps,
    request::{Request, RequestContext, json, unknown_operation},
    service::{Handling, Service},
};

/// The longest prompt that is planned in the calling task, in bytes: that takes about as long as a
/// hand-over to another thread and back. Longer ones are planned on a thread for work that blocks.
pub const PLANNED_IN_PLACE_BYTES_MAX: usize = 2 * 1024;

/// A way to plan.
pub trait PlanFunction: Send + Sync + 'static {
    /// The plan for a prompt. Pure; may take long.
    fn plan(prompt: &str, task_type: TaskType) -> Result<Plan, PlanError>;
}

/// The heuristic of this module.
pub struct Heuristic;

impl PlanFunction for Heuristic {
    fn plan(prompt: &str, task_type: TaskType) -> Result<Plan, PlanError> {
        propose(prompt, task_type)
    }
}

/// The planner actor. It has no state: a plan is a function of its prompt.
pub struct Planner<F = Heuristic> {
    deps: Arc<Deps>,
    function: PhantomData<F>,
}

impl<F: PlanFunction> Service for Planner<F> {
    const ACTOR: &'static str = "planner";

    fn new(deps: Arc<Deps>) -> Self {
        Self { deps, function: PhantomData }
    }

    fn handle(&mut self, request: Request) -> Handling {
        let deps = Arc::clone(&self.deps);
        match request.verb.as_str() {
            "propose" => Handling::in_place(async move {
                let proposed = plan::<F>(&request).await.map(|(_, plan)| Dispatched {
                    request_id: request.context.request_id.clone(),
                    created_at: deps.clock.now(),
                    plan,
                });
                request.reply.send(json(proposed)).await;
            }),
            "dispatch" => Handling::beside(async move {
                let dispatched = match plan::<F>(&request).await {
                    Ok((asked, plan)) => record(&deps, &request.context, asked, plan).await,
                    Err(problem) => Err(problem),
                };
                request.reply.send(json(dispatched)).await;
            }),
            verb => {
                let unknown = unknown_operation(Self::ACTOR, verb);
                Handling::answer(request, Err(unknown))
            }
        }
    }
}

/// The plan for a request.
async fn plan<F: PlanFunction>(request: &Request) -> Result<(Dispatch, Plan), Problem> {
    let asked: Dispatch = request.read()?;
    if asked.prompt.len() <= PLANNED_IN_PLACE_BYTES_MAX {
        let plan = F::plan(&asked.prompt, asked.task_type).map_err(|error| refusal(&error))?;
        return Ok((asked, plan));
    }
    let planning = spawn_blocking(move || {
        let plan = F::plan(&asked.prompt, asked.task_type);
        (asked, plan)
    });
    let (asked, plan) = planning
        .await
        .map_err(|fault| Problem::internal(format!("the prompt could not be planned: {fault}")))?;
    Ok((asked, plan.map_err(|error| refusal(&error))?))
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
