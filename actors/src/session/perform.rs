//! Effects of a session: requests to the planner and to memory, runs in the debugger.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::{Headers, header},
    request_reply::call,
};
use ai_factory_schemas::{
    answer::{CallCancelAnswer, Dispatched, RunCancelAnswer, SearchAnswer},
    envelope::Trail,
    id::{CallId, RunId, SessionId},
    limit::{CONTEXT_ITEM_BYTES_MAX, CONTEXT_ITEMS_MAX, QUERY_BYTES_MAX},
    plan::Plan,
    problem::{Detail, PathSegment, Problem},
    request::{CancelCall, CancelRun, Dispatch, SearchMemory},
    session::Recalled,
    subject::{MODEL_CANCEL, operation},
};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout_at};
use tracing::Span;

use super::{
    departure::Departure,
    message::PerformedEffect,
    pause::pause,
    perform_model::ModelEffect,
    perform_run::{self, RunTerms},
    state::Session,
    vocabulary::{NextIds, SessionEffect, SessionOutcome},
};
use crate::{agent::plan::HEURISTIC_NOTE, deps::Deps, spans};

/// Timeout of the planner and of memory.
const QUESTION_MAX: Duration = Duration::from_secs(30);
/// Tries of a request after transient refusals.
const QUESTION_TRIES_MAX: u32 = 5;

/// Performs one effect to its end; an attempt of a call that is held back has none.
pub fn effect(
    deps: Arc<Deps>,
    trail: Trail,
    id: SessionId,
    effect: SessionEffect,
    (session, departure): (&Session, Departure),
) -> impl Future<Output = PerformedEffect> + Send + 'static {
    let goal = session.opened().map(|opened| (opened.goal.clone(), opened.task_type));
    let request_id = session.opened().map(|opened| opened.request_id.clone());
    let code = match &effect {
        SessionEffect::Run { step, .. } => session.code(*step).cloned(),
        _ => None,
    };
    let terms = RunTerms::of(session);
    let of_model = ModelEffect::of(session, departure);
    async move {
        let mut headers = Headers::default();
        headers.set(header::CORRELATION, id.to_string());
        if let Some(request_id) = request_id {
            headers.set(header::REQUEST_ID, request_id.as_str());
        }
        if let Some(causation) = trail.causation {
            headers.set(header::CAUSATION, causation.to_string());
        }
        if let Some(traceparent) = trail.traceparent {
            headers.set(header::TRACEPARENT, traceparent);
        }
        let (goal, task_type) = goal.unwrap_or_default();
        let next = NextIds { session: id, run: RunId(deps.ids.new_id()) };
        let mut blobs = Vec::new();
        let outcome = match &effect {
            SessionEffect::Propose => {
                let asked = Dispatch { prompt: goal, task_type };
                propose(&deps, headers, &asked).await.map(|dispatched| {
                    let plan = match &of_model {
                        Some(_) => with_note(dispatched.plan),
                        None => dispatched.plan,
                    };
                    SessionOutcome::Proposed { plan, next }
                })
            }
            SessionEffect::Recall => {
                let items = recall(&deps, headers, id, &goal).await;
                Ok(SessionOutcome::Recalled { items, next })
            }
            SessionEffect::Run { step, run_id, .. } => {
                let (step, run_id) = (*step, *run_id);
                let ran = perform_run::step(&deps, headers, (id, step, run_id), code, &terms).await;
                Ok(match ran {
                    Ok(finished) => SessionOutcome::Ran { finished, next },
                    Err(problem) => {
                        let reason = problem.sentence();
                        SessionOutcome::NotRun { step, run_id, reason, next }
                    }
                })
            }
            SessionEffect::Check { moment, run_id, .. } => {
                let run_id = *run_id;
                let of = (id, *moment, run_id);
                Ok(match perform_run::check(&deps, headers, of, &terms).await {
                    Ok((finished, blob)) => {
                        blobs.extend(blob);
                        SessionOutcome::Checked { finished: Box::new(finished), next }
                    }
                    Err(problem) => {
                        SessionOutcome::NotChecked { run_id, reason: problem.sentence() }
                    }
                })
            }
            SessionEffect::Prepare { .. }
            | SessionEffect::Compact { .. }
            | SessionEffect::Call { .. }
            | SessionEffect::Tool { .. } => {
                let Some(of_model) = of_model else {
                    let outcome = Err(Problem::internal("the session has no model"));
                    return PerformedEffect::new(effect, outcome);
                };
                return of_model.perform(&deps, headers, effect, next).await;
            }
        };
        PerformedEffect { blobs, ..PerformedEffect::new(effect, outcome) }
    }
}

/// The heuristic plan in the place of the model's.
fn with_note(plan: Plan) -> Plan {
    let notes = [HEURISTIC_NOTE, &plan.notes].join(" ").trim_end().to_owned();
    Plan { notes, ..plan }
}

/// Performs effects at the same time up to a deadline, and sends their outcomes together; a failure
/// at once, with the outcomes before it. The result says whether all were in time.
pub async fn together(
    mut effects: FuturesUnordered<impl Future<Output = PerformedEffect>>,
    deadline: Instant,
    send: impl Fn(Vec<PerformedEffect>),
) -> bool {
    let mut performed = Vec::new();
    while let Ok(next) = timeout_at(deadline, effects.next()).await {
        let Some(one) = next else { return true };
        let is_failure = one.outcome.is_err();
        performed.push(one);
        if is_failure || effects.is_empty() {
            send(std::mem::take(&mut performed));
        }
    }
    if !performed.is_empty() {
        send(performed);
    }
    false
}

/// The span of an effect.
pub fn span(effect: &SessionEffect) -> Span {
    match effect {
        SessionEffect::Propose => spans::propose(),
        SessionEffect::Recall => spans::recall(),
        SessionEffect::Prepare { .. }
        | SessionEffect::Compact { .. }
        | SessionEffect::Call { .. }
        | SessionEffect::Tool { .. } => Span::none(),
        SessionEffect::Run { step, run_id, attempt } => spans::run_step(*step, *attempt, *run_id),
        SessionEffect::Check { run_id, attempt, .. } => spans::run_check(*attempt, *run_id),
    }
}

async fn propose(deps: &Deps, headers: Headers, asked: &Dispatch) -> Result<Dispatched, Problem> {
    let mut tries = 1;
    loop {
        let asking = call(
            &*deps.bus,
            &deps.subjects,
            operation::PLANNER_PROPOSE,
            asked,
            headers.clone(),
            QUESTION_MAX,
        );
        match asking.await {
            Err(problem) if problem.is_transient() && tries < QUESTION_TRIES_MAX => {
                pause(&problem).await;
                tries += 1;
            }
            answered => return answered.map_err(of_goal),
        }
    }
}

/// The planner's refusal of a prompt, reworded for a goal: the caller knows of no prompt.
fn of_goal(mut problem: Problem) -> Problem {
    if let Detail::Faults(faults) = &mut problem.detail {
        for place in faults.iter_mut().flat_map(|fault| &mut fault.loc) {
            if *place == PathSegment::from("prompt") {
                *place = PathSegment::from("goal");
            }
        }
    }
    problem
}

/// The recalled memories; if memory fails, the session continues without context.
async fn recall(deps: &Deps, headers: Headers, id: SessionId, goal: &str) -> Vec<Recalled> {
    let asked = SearchMemory {
        q: goal[..goal.floor_char_boundary(QUERY_BYTES_MAX)].to_owned(),
        n: u32::try_from(CONTEXT_ITEMS_MAX).ok(),
        without: Some(id),
        fold: true,
        plain: true,
        ..SearchMemory::default()
    };
    let answer: Result<SearchAnswer, Problem> =
        call(&*deps.bus, &deps.subjects, operation::MEMORY_SEARCH, &asked, headers, QUESTION_MAX)
            .await;
    match answer {
        Ok(answer) => answer
            .results
            .into_iter()
            .take(CONTEXT_ITEMS_MAX)
            .map(|found| {
                let end = found.text.floor_char_boundary(CONTEXT_ITEM_BYTES_MAX);
                Recalled {
                    id: found.id,
                    text: found.text[..end].to_owned(),
                    distance: found.distance,
                }
            })
            .collect(),
        Err(problem) => {
            tracing::warn!(%problem, "memories could not be recalled");
            Vec::new()
        }
    }
}

/// Tells the debugger that nobody waits for a run any longer.
pub async fn cancel(deps: Arc<Deps>, run_id: RunId) {
    let told: Result<RunCancelAnswer, Problem> = call(
        &*deps.bus,
        &deps.subjects,
        operation::DEBUGGER_CANCEL,
        &CancelRun { run_id },
        Headers::default(),
        QUESTION_MAX,
    )
    .await;
    if let Err(problem) = told {
        tracing::debug!(%problem, %run_id, "the debugger could not be told that a run was abandoned");
    }
}

/// Tells the model's actor that nobody waits for a call any longer.
pub async fn cancel_call(deps: Arc<Deps>, call_id: CallId) {
    let mut headers = Headers::default();
    headers.set(header::OUTPUTS, header::RECORDED);
    let told: Result<CallCancelAnswer, Problem> = call(
        &*deps.bus,
        &deps.subjects,
        MODEL_CANCEL,
        &CancelCall { call_id },
        headers,
        QUESTION_MAX,
    )
    .await;
    if let Err(problem) = told {
        tracing::debug!(%problem, %call_id, "the model's actor could not be told that a call was abandoned");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        future::{pending, ready},
    };

    use futures_util::{FutureExt as _, future::LocalBoxFuture};

    use super::*;

    fn recalled() -> LocalBoxFuture<'static, PerformedEffect> {
        let next = NextIds { session: SessionId(uuid::Uuid::nil()), run: RunId(uuid::Uuid::nil()) };
        let outcome = Ok(SessionOutcome::Recalled { items: Vec::new(), next });
        ready(PerformedEffect::new(SessionEffect::Recall, outcome)).boxed_local()
    }

    fn refused() -> LocalBoxFuture<'static, PerformedEffect> {
        let outcome = Err(Problem::bad_request("no"));
        ready(PerformedEffect::new(SessionEffect::Propose, outcome)).boxed_local()
    }

    /// How many outcomes were sent each time, and whether all were in time.
    async fn sent(
        effects: impl IntoIterator<Item = LocalBoxFuture<'static, PerformedEffect>>,
    ) -> (Vec<usize>, bool) {
        let sent = RefCell::new(Vec::new());
        // What is there by now is in time.
        let deadline = Instant::now();
        let in_time = together(effects.into_iter().collect(), deadline, |performed| {
            sent.borrow_mut().push(performed.len());
        });
        let in_time = in_time.await;
        (sent.into_inner(), in_time)
    }

    #[tokio::test]
    async fn outcomes_are_sent_together_a_failure_at_once_and_at_the_deadline_what_there_is() {
        assert_eq!(sent([recalled(), recalled()]).await, (vec![2], true));
        assert_eq!(sent([refused(), pending().boxed_local()]).await, (vec![1], false));
        assert_eq!(sent([recalled(), pending().boxed_local()]).await, (vec![1], false));
        assert_eq!(sent([pending().boxed_local()]).await, (vec![], false));
    }
}
