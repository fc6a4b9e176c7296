//! What ends early, dies, or is taken up again.

use ai_factory_actors::{
    request::Request,
    service::{Handling, Service, ServiceActor},
};
use ractor::Actor;

use super::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_session_ends_and_its_run_with_it() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("hang")).await;
    wait_for(&mut events, "run.dispatched").await;
    let which = SessionSelector::id(submitted.session_id);
    let told: SessionStatusAnswer =
        factory.call(operation::SUPERVISOR_CANCEL, &which).await.unwrap();
    assert_eq!(told.status.as_str(), "error");
    wait_for(&mut events, "run.finished").await;
    let rows: Vec<SessionRow> =
        factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
    assert_eq!(rows[0].end, Some(SessionEnd::Cancelled));
    // Once more does no harm.
    let told: SessionStatusAnswer =
        factory.call(operation::SUPERVISOR_CANCEL, &which).await.unwrap();
    assert_eq!(told.status.as_str(), "error");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_end_a_step_and_a_session() {
    let short = Limits { step_max: Duration::from_millis(50), ..limits() };
    let factory = TestFactory::start_with(short, true, TempDir::new().unwrap()).await;
    let answer = factory.run(&format!("{}\nthen {}", code("hang"), code("fine"))).await.unwrap();
    assert_eq!((answer.end, answer.status), (SessionEnd::Completed, SessionStatus::Partial));
    assert!(answer.result.contains("deadline") && answer.result.contains("fine"), "{answer:?}");

    let short = Limits { session_max: Duration::from_millis(50), ..limits() };
    let factory = TestFactory::start_with(short, true, TempDir::new().unwrap()).await;
    let answer = factory.run(&code("hang")).await.unwrap();
    assert_eq!((answer.end, answer.status), (SessionEnd::Expired, SessionStatus::Error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_interrupted_goes_on_with_the_next_attempt() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;

    let factory = factory.restart(limits(), true).await;
    let mut events = factory.events().await;
    let attempt = wait_for(&mut events, "session.resumed").await;
    assert_eq!(attempt.stream.id, submitted.session_id.0);
    factory.sandbox.gate.add_permits(1);
    wait_for(&mut events, "session.concluded").await;
    let story: SessionStory = factory
        .call(operation::SUPERVISOR_SESSION, &SessionSelector::id(submitted.session_id))
        .await
        .unwrap();
    let dispatched = |name: &str| story.timeline.iter().filter(|e| e.event == name).count();
    assert_eq!((dispatched("session.step_dispatched"), dispatched("run.dispatched")), (2, 2));
    assert_eq!(story.row.status.as_str(), "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_may_not_be_repeated_waits_for_a_decision() {
    for (resolution, status) in [(Resolution::Skip, "error"), (Resolution::Repeat, "success")] {
        let factory = TestFactory::start().await;
        let mut events = factory.events().await;
        let submitted = factory.submit(&code("wait")).await;
        wait_for(&mut events, "run.dispatched").await;
        let factory = factory.restart(limits(), false).await;
        let mut events = factory.events().await;
        wait_for(&mut events, "session.step_unknown").await;
        factory.sandbox.gate.add_permits(1);
        let resolve = Resolve { id: submitted.session_id.into(), resolution };
        let _: SessionStatusAnswer =
            factory.call(operation::SUPERVISOR_RESOLVE, &resolve).await.unwrap();
        wait_for(&mut events, "session.concluded").await;
        let rows: Vec<SessionRow> =
            factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
        assert_eq!(rows[0].status.as_str(), status, "{resolution:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_run_leaves_everything_else_working() {
    let factory = TestFactory::start().await;
    let refused = factory
        .call::<RunAnswer>(operation::DEBUGGER_RUN, &serde_json::json!({ "code": "panic" }))
        .await
        .unwrap_err();
    assert_eq!(refused.status, 503, "who asked is told at once: {refused}");
    assert_eq!(factory.run(&code("still here")).await.unwrap().status, SessionStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_actor_that_panics_is_restarted_and_its_session_ends_well() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;
    // The next to ask for the time is the debugger, for the end of the run; then the shell, twice.
    factory.clock.panics_left.store(3, Ordering::SeqCst);
    factory.sandbox.gate.add_permits(10);
    let which = SessionSelector::id(submitted.session_id);
    let concluded = wait_for(&mut events, "session.concluded").await;
    assert_eq!(concluded.stream.id, submitted.session_id.0);
    let story: SessionStory = factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
    assert_eq!(story.row.status.as_str(), "success");
    assert_eq!(factory.run("and others").await.unwrap().status, SessionStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_actor_dies_again_and_again_is_given_up() {
    let few = Limits { session_resumes_max: 0, ..limits() };
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;
    let factory = factory.restart(few, true).await;
    let mut events = factory.events().await;
    wait_for(&mut events, "session.concluded").await;
    let rows: Vec<SessionRow> =
        factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
    assert_eq!((rows[0].end, rows[0].status.as_str()), (Some(SessionEnd::Failed), "error"));
}

/// Dies of its first request.
struct Brittle;

impl Service for Brittle {
    const ACTOR: &'static str = "brittle";

    fn new(_: Arc<Deps>) -> Self {
        Self
    }

    fn handle(&mut self, _: Request) -> Handling {
        panic!("the test asked for it");
    }
}

#[tokio::test]
async fn an_actor_that_dies_leaves_nobody_to_wait_who_had_asked_it() {
    let factory = TestFactory::start().await;
    let deps = &factory.deps;
    let brittle = ServiceActor::<Brittle>::default();
    let (_actor, dying) = Actor::spawn(None, brittle, Arc::clone(deps)).await.unwrap();
    let asked = Operation { actor: Brittle::ACTOR, verb: "ask" };
    // All of them ask before it has its turn, and most have not been looked at when it dies.
    let asking = (0..2_000).map(|_| factory.call::<Dispatched>(asked, &"x"));
    for answer in futures_util::future::join_all(asking).await {
        assert_eq!(answer.unwrap_err().status, 503);
    }
    assert!(dying.await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_restarts_than_allowed_end_the_whole_tree_in_order() {
    let mut factory = TestFactory::start().await;
    let before = factory.run("fine").await.unwrap();
    factory.clock.panics_left.store(usize::MAX, Ordering::SeqCst);
    let submitting = tokio::spawn({
        let deps = Arc::clone(&factory.deps);
        async move {
            let (bus, subjects) = (&*deps.bus, &deps.subjects);
            let (run, headers) = (operation::SUPERVISOR_RUN, Headers::default());
            let goal = goal("doomed");
            request_reply::call::<SessionAnswer>(bus, subjects, run, &goal, headers, PATIENCE).await
        }
    });
    let tree = factory.tree.as_mut().unwrap();
    tokio::time::timeout(PATIENCE, tree.ended()).await.expect("the tree gives up");
    submitting.abort();
    factory.clock.panics_left.store(0, Ordering::SeqCst);
    // What was acknowledged is still there.
    let factory = factory.restart(limits(), true).await;
    let rows: Vec<SessionRow> =
        factory.call(operation::SUPERVISOR_STATUS, &Newest::default()).await.unwrap();
    assert!(rows.iter().any(|row| row.session_id == before.session_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_run_that_was_interrupted_is_closed_or_begun_again_never_lost() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let wait = serde_json::json!({ "code": "wait" });
    let asking = tokio::spawn({
        let deps = Arc::clone(&factory.deps);
        let wait = wait.clone();
        async move {
            let mut headers = Headers::default();
            headers.set(header::MESSAGE_ID, "again");
            let (bus, subjects) = (&*deps.bus, &deps.subjects);
            let run = operation::DEBUGGER_RUN;
            request_reply::call::<RunAnswer>(bus, subjects, run, &wait, headers, PATIENCE).await
        }
    });
    wait_for(&mut events, "run.dispatched").await;
    asking.abort();
    let _ = asking.await;
    let factory = factory.restart(limits(), true).await;
    factory.sandbox.gate.add_permits(1);
    // Whether the actor closed its record before or after the key came again, there is one answer.
    match factory.call_keyed::<RunAnswer>(operation::DEBUGGER_RUN, &wait, Some("again")).await {
        Ok(ran) => assert_eq!(ran.attempts, 2),
        Err(problem) => assert_eq!(problem.status, 409),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_without_room_delays_what_has_happened_and_repeats_nothing() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;
    factory.counted.busy_left.store(20, Ordering::SeqCst);
    factory.sandbox.gate.add_permits(1);
    let concluded = wait_for(&mut events, "session.concluded").await;
    assert_eq!(concluded.stream.id, submitted.session_id.0);
    assert_eq!(factory.counted.busy_left.load(Ordering::SeqCst), 0);
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 1, "the program ran once");
    // What nobody was promised is refused instead.
    factory.counted.busy_left.store(1, Ordering::SeqCst);
    let refused = factory.run("no room for this").await.unwrap_err();
    assert_eq!(refused.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_unfinished_session_takes_it_up() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let wait = goal(&code("wait"));
    let first: Submitted =
        factory.call_keyed(operation::SUPERVISOR_SUBMIT, &wait, Some("k")).await.unwrap();
    wait_for(&mut events, "run.dispatched").await;
    let factory = factory.restart_leaving().await;
    factory.sandbox.gate.add_permits(1);
    let answer: SessionAnswer =
        factory.call_keyed(operation::SUPERVISOR_RUN, &wait, Some("k")).await.unwrap();
    assert_eq!((answer.session_id, answer.status), (first.session_id, SessionStatus::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_cancelled_before_it_was_taken_up_begins_nothing_again() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let submitted = factory.submit(&code("wait")).await;
    wait_for(&mut events, "run.dispatched").await;
    let factory = factory.restart_leaving().await;
    let which = SessionSelector::id(submitted.session_id);
    let told: SessionStatusAnswer =
        factory.call(operation::SUPERVISOR_CANCEL, &which).await.unwrap();
    assert_eq!(told.status.as_str(), "error");
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_session_that_is_over_leaves_nothing_running() {
    let factory = TestFactory::start().await;
    let goal = |goal: &str| Goal::new(goal);
    let _: SessionAnswer =
        factory.call(operation::SUPERVISOR_RUN, &goal("The first")).await.unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    for number in 0..30 {
        let body = goal(&format!("Run it {number}:\n```python\nexit 0\n```\n"));
        let _: SessionAnswer = factory.call(operation::SUPERVISOR_RUN, &body).await.unwrap();
    }
    // Tasks end a little later than what they did.
    let ended = async {
        while metrics.num_alive_tasks() > before + 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("tasks of sessions that are over live on");
}
