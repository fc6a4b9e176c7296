//! The planner beside a plan that takes long.

use std::sync::Condvar;

use ai_factory_actors::{
    planner::{
        PlanError, propose,
        service::{PLANNED_IN_PLACE_BYTES_MAX, PlanFunction, Planner},
    },
    service::ServiceActor,
};
use ai_factory_schemas::plan::Plan;
use ractor::Actor;

use super::harness::*;

/// Gets a permit when the slow plan has begun.
static BEGUN: Semaphore = Semaphore::const_new(0);
/// Whether the slow plan may end.
static IS_OPEN: Mutex<bool> = Mutex::new(false);
static OPENED: Condvar = Condvar::new();

/// A prompt that begins with `slow` is planned when the test says so.
struct Slow;

impl PlanFunction for Slow {
    fn plan(prompt: &str, task_type: TaskType) -> Result<Plan, PlanError> {
        if prompt.starts_with("slow") {
            BEGUN.add_permits(1);
            drop(OPENED.wait_while(IS_OPEN.lock().unwrap(), |is_open| !*is_open).unwrap());
        }
        propose(prompt, task_type)
    }
}

/// One thread: a plan on it would hold up everything.
#[tokio::test]
async fn a_plan_that_takes_long_does_not_hold_up_the_planners_other_requests() {
    let factory = TestFactory::start().await;
    let deps = factory.deps_under("paused");
    let planner = ServiceActor::<Planner<Slow>>::default();
    let (actor, ended) = Actor::spawn(None, planner, Arc::clone(&deps)).await.unwrap();
    let plan = async |operation, prompt: String| {
        let asked = Dispatch { prompt, task_type: TaskType::General };
        let headers = Headers::default();
        let (bus, subjects) = (&*deps.bus, &deps.subjects);
        request_reply::call::<Dispatched>(bus, subjects, operation, &asked, headers, PATIENCE).await
    };
    let long = "x".repeat(PLANNED_IN_PLACE_BYTES_MAX);
    let (propose, dispatch) = (operation::PLANNER_PROPOSE, operation::PLANNER_DISPATCH);
    for operation in [propose, dispatch] {
        *IS_OPEN.lock().unwrap() = false;
        let mut slow = Box::pin(plan(operation, format!("slow {long}")));
        tokio::select! {
            answer = &mut slow => panic!("nobody opened it: {answer:?}"),
            begun = BEGUN.acquire() => begun.unwrap().forget(),
        }
        for prompt in ["Greet me".to_owned(), long.clone()] {
            plan(propose, prompt.clone()).await.unwrap();
            plan(dispatch, prompt).await.unwrap();
        }
        *IS_OPEN.lock().unwrap() = true;
        OPENED.notify_all();
        assert_eq!(slow.await.unwrap().plan.steps.len(), 1);
    }
    actor.stop(None);
    ended.await.unwrap();
}
