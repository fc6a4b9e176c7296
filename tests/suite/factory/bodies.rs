//! The bodies of requests: what is given as `null`, notes among which some are wrong, and the names
//! of sessions.

use ai_factory_schemas::{catalogue, problem::Detail, route::ROUTES, subject::Operation};
use serde_json::{Value, json};

use super::harness::*;

/// A body of each operation that is asked without a refusal of the body itself.
fn example(operation: Operation) -> Value {
    let of_route = ROUTES.iter().find(|route| route.name() == operation.to_string());
    let asked =
        of_route.and_then(|route| route.asked).and_then(|text| serde_json::from_str(text).ok());
    match operation {
        operation::MEMORY_SEARCH | operation::DEBUGGER_SEARCH => json!({ "q": "shop" }),
        operation::DEBUGGER_CANCEL => json!({ "run_id": Uuid::now_v7() }),
        operation::SUPERVISOR_SESSION
        | operation::SUPERVISOR_CANCEL
        | operation::SUPERVISOR_FILES => json!({ "key": "nobody" }),
        operation::SUPERVISOR_FILE => json!({ "id": "nobody", "path": "a" }),
        operation::SUPERVISOR_MISSING => json!({ "hashes": [] }),
        operation::SUPERVISOR_UPLOAD => {
            json!({ "hash": BlobHash::of(b"x"), "bytes": 1, "content_base64": "eA==" })
        }
        operation::SUPERVISOR_RESOLVE => json!({ "id": "nobody", "resolution": "skip" }),
        operation::SUPERVISOR_ACCEPT => json!({ "goal": "Greet" }),
        operation::PLANNER_PROPOSE => json!({ "prompt": "Greet" }),
        _ => asked.unwrap_or_else(|| json!({})),
    }
}

/// What an operation comes to: the status of its refusal and where the fault is; 200 where there is
/// none.
async fn outcome(factory: &TestFactory, operation: Operation, body: &Value) -> (u16, Value) {
    match factory.call::<Value>(operation, body).await {
        Ok(_) => (200, Value::Null),
        Err(problem) => match problem.detail {
            Detail::Faults(faults) => (problem.status, json!(faults[0].loc)),
            Detail::Sentence(_) => (problem.status, Value::Null),
        },
    }
}

/// The names in a schema's `properties` or `required`.
fn names(schema: &Value, of: &str) -> Vec<String> {
    match &schema[of] {
        Value::Object(properties) => properties.keys().cloned().collect(),
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_field_that_is_null_is_as_if_missing_in_every_request() {
    let factory = TestFactory::start().await;
    let mut optional = 0;
    for &operation in operation::ALL {
        let schema = catalogue::of_operation(operation).unwrap().0.to_value();
        let required = names(&schema, "required");
        let body = example(operation);
        for field in names(&schema, "properties") {
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(&field);
            let mut null = body.clone();
            null[&field] = Value::Null;
            let refused = outcome(&factory, operation, &null).await;
            if required.contains(&field) {
                assert!([400, 422].contains(&refused.0), "{operation} {field}: {refused:?}");
            } else {
                optional += 1;
                assert_eq!(
                    refused,
                    outcome(&factory, operation, &without).await,
                    "{operation} {field}"
                );
            }
        }
    }
    assert!(optional > 30, "{optional}");
    // Fields of what is in a list, which no operation's own properties name.
    let notes = json!({ "notes": [{ "text": "x", "tags": null, "key": null }] });
    assert_eq!(outcome(&factory, operation::MEMORY_IMPORT, &notes).await.0, 200);
    // Said twice in other words, it is one request.
    for body in [json!({ "code": "x" }), json!({ "code": "x", "language": null, "files": null })] {
        let run = factory.call_keyed::<RunAnswer>(operation::DEBUGGER_RUN, &body, Some("run"));
        assert_eq!(run.await.unwrap().attempts, 1);
    }
    assert_eq!(outcome(&factory, operation::MEMORY_LOGS, &json!({ "limit": 0 })).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_something_else_is_refused_at_its_place() {
    let factory = TestFactory::start().await;
    for (operation, body, field) in [
        (operation::PLANNER_DISPATCH, json!({ "prompt": "x", "task_type": 5 }), "task_type"),
        (operation::SUPERVISOR_RUN, json!({ "goal": "x", "task_type": ["coding"] }), "task_type"),
        (operation::SUPERVISOR_SUBMIT, json!({ "goal": "x", "task_type": "" }), "task_type"),
        (operation::MEMORY_SEARCH, json!({ "q": "x", "kind": true }), "kind"),
        (operation::MEMORY_SEARCH, json!({ "q": "x", "mode": {} }), "mode"),
        (operation::SUPERVISOR_RESOLVE, json!({ "id": "x", "resolution": null }), "resolution"),
    ] {
        let refused = factory.call::<Value>(operation, &body).await.unwrap_err();
        let said = refused.sentence();
        assert!(!said.contains("expected value"), "{said}");
        let Detail::Faults(faults) = refused.detail else { panic!("{operation}: {said}") };
        assert_eq!((refused.status, json!(faults[0].loc)), (422, json!(["body", field])), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_that_are_wrong_cost_no_other_one_its_place() {
    let factory = TestFactory::start().await;
    let long = "x".repeat(ai_factory_schemas::limit::NOTE_BYTES_MAX + 1);
    let wrong = [
        (json!({ "text": 1 }), json!(["text"])),
        (json!({ "text": null }), json!(["text"])),
        (json!({ "txt": "x" }), json!(["text"])),
        (json!({ "text": " \n" }), json!(["text"])),
        (json!({ "text": long }), json!(["text"])),
        (json!({ "text": "x", "tags": "y" }), json!(["tags"])),
        (json!({ "text": "x", "tags": ["y", 7] }), json!(["tags", 1])),
        (json!({ "text": "x", "tags": [" "] }), json!(["tags"])),
        (json!({ "text": "x", "key": "ä" }), json!(["key"])),
        (json!({ "text": "x", "key": 7 }), json!(["key"])),
        (json!("x"), json!([])),
        (json!(null), json!([])),
        (json!([["x"]]), json!([])),
    ];
    let mut notes = Vec::new();
    for (number, (note, _)) in wrong.iter().enumerate() {
        notes.push(json!({ "text": format!("kettle {number}") }));
        notes.push(note.clone());
    }
    let body = json!({ "notes": notes });
    let imported: Imported = factory.call(operation::MEMORY_IMPORT, &body).await.unwrap();
    for (index, answer) in imported.notes.iter().enumerate() {
        match answer {
            NoteOutcome::Kept { .. } => assert_eq!(index % 2, 0),
            NoteOutcome::Refused { status, detail: Detail::Faults(faults) } => {
                assert_eq!((*status, faults.len(), index % 2), (422, 1, 1));
                let mut loc = vec![json!("body"), json!("notes"), json!(index)];
                loc.extend(wrong[index / 2].1.as_array().unwrap().iter().cloned());
                assert_eq!(json!(faults[0].loc), json!(loc), "{}", faults[0].msg);
            }
            NoteOutcome::Refused { .. } => panic!("{index} {answer:?}"),
        }
    }
    assert_eq!(factory.journal.head().position, wrong.len() as u64);

    // Where all are wrong, so is the request, and each is named.
    let all: Vec<_> = wrong.iter().map(|(note, _)| note.clone()).collect();
    let body = json!({ "notes": all });
    let refused = factory.call::<Imported>(operation::MEMORY_IMPORT, &body).await.unwrap_err();
    let Detail::Faults(faults) = refused.detail else { panic!("no fault is named") };
    assert_eq!((refused.status, faults.len()), (422, wrong.len()));
    for (index, fault) in faults.iter().enumerate() {
        assert_eq!(json!(fault.loc)[2], json!(index));
    }
    for (notes, loc) in [
        (json!({ "a": 1 }), json!(["body", "notes"])),
        (json!(null), json!(["body", "notes"])),
        (json!([]), json!(["body", "notes"])),
    ] {
        let refused = outcome(&factory, operation::MEMORY_IMPORT, &json!({ "notes": notes })).await;
        assert_eq!(refused, (422, loc));
    }
    assert_eq!(factory.journal.head().position, wrong.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stands_for_other_notes_is_named_as_the_caller_wrote_it() {
    let factory = TestFactory::start().await;
    let import = async |notes: Value, key| {
        let body = json!({ "notes": notes });
        factory.call_keyed::<Imported>(operation::MEMORY_IMPORT, &body, key).await.unwrap().notes
    };
    let refused = |answer: &NoteOutcome| match answer {
        NoteOutcome::Refused { status: 409, detail: Detail::Sentence(sentence) } => {
            sentence.clone()
        }
        answer => panic!("{answer:?}"),
    };
    import(json!([{ "text": "a" }, { "text": "b" }]), Some("the first import")).await;
    let again = import(json!([{ "text": "a" }, { "text": "c" }]), Some("the first import")).await;
    assert!(matches!(again[0], NoteOutcome::Kept { .. }));
    let said = refused(&again[1]);
    assert!(said.contains("`the first import`") && said.contains("note 1"), "{said}");
    assert!(!said.contains("blake3") && said.len() < 160, "{said}");

    // A note's own key, and one that stands for something that is no note.
    factory
        .call_keyed::<Value>(operation::PLANNER_DISPATCH, &json!({ "prompt": "p" }), Some("plan"))
        .await
        .unwrap();
    import(json!([{ "text": "a", "key": "own" }]), None).await;
    for (note, key) in [
        (json!({ "text": "b", "key": "own" }), "`own`"),
        (json!({ "text": "a", "tags": ["t"], "key": "own" }), "`own`"),
        (json!({ "text": "b", "key": "plan" }), "`plan`"),
    ] {
        let answers = import(json!([note, { "text": "good" }]), None).await;
        let said = refused(&answers[0]);
        assert!(said.contains(key), "{said}");
        assert!(matches!(answers[1], NoteOutcome::Kept { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_named_in_one_way_by_its_id_its_request_or_its_key() {
    let factory = TestFactory::start().await;
    let body = json!({ "goal": "Greet" });
    let first: SessionAnswer =
        factory.call_keyed(operation::SUPERVISOR_RUN, &body, Some("k1")).await.unwrap();
    let id = first.session_id;
    let ask = async |body: &Value| {
        factory.call::<SessionStory>(operation::SUPERVISOR_SESSION, body).await
    };
    for which in [
        json!({ "id": id }),
        json!({ "id": id.0.simple().to_string() }),
        json!({ "id": first.request_id }),
        json!({ "id": "k1" }),
        json!({ "request_id": first.request_id }),
        json!({ "key": "k1" }),
        json!({ "key": "k1", "id": null, "request_id": null }),
    ] {
        assert_eq!(ask(&which).await.unwrap().row.session_id, id, "{which}");
        let rows = factory.call::<Value>(operation::SUPERVISOR_CANCEL, &which).await.unwrap();
        assert_eq!(rows["session_id"], json!(id), "{which}");
    }
    for (which, status) in [
        (json!({}), 400),
        (json!({ "id": id, "key": "k1" }), 400),
        (json!({ "request_id": first.request_id, "key": "k1" }), 400),
        (json!({ "id": "k2" }), 404),
        (json!({ "request_id": "k1" }), 404),
        (json!({ "key": first.request_id }), 404),
        (json!({ "id": "" }), 422),
        (json!({ "request_id": "a b" }), 422),
        (json!({ "id": 7 }), 422),
    ] {
        assert_eq!(ask(&which).await.unwrap_err().status, status, "{which}");
    }
    let again: SessionAnswer = factory.run("Greet again").await.unwrap();
    let list = async |body: Value| {
        let rows: Vec<SessionRow> =
            factory.call(operation::SUPERVISOR_SESSIONS, &body).await.unwrap();
        rows.into_iter().map(|row| row.session_id).collect::<Vec<_>>()
    };
    assert_eq!(list(json!({})).await, [again.session_id, id]);
    assert_eq!(list(json!({ "key": "k1" })).await, [id]);
    assert_eq!(list(json!({ "request_id": again.request_id })).await, [again.session_id]);
    assert!(list(json!({ "request_id": again.request_id, "key": "k1" })).await.is_empty());
}
