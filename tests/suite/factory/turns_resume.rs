//! A session with a model that was interrupted at any of its records.

use ai_factory_ports::model::{
    Model, ModelAnswer, ModelCall, ModelError, ModelFacts, NoModel, TokenSink,
};
use ai_factory_schemas::{
    answer::GoalAnswer,
    check::Check,
    id::{Category, ToolCallId},
    model::ModelEndpoint,
    session::SessionEvent,
    turn::TurnFinished,
};
use serde_json::json;

use super::{
    harness::*,
    turns::{answer, asking, concluded, files, start, wait, which},
    workspace::{records, text},
    workspace_resume::{blobs, journal_of},
};
use crate::support::conversing_model::{ConversingModel, Said, finish, plan, tool};

fn script() -> Vec<Said> {
    vec![
        plan(),
        Said::Calls(vec![
            ("write_file", json!({ "path": "a", "content": "1" })),
            ("run", json!({ "language": "python", "code": "add log one" })),
        ]),
        tool("ask", json!({ "question": "More?" })),
        tool("run", json!({ "language": "python", "code": "add log two" })),
        finish("too early"),
        tool("write_file", json!({ "path": "b", "content": "2" })),
        finish("All is there."),
    ]
}

fn goal() -> Goal {
    let check = Check { language: "python".to_owned(), code: "has b 2".to_owned() };
    Goal { files: vec![text("log", "zero ")], check: Some(check), ..asking("Make a and b") }
}

/// Whether the records around this place were appended as one, so that no crash parts them: those
/// of a session that have the same cause.
fn is_within_append(records: &[Recorded], upto: usize) -> bool {
    let (before, after) = (&records[upto - 1], &records[upto]);
    before.stream == after.stream
        && before.stream.category == Category::Session
        && before.trail.causation == after.trail.causation
}

fn questions(records: &[Recorded]) -> Vec<ToolCallId> {
    let asked = records.iter().filter_map(|record| match &record.event {
        Event::Session(SessionEvent::QuestionAsked(asked)) => Some(asked.question_id),
        _ => None,
    });
    asked.collect()
}

fn answered(records: &[Recorded]) -> usize {
    let is_answer = |event: &Event| {
        matches!(event, Event::Session(SessionEvent::TurnFinished(TurnFinished { .. })))
    };
    records.iter().filter(|record| is_answer(&record.event)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_recorded_last_a_session_with_a_model_ends_as_the_undisturbed_one() {
    let (factory, model) = start(script()).await;
    let GoalAnswer::Pending(pending) =
        factory.call(operation::SUPERVISOR_RUN, &goal()).await.unwrap()
    else {
        panic!("it asks");
    };
    let id = pending.session_id;
    answer(&factory, id, "yes").await.unwrap();
    let whole = concluded(wait(&factory, id).await);
    assert_eq!((&*whole.result, whole.status), ("All is there.", SessionStatus::Success));
    let (whole_files, records) = (files(&factory, id).await, records(&factory));
    let blobs = blobs(&factory, &records);
    let turns = answered(&records);
    assert_eq!((turns, model.asked.load(Ordering::SeqCst)), (7, 7));
    for upto in (1..records.len()).filter(|upto| !is_within_append(&records, *upto)) {
        let last = records[upto - 1].event.name();
        let dir = journal_of(&records[..upto], blobs.clone()).await;
        let model = Arc::new(ConversingModel::new(script()));
        let factory = TestFactory::start_with_model(limits(), dir, Arc::clone(&model) as _).await;
        let again = match wait(&factory, id).await {
            GoalAnswer::Concluded(answer) => *answer,
            GoalAnswer::Pending(_) => {
                answer(&factory, id, "yes").await.unwrap();
                concluded(wait(&factory, id).await)
            }
        };
        let told = (&again.result, again.status, &again.changed_files);
        assert_eq!(told, (&whole.result, whole.status, &whole.changed_files), "{upto}: {last}");
        assert_eq!(files(&factory, id).await, whole_files, "{upto}: {last}");
        let resumed = super::workspace::records(&factory);
        assert_eq!(questions(&resumed), questions(&records), "{upto}: {last}");
        let used = again.model.unwrap();
        assert_eq!(used.turns, 7);
        let budget = used.budget;
        assert!(budget.tokens_spent + budget.tokens_reserved <= budget.tokens_max);
        let asked = model.asked.load(Ordering::SeqCst);
        assert!(asked + answered(&records[..upto]) <= turns, "{upto}: {last}: {asked}");
    }
}

/// A model that is configured and cannot be asked.
struct UnaskableModel;

#[async_trait::async_trait]
impl Model for UnaskableModel {
    fn endpoint(&self, named: Option<&str>) -> Result<Option<ModelEndpoint>, String> {
        ConversingModel::new(Vec::new()).endpoint(named)
    }

    fn check(&self, endpoint: &ModelEndpoint) -> Result<(), String> {
        NoModel.check(endpoint)
    }

    async fn facts(&self, endpoint: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        NoModel.facts(endpoint).await
    }

    async fn complete(
        &self,
        call: ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        NoModel.complete(call, sink).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_model_cannot_be_asked_is_refused_and_stays_as_it_is() {
    let (factory, _) = start(script()).await;
    let GoalAnswer::Pending(pending) =
        factory.call(operation::SUPERVISOR_RUN, &goal()).await.unwrap()
    else {
        panic!("it asks");
    };
    let id = pending.session_id;
    let records = records(&factory);
    let blobs = blobs(&factory, &records);
    let dispatched = |record: &Recorded| record.event.name() == "session.turn_dispatched";
    let under_way = records.iter().position(dispatched).unwrap() + 1;
    for upto in [under_way, records.len()] {
        let dir = journal_of(&records[..upto], blobs.clone()).await;
        let factory = TestFactory::start_with_model(limits(), dir, Arc::new(UnaskableModel)).await;
        let refused = if upto == under_way {
            let waited = factory.call::<GoalAnswer>(operation::SUPERVISOR_WAIT, &which(id)).await;
            waited.unwrap_err()
        } else {
            answer(&factory, id, "yes").await.unwrap_err()
        };
        assert_eq!(refused.status, 409, "{refused}");
        assert!(refused.sentence().contains("set `model`"), "{refused}");
        assert_eq!(super::workspace::records(&factory).len(), upto);
    }
}
