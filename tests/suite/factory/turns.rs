//! Sessions with a model that answers by a script: the loop, its limits, and who is asked.

use ai_factory_schemas::{
    answer::{BudgetAnswer, GoalAnswer, SessionCalls, SessionFiles, SessionPending},
    check::Check,
    id::{SessionId, SessionRef},
    model::{Budget, ModelErrorClass},
    request::{AnswerQuestion, ChangeBudget, GoalBudget, GoalFile},
    session::{SessionPhase, WaitReason},
};
use serde_json::json;

use super::{harness::*, workspace::text};
use crate::support::conversing_model::{ConversingModel, NAME, Said, finish, plan, tool};

pub(super) async fn start(script: Vec<Said>) -> (TestFactory, Arc<ConversingModel>) {
    start_within(script, limits()).await
}

async fn start_within(script: Vec<Said>, limits: Limits) -> (TestFactory, Arc<ConversingModel>) {
    let model = Arc::new(ConversingModel::new(script));
    let dir = TempDir::new().unwrap();
    let factory = TestFactory::start_with_model(limits, dir, Arc::clone(&model) as _).await;
    (factory, model)
}

pub(super) fn which(id: SessionId) -> SessionSelector {
    SessionSelector::id(id)
}

fn named(id: SessionId) -> SessionRef {
    id.to_string().parse().unwrap()
}

async fn run(factory: &TestFactory, goal: &Goal) -> GoalAnswer {
    factory.call(operation::SUPERVISOR_RUN, goal).await.unwrap()
}

pub(super) async fn wait(factory: &TestFactory, id: SessionId) -> GoalAnswer {
    factory.call(operation::SUPERVISOR_WAIT, &which(id)).await.unwrap()
}

pub(super) fn concluded(answer: GoalAnswer) -> SessionAnswer {
    match answer {
        GoalAnswer::Concluded(answer) => *answer,
        GoalAnswer::Pending(pending) => panic!("it is not over: {pending:?}"),
    }
}

fn pending(answer: GoalAnswer) -> SessionPending {
    match answer {
        GoalAnswer::Pending(pending) => *pending,
        GoalAnswer::Concluded(answer) => panic!("it is over: {answer:?}"),
    }
}

fn program(code: &str) -> Said {
    tool("run", json!({ "language": "python", "code": code }))
}

fn write(path: &str, content: &str) -> Said {
    tool("write_file", json!({ "path": path, "content": content }))
}

fn with_check(goal: &str, files: Vec<GoalFile>, check: &str) -> Goal {
    let check = Check { language: "python".to_owned(), code: check.to_owned() };
    Goal { files, check: Some(check), ..Goal::new(goal) }
}

pub(super) fn asking(goal: &str) -> Goal {
    Goal { ask: true, ..Goal::new(goal) }
}

pub(super) async fn answer(
    factory: &TestFactory,
    id: SessionId,
    text: &str,
) -> Result<SessionStatusAnswer, Problem> {
    let asked = AnswerQuestion { id: named(id), question_id: None, answer: text.to_owned() };
    factory.call(operation::SUPERVISOR_ANSWER, &asked).await
}

fn no_change(id: SessionId) -> ChangeBudget {
    ChangeBudget {
        id: named(id),
        add_tokens: None,
        add_cost_micros: None,
        tokens_max: None,
        cost_micros_max: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computation_is_planned_run_and_finished_by_the_model() {
    let (factory, model) = start(vec![plan(), program("6765"), finish("It is 6765.")]).await;
    let answer = concluded(run(&factory, &goal("Which is the 20th Fibonacci number?")).await);
    assert_eq!((&*answer.result, answer.status), ("It is 6765.", SessionStatus::Success));
    assert_eq!(answer.plan.plan.model_name, NAME);
    assert!(model.heard().iter().any(|text| text.contains("6765")), "{:?}", model.heard());
    let used = answer.model.unwrap();
    assert_eq!((used.turns, used.attempts), (3, 3));
    assert_eq!(used.budget.tokens_spent, used.usage.total());
    assert_eq!(used.budget.tokens_reserved, 0);
    let calls: SessionCalls =
        factory.call(operation::SUPERVISOR_CALLS, &which(answer.session_id)).await.unwrap();
    let turns: Vec<_> = calls.calls.iter().map(|call| (call.turn, &*call.status)).collect();
    assert_eq!(turns, [(1, "answered"), (2, "answered"), (3, "answered")]);
    assert_eq!(calls.calls[1].tools, ["run"]);
    let story: SessionStory =
        factory.call(operation::SUPERVISOR_SESSION, &which(answer.session_id)).await.unwrap();
    let told = |name: &str| story.timeline.iter().filter(|entry| entry.event == name).count();
    assert_eq!((told("session.turn_finished"), told("call.answered")), (3, 3));
    assert_eq!((&*story.result, story.waits_for), ("It is 6765.", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_repaired_until_its_check_passes() {
    let edit = json!({ "path": "m.py", "old_text": "worse", "new_text": "still bad" });
    let script = vec![
        plan(),
        write("m.py", "worse"),
        finish("done"),
        tool("edit_file", edit),
        finish("really done"),
        write("m.py", "good"),
        finish("It is repaired."),
    ];
    let (factory, model) = start(script).await;
    let asked = with_check("Repair m.py", vec![text("m.py", "bad")], "has m.py good");
    let answer = concluded(run(&factory, &asked).await);
    assert_eq!((&*answer.result, answer.status), ("It is repaired.", SessionStatus::Success));
    let changed: Vec<_> =
        answer.changed_files.unwrap().into_iter().map(|change| change.path).collect();
    assert_eq!(changed, ["m.py"]);
    let refusals = model.heard().iter().filter(|text| text.contains("not so: has m.py")).count();
    assert_eq!(refusals, 3, "before the work, and at two ends: {:?}", model.heard());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_a_person_and_the_session_leaves_memory_meanwhile() {
    let ask = tool("ask", json!({ "question": "Which colour?" }));
    let (factory, model) = start(vec![plan(), ask, finish("It is blue.")]).await;
    let waiting = pending(run(&factory, &asking("Paint it")).await);
    let id = waiting.session_id;
    assert_eq!(waiting.status, SessionPhase::Waiting(WaitReason::Question));
    assert_eq!(waiting.question.unwrap().question, "Which colour?");
    assert!(waiting.waits_for.contains("answer"), "{}", waiting.waits_for);
    assert!(!factory.deps.sessions.has(id));
    assert_eq!(factory.deps.sessions.waiting.count(), 1);
    assert_eq!(answer(&factory, id, " \n").await.unwrap_err().status, 400);
    assert_eq!(pending(wait(&factory, id).await).status, waiting.status);

    answer(&factory, id, "blue").await.unwrap();
    let ended = concluded(wait(&factory, id).await);
    assert_eq!((&*ended.result, ended.status), ("It is blue.", SessionStatus::Success));
    assert!(model.heard().iter().any(|text| text.contains("blue")), "{:?}", model.heard());
    assert_eq!(factory.deps.sessions.waiting.count(), 0);
    answer(&factory, id, "blue").await.expect("the same answer again is acknowledged");
    assert_eq!(answer(&factory, id, "red").await.unwrap_err().status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_answers_expires_and_the_model_hears_so() {
    let ask = tool("ask", json!({ "question": "Which colour?" }));
    let mut limits = limits();
    limits.model.turns.ask_ms_max = 1;
    let script = vec![plan(), ask, finish("It is any colour.")];
    let (factory, model) = start_within(script, limits).await;
    let mut events = factory.events().await;
    let begun = factory.call::<Submitted>(operation::SUPERVISOR_SUBMIT, &asking("Paint it")).await;
    wait_for(&mut events, "session.question_answered").await;
    wait_for(&mut events, "session.concluded").await;
    let answer = concluded(wait(&factory, begun.unwrap().session_id).await);
    assert_eq!(answer.result, "It is any colour.");
    assert!(model.heard().iter().any(|text| text.contains("Nobody answered")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_budget_waits_and_goes_on_with_a_larger_one() {
    let (factory, model) = start(vec![plan(), program("1"), finish("1")]).await;
    let budget = GoalBudget { tokens_max: Some(1_000), cost_micros_max: None };
    let asked = Goal { budget: Some(budget), ..goal("Compute it") };
    let waiting = pending(run(&factory, &asked).await);
    let id = waiting.session_id;
    assert_eq!(waiting.status, SessionPhase::Waiting(WaitReason::Budget));
    assert!(waiting.waits_for.contains("--add-tokens"), "{}", waiting.waits_for);
    assert_eq!(model.asked.load(Ordering::SeqCst), 0);
    let told: BudgetAnswer =
        factory.call(operation::SUPERVISOR_BUDGET, &no_change(id)).await.unwrap();
    assert_eq!((told.budget.tokens_max, told.budget.tokens_spent), (1_000, 0));

    let more = ChangeBudget { add_tokens: Some(500_000), ..no_change(id) };
    let mut headers = Headers::default();
    headers.set(header::INGRESS, "nats");
    let deps = &factory.deps;
    let (bus, subjects) = (&*deps.bus, &deps.subjects);
    let operation = operation::SUPERVISOR_BUDGET;
    let refused: Result<BudgetAnswer, Problem> =
        request_reply::call(bus, subjects, operation, &more, headers, PATIENCE).await;
    assert_eq!(refused.unwrap_err().status, 403);

    let mut headers = Headers::default();
    headers.set(header::MESSAGE_ID, "raise-once");
    for _ in 0..2 {
        let raised: BudgetAnswer =
            request_reply::call(bus, subjects, operation, &more, headers.clone(), PATIENCE)
                .await
                .unwrap();
        assert_eq!(raised.budget.tokens_max, 501_000);
    }
    let answer = concluded(wait(&factory, id).await);
    assert_eq!((&*answer.result, answer.status), ("1", SessionStatus::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_can_never_pass_ends_the_session_as_failed_with_what_was_tried() {
    let (factory, model) = start(vec![plan(), finish("done")]).await;
    let asked = with_check("Do it", Vec::new(), "has never there");
    let answer = concluded(run(&factory, &asked).await);
    assert_eq!((answer.status, answer.end), (SessionStatus::Error, SessionEnd::Failed));
    assert!(answer.reason.is_some_and(|reason| reason.contains("finish")));
    assert!(model.asked.load(Ordering::SeqCst) <= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_cancelled_within_a_call_ends_and_its_reservation_stays_charged() {
    let (factory, model) = start(vec![plan(), Said::Hangs]).await;
    let id = factory.submit("Wait for it").await.session_id;
    model.begun(2).await;
    let status: SessionStatusAnswer =
        factory.call(operation::SUPERVISOR_CANCEL, &which(id)).await.unwrap();
    assert!(matches!(status.status, SessionPhase::Concluded(_)));
    let answer = concluded(wait(&factory, id).await);
    assert_eq!(answer.end, SessionEnd::Cancelled);
    let budget = answer.model.unwrap().budget;
    assert!(budget.tokens_reserved + budget.tokens_spent > 8_192, "{budget:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_inside_write_file_touches_no_file_and_is_no_success() {
    let cut = Said::Cut(vec![("write_file", json!({ "path": "m.py", "content": "half" }))]);
    let end = json!({ "result": "It was cut.", "status": "error" });
    let (factory, model) = start(vec![plan(), cut, tool("finish", end)]).await;
    let asked = Goal { files: vec![text("m.py", "whole")], ..goal("Change m.py") };
    let answer = concluded(run(&factory, &asked).await);
    assert_eq!((answer.status, answer.changed_files), (SessionStatus::Error, Some(Vec::new())));
    assert!(model.heard().iter().any(|text| text.contains("not executed")), "{:?}", model.heard());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_waits_for_a_time_hears_by_then_how_far_it_is() {
    let (factory, model) = start(vec![plan(), Said::Hangs]).await;
    let id = factory.submit("Wait for it").await.session_id;
    model.begun(2).await;
    let mut headers = Headers::default();
    headers.set(header::ANSWER_WITHIN, "1");
    let (bus, subjects) = (&*factory.deps.bus, &factory.deps.subjects);
    let operation = operation::SUPERVISOR_WAIT;
    let answer: GoalAnswer =
        request_reply::call(bus, subjects, operation, &which(id), headers, PATIENCE).await.unwrap();
    assert_eq!(pending(answer).status, SessionPhase::Running);
    let (ended, selected) = (wait(&factory, id), which(id));
    let cancel = factory.call::<SessionStatusAnswer>(operation::SUPERVISOR_CANCEL, &selected);
    let (ended, cancelled) = tokio::join!(ended, cancel);
    cancelled.unwrap();
    assert_eq!(concluded(ended).end, SessionEnd::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn goals_with_code_and_goals_without_the_model_never_ask_it() {
    let (factory, model) = start(vec![plan(), finish("by the model")]).await;
    let own = factory.run(&code("1")).await.unwrap();
    assert_eq!((&*own.result, own.model), ("[step 0] stdout:\n1", None));
    let none = Goal { model: Some("none".to_owned()), ..goal("Say it") };
    assert_eq!(concluded(run(&factory, &none).await).model, None);
    assert_eq!(model.asked.load(Ordering::SeqCst), 0);
    let named = Goal { model: Some(NAME.to_owned()), ..goal(&code("1")) };
    assert_eq!(concluded(run(&factory, &named).await).result, "by the model");
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 1, "its code is data");
    let other = Goal { model: Some("other/one".to_owned()), ..goal("Say it") };
    let refused = factory.call::<GoalAnswer>(operation::SUPERVISOR_RUN, &other).await;
    assert_eq!(refused.unwrap_err().status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_beyond_the_settings_and_a_window_too_small_are_refused_before_anything_is_recorded()
{
    let (factory, _) = start(vec![plan(), finish("done")]).await;
    let above = GoalBudget { tokens_max: Some(1_000_001), cost_micros_max: None };
    for asked in
        [Goal { budget: Some(above), ..goal("x") }, Goal { turns_max: Some(101), ..goal("x") }]
    {
        let refused = factory.call::<GoalAnswer>(operation::SUPERVISOR_RUN, &asked).await;
        assert_eq!(refused.unwrap_err().status, 422);
    }
    assert_eq!(factory.journal.head().position, 0);

    let model = Arc::new(ConversingModel::new(vec![plan()]).with_window(2_048));
    let dir = TempDir::new().unwrap();
    let factory = TestFactory::start_with_model(limits(), dir, model).await;
    let refused = factory.call::<GoalAnswer>(operation::SUPERVISOR_RUN, &goal("x")).await;
    let told = refused.unwrap_err().sentence();
    assert!(told.contains("2048 tokens") && told.contains("`model_context_tokens`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cost_limit_without_prices_is_refused() {
    let mut limits = limits();
    limits.model.budget = Budget { cost_micros_max: Some(1), ..limits.model.budget };
    let (factory, _) = start_within(vec![plan(), finish("done")], limits).await;
    let refused = factory.call::<GoalAnswer>(operation::SUPERVISOR_RUN, &goal("x")).await;
    assert!(refused.unwrap_err().sentence().contains("`model_prices`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_asked_is_told_with_its_reason_and_asked_once() {
    let (factory, model) = start(vec![Said::Fails(ModelErrorClass::Credentials)]).await;
    let failed = factory.call::<GoalAnswer>(operation::SUPERVISOR_RUN, &goal("x")).await;
    let told = failed.unwrap_err().sentence();
    assert!(told.contains("the script says so"), "{told}");
    assert_eq!(model.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_sessions_wait_as_the_setting_says_and_further_goals_are_refused() {
    let ask = tool("ask", json!({ "question": "Which colour?" }));
    let mut limits = limits();
    limits.model.sessions_waiting_max = 1;
    let (factory, _) = start_within(vec![plan(), ask, finish("done")], limits).await;
    let waiting = pending(run(&factory, &asking("Paint it")).await);
    let refused = factory.call::<GoalAnswer>(operation::SUPERVISOR_RUN, &asking("And that")).await;
    let refused = refused.unwrap_err();
    assert!(refused.status == 503 && refused.sentence().contains("sessions_waiting_max"));
    answer(&factory, waiting.session_id, "blue").await.unwrap();
    concluded(wait(&factory, waiting.session_id).await);
    pending(run(&factory, &asking("And that")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_day_has_no_room_for_waits_and_is_tried_again_at_a_restart() {
    let script = || vec![plan(), program("1"), finish("1")];
    let mut poor = limits();
    poor.model.day.tokens_max = 20_000;
    let (factory, model) = start_within(vec![Said::Hangs], poor).await;
    let first = factory.submit("Wait for it").await.session_id;
    model.begun(1).await;
    let waiting = pending(run(&factory, &goal("Compute it")).await);
    assert_eq!(waiting.status, SessionPhase::Waiting(WaitReason::Budget));
    assert!(waiting.waits_for.contains("model_day_tokens_max"), "{}", waiting.waits_for);
    assert_eq!(model.asked.load(Ordering::SeqCst), 1);
    let told: BudgetAnswer =
        factory.call(operation::SUPERVISOR_BUDGET, &no_change(waiting.session_id)).await.unwrap();
    assert_eq!((told.budget.tokens_spent, told.budget.tokens_reserved), (0, 0));
    assert!(told.waits_for.is_some_and(|told| told.contains("model_day_tokens_max")));
    let cancelled: SessionStatusAnswer =
        factory.call(operation::SUPERVISOR_CANCEL, &which(first)).await.unwrap();
    assert!(matches!(cancelled.status, SessionPhase::Concluded(_)));

    let model = Arc::new(ConversingModel::new(script()));
    let factory = factory.restart_with_model(limits(), model).await;
    wait_for(&mut factory.events().await, "session.concluded").await;
    let answer = concluded(wait(&factory, waiting.session_id).await);
    assert_eq!((&*answer.result, answer.status), ("1", SessionStatus::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_model_stays_as_it_is_where_nothing_confines_what_it_runs() {
    let ask = tool("ask", json!({ "question": "Which colour?" }));
    let script = || vec![plan(), ask.clone(), program("1"), finish("done")];
    let (factory, _) = start(script()).await;
    let id = pending(run(&factory, &asking("Paint it")).await).session_id;
    let factory = factory.restart(limits(), true).await;
    let refused = answer(&factory, id, "blue").await.unwrap_err();
    assert!(refused.sentence().contains("`process`"), "{refused}");
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 0);
    let model = Arc::new(ConversingModel::new(script()));
    let factory = factory.restart_with_model(limits(), model).await;
    answer(&factory, id, "blue").await.unwrap();
    assert_eq!(concluded(wait(&factory, id).await).result, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_session_is_cancelled_as_one_under_way() {
    let ask = tool("ask", json!({ "question": "Which colour?" }));
    let (factory, _) = start(vec![plan(), ask]).await;
    let id = pending(run(&factory, &asking("Paint it")).await).session_id;
    let cancelled: SessionStatusAnswer =
        factory.call(operation::SUPERVISOR_CANCEL, &which(id)).await.unwrap();
    assert!(matches!(cancelled.status, SessionPhase::Concluded(_)));
    assert_eq!(concluded(wait(&factory, id).await).end, SessionEnd::Cancelled);
    assert_eq!(factory.deps.sessions.waiting.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_leaves_a_waiting_session_waiting() {
    let ask = tool("ask", json!({ "question": "Which colour?" }));
    let (factory, _) = start(vec![plan(), ask, finish("blue")]).await;
    let id = pending(run(&factory, &asking("Paint it")).await).session_id;
    let asked = Resolve { id: named(id), resolution: Resolution::Skip };
    let refused = factory.call::<SessionStatusAnswer>(operation::SUPERVISOR_RESOLVE, &asked).await;
    assert_eq!(refused.unwrap_err().status, 409);
    pending(wait(&factory, id).await);
    factory.deps.sessions.wait_until_ended(id).await;
    assert!(factory.deps.sessions.waiting.has(id));
}

/// The files of a session now.
pub(super) async fn files(factory: &TestFactory, id: SessionId) -> SessionFiles {
    factory.call(operation::SUPERVISOR_FILES, &which(id)).await.unwrap()
}
