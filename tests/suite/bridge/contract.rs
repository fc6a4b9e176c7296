//! Every row of the contract: its answer, its defaults, its limits, its refusals.

use std::collections::BTreeSet;

use ai_factory_schemas::{
    route::{ParameterType, ROUTES, RequestBody, Route, Target},
    subject::operation,
};

use super::harness::*;

/// The fields of an object, or of the last object of a list: the oldest, which is over.
fn keys(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(rows) => rows.last().map(keys).unwrap_or_default(),
        value => value.as_object().unwrap().keys().cloned().collect(),
    }
}

/// The memory of the examples.
const A_MEMORY: &str = "019a0000-0000-7000-8000-000000000002";

/// A content, and its hash.
const CONTENT: &str = "abc";
const CONTENT_HASH: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

/// The path of a route with what it needs.
fn filled(route: &Route, session: &str) -> String {
    let path = route.path.replace("{id}", session).replace("{path}", "shop.txt");
    let path = path.replace("{hash}", &format!("{CONTENT_HASH}?bytes={}", CONTENT.len()));
    let needs_q = route.parameters.iter().any(|parameter| parameter.name == "q");
    if needs_q { path + "?q=shop" } else { path }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_what_its_example_says() {
    let bridge = TestBridge::open().await;
    let goal = json!({
        "goal": "Think of a name",
        "files": [{ "name": "shop.txt", "text": CONTENT }],
    });
    let run = bridge.post("/supervisor/run", &goal).await.expect(200);
    let session = run["session_id"].as_str().unwrap();
    bridge.post("/planner/dispatch", &json!({ "prompt": "a shop" })).await.expect(200);
    bridge.post("/debugger/run", &json!({ "code": "print('shop')" })).await.expect(200);
    for route in ROUTES.iter().filter(|route| matches!(route.target, Target::Operation(_))) {
        let path = filled(route, session);
        let answer = if route.body == RequestBody::None {
            bridge.get(&path).await
        } else if route.body == RequestBody::FilePart {
            let bytes = [("Content-Type", "application/octet-stream")];
            bridge.ask("PUT", &path, &bytes, CONTENT.as_bytes()).await
        } else {
            // What is asked to be forgotten has to be there.
            let asked = route.asked.unwrap_or_default();
            bridge.post_with(&path, &[], &asked.replace(A_MEMORY, session)).await
        };
        answer.assert_complete();
        if let Some(operation::SUPERVISOR_ANSWER | operation::SUPERVISOR_BUDGET) = route.operation()
        {
            // They are about sessions with a model: this one has none.
            assert_eq!(answer.status, 409, "{}: {answer}", route.path);
            continue;
        }
        // Nothing of this session waits for a decision: telling it so changes nothing.
        let example: Value = serde_json::from_str(route.answered).unwrap();
        assert!(route.successes().contains(&answer.status), "{}: {answer}", route.path);
        let (found, told) = (keys(&answer.json()), keys(&example));
        let missing: Vec<_> = told.difference(&found).collect();
        assert!(missing.is_empty(), "{}: no {missing:?} in {answer}", route.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_the_predecessor_find_what_they_know() {
    let bridge = TestBridge::open().await;
    let plan = json!({ "prompt": "build a shop", "task_type": "coding" });
    let plan = bridge.post("/planner/dispatch", &plan).await.expect(200);
    assert!(plan["steps"][0]["action"].as_str().unwrap().contains("Scaffold repo"));
    assert_eq!(plan["steps"][0]["index"], 0);
    assert!(plan["estimated_tokens"].as_u64().unwrap() >= 32);
    assert!(plan["created_at"].as_str().unwrap().ends_with('Z'));

    let ran =
        bridge.post("/debugger/run", &json!({ "code": "exit 3", "language": "Python" })).await;
    let ran = ran.expect(200);
    assert_eq!((&ran["status"], &ran["exit_code"]), (&json!("error"), &json!(3)));
    let odd = json!({ "code": "x", "language": "cobol" });
    let odd = bridge.post("/debugger/run", &odd).await.expect(200);
    assert_eq!((&odd["status"], &odd["exit_code"]), (&json!("error"), &json!(2)));
    assert_eq!(odd["stderr"], "Unsupported language: cobol");
    assert!(odd["reason"].as_str().unwrap().contains("python"), "{odd}");

    let goal = json!({ "goal": code("hello") });
    let done = bridge.post("/supervisor/run", &goal).await.expect(200);
    assert_eq!((&done["status"], &done["goal"]), (&json!("success"), &goal["goal"]));
    assert!(done["plan"]["steps"].is_array() && done["context"].is_array());
    assert_eq!(done["result"], "[step 0] stdout:\nhello");
    let idle = bridge.post("/supervisor/run", &json!({ "goal": "just think" })).await.expect(200);
    assert_eq!(idle["result"], "no-op");

    let snapshot = bridge.get("/memory/snapshot").await.expect(200);
    let lines = std::fs::read_to_string(snapshot["snapshot"].as_str().unwrap()).unwrap();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for field in ["id", "request_id", "timestamp", "task_type", "prompt", "response"] {
            assert!(!line[field].is_null(), "no {field}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_see_what_was_just_acknowledged() {
    let bridge = TestBridge::open().await;
    for n in 0..5 {
        let said = format!("walnut number{n}");
        let plan = bridge.post("/planner/dispatch", &json!({ "prompt": said })).await.expect(200);
        let logs = bridge.get("/memory/logs?limit=1").await.expect(200);
        assert_eq!(
            (&logs[0]["request_id"], &logs[0]["prompt"]),
            (&plan["request_id"], &json!(said))
        );
        let found = bridge.get(&format!("/memory/search?q=number{n}&n=1")).await.expect(200);
        assert!(found["results"][0]["text"].as_str().unwrap().contains(&said), "{found}");
        let ran = bridge.post("/debugger/run", &json!({ "code": said })).await.expect(200);
        let runs = bridge.get("/debugger/logs?limit=1").await.expect(200);
        assert_eq!(runs[0]["request_id"], ran["request_id"]);
        let found = bridge.get(&format!("/debugger/search?q=walnut+number{n}")).await.expect(200);
        assert_eq!(found["results"][0]["request_id"], ran["request_id"]);
        let done = bridge.post("/supervisor/run", &json!({ "goal": said })).await.expect(200);
        for path in ["/supervisor/status?limit=1", "/supervisor/history?limit=1"] {
            let rows = bridge.get(path).await.expect(200);
            assert_eq!(rows[0]["request_id"], done["request_id"], "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_goal_can_be_watched_cancelled_and_asked_for() {
    let bridge = TestBridge::open().await;
    let mut events = bridge.factory.events().await;
    let answer = bridge.post("/supervisor/submit", &json!({ "goal": code("wait") })).await;
    let submitted = answer.expect(202);
    let path = format!("/supervisor/sessions/{}", submitted["session_id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(path.as_str()));
    wait_for(&mut events, "run.dispatched").await;
    let story = bridge.get(&path).await.expect(200);
    assert_eq!(
        (&story["status"], &story["request_id"]),
        (&json!("running"), &submitted["request_id"])
    );
    assert_eq!(story["timeline"][0]["event"], "session.opened");

    let cancel = path.clone() + "/cancel";
    let told = bridge.post_with(&cancel, &[], "").await.expect(200);
    assert_eq!(told["session_id"], submitted["session_id"]);
    wait_for(&mut events, "session.concluded").await;
    let story = bridge.get(&path).await.expect(200);
    assert_eq!((&story["status"], &story["end"]), (&json!("error"), &json!("cancelled")));
    bridge.post_with(&cancel, &[], "{}").await.expect(200);
    // It is over: a decision changes nothing, and its answer says how it ended.
    bridge.post(&(path.clone() + "/resolve"), &json!({ "resolution": "skip" })).await.expect(200);

    let nobody = format!("/supervisor/sessions/{}", uuid::Uuid::now_v7());
    bridge.get(&nobody).await.expect(404);
    bridge.post_with(&(nobody.clone() + "/cancel"), &[], "").await.expect(404);
    bridge.post(&(nobody + "/resolve"), &json!({ "resolution": "skip" })).await.expect(404);
    bridge
        .post(&(path + "/resolve"), &json!({ "resolution": "maybe" }))
        .await
        .expect_fault(&["body", "resolution"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_count_has_the_default_and_the_bounds_of_the_contract() {
    let bridge = TestBridge::open().await;
    let run = bridge.post("/supervisor/run", &json!({ "goal": "shop" })).await.expect(200);
    let session = run["session_id"].as_str().unwrap();
    for n in 0..12 {
        let said = format!("shop {n}");
        bridge.post("/planner/dispatch", &json!({ "prompt": said })).await.expect(200);
        bridge.post("/debugger/run", &json!({ "code": said })).await.expect(200);
        bridge.post("/supervisor/run", &json!({ "goal": said })).await.expect(200);
    }
    for route in ROUTES {
        for parameter in route.parameters {
            let ParameterType::Count { default, max } = parameter.kind else { continue };
            let base = filled(route, session);
            let with = |value: &str| {
                let sign = if base.contains('?') { '&' } else { '?' };
                format!("{base}{sign}{}={value}", parameter.name)
            };
            let body = bridge.get(&base).await.expect(200);
            let rows = body.as_array().or(body["results"].as_array());
            if let Some(rows) = rows {
                assert_eq!(rows.len(), default as usize, "{base}");
            }
            for right in [1, max] {
                bridge.get(&with(&right.to_string())).await.expect(200);
            }
            let above = (max + 1).to_string();
            let wrong = ["0", &above, "-1", "x", "1.5", "", "%31%", "99999999999", "1e1", "%2B"];
            for wrong in wrong {
                bridge.get(&with(wrong)).await.expect_fault(&["query", parameter.name]);
            }
            let twice = with("1") + &format!("&{}=1", parameter.name);
            bridge.get(&twice).await.expect_fault(&["query", parameter.name]);
            bridge.get(&with("%31")).await.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_needs_something_to_look_for() {
    let bridge = TestBridge::open().await;
    bridge.post("/debugger/run", &json!({ "code": "100%_*äöü" })).await.expect(200);
    for path in ["/memory/search", "/debugger/search"] {
        for query in ["", "?", "?q=", "?q", "?Q=x", "?q=a&q=b", "?q=%ff", "?q=%", "?q=%zz"] {
            bridge.get(&format!("{path}{query}")).await.expect_fault(&["query", "q"]);
        }
        bridge.get(&format!("{path}?q=x&unknown=1&unknown=2&%zz")).await.expect(200);
    }
    for (sought, found) in
        [("%25_*", 1), ("%25%25", 0), ("0%25", 1), ("%C3%A4%C3%B6", 1), ("_%25", 0)]
    {
        let body = bridge.get(&format!("/debugger/search?q={sought}")).await.expect(200);
        assert_eq!(body["results"].as_array().unwrap().len(), found, "{sought}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why_and_leaves_no_record() {
    let bridge = TestBridge::open().await;
    let deep = format!(r#"{{"prompt":"x","goal":"x","code":"x","y":{}"#, "[".repeat(200_000));
    let long = format!(r#"{{"goal":"{0}","prompt":"{0}","code":"{0}"}}"#, "x".repeat(200_000));
    for (path, body, status) in [
        ("/planner/dispatch", "{}", 422),
        ("/planner/dispatch", r#"{"prompt":" \t\n"}"#, 422),
        ("/planner/dispatch", r#"{"prompt":5}"#, 422),
        ("/planner/dispatch", r#"{"prompt":"x","task_type":"magic"}"#, 422),
        ("/planner/dispatch", r#"{"prompt":null}"#, 422),
        ("/supervisor/run", r#"{"goal":null}"#, 400),
        ("/debugger/run", r#"{"code":null}"#, 400),
        ("/debugger/run", "{}", 400),
        ("/debugger/run", r#"{"code":""}"#, 400),
        ("/supervisor/run", "{}", 400),
        ("/supervisor/run", r#"{"goal":" \n "}"#, 400),
        ("/supervisor/run", r#"{"goal":"a\u0000b"}"#, 400),
        ("/supervisor/submit", r#"{"goal":""}"#, 400),
        ("/supervisor/run", &long, 413),
        ("/debugger/run", &long, 413),
        ("/memory/remember", r#"{"text":" "}"#, 422),
    ] {
        bridge.post_with(path, &[], body).await.expect(status);
    }
    for path in [
        "/planner/dispatch",
        "/debugger/run",
        "/supervisor/run",
        "/supervisor/submit",
        "/memory/remember",
    ] {
        for (body, loc) in [
            (&b""[..], &["body"][..]),
            (b"x", &["body"]),
            (b"{", &["body"]),
            (b"[]", &["body"]),
            (br#"["x"]"#, &["body"]),
            (b"null", &["body"]),
            (b"\"x\"", &["body"]),
            (
                br#"{"prompt":"\ud800","goal":"\ud800","code":"\ud800","text":"\ud800"}"#,
                &["body", "prompt"],
            ),
            (
                br#"{"prompt":"x","goal":"x","code":"x","text":"x","y":{"z":"\udfff"}}"#,
                &["body", "y", "z"],
            ),
            (br#"{"prompt":"x","goal":"x","code":"x","text":"x","y":NaN}"#, &["body", "y"]),
            (br#"{"prompt":"x","goal":"x","code":"x","text":"x","y":1e400}"#, &["body", "y"]),
            (
                b"{\"prompt\":\"\xff\",\"goal\":\"\xff\",\"code\":\"\xff\",\"text\":\"\xff\"}",
                &["body", "prompt"],
            ),
        ] {
            bridge.post_with(path, &[], body).await.expect_fault(loc);
        }
        let refused = bridge.post_with(path, &[], &deep).await.expect(422);
        let loc = refused["detail"][0]["loc"].as_array().unwrap();
        assert!(loc.len() < 20 && loc[..3] == [json!("body"), json!("y"), json!(0)], "{loc:?}");
    }
    assert_eq!(
        bridge.factory.deps.journal.head().position,
        0,
        "a refused request leaves no record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i_5_a_key_takes_effect_once_and_is_refused_for_another_request() {
    let bridge = TestBridge::open().await;
    for (path, body, other) in [
        ("/planner/dispatch", r#"{"prompt":"a"}"#, r#"{"prompt":"b"}"#),
        ("/debugger/run", r#"{"code":"a"}"#, r#"{"code":"b"}"#),
        ("/supervisor/run", r#"{"goal":"a"}"#, r#"{"goal":"b"}"#),
        ("/memory/remember", r#"{"text":"a"}"#, r#"{"text":"b"}"#),
    ] {
        let key = [("Idempotency-Key", path)];
        let first = bridge.post_with(path, &key, body).await;
        let head = bridge.factory.deps.journal.head().position;
        let again = bridge.post_with(path, &key, body).await;
        assert_eq!(first.expect(200), again.expect(200), "{path}");
        assert_eq!(first.header("x-request-id"), again.header("x-request-id"), "{path}");
        bridge.post_with(path, &key, other).await.expect(409);
        assert_eq!(bridge.factory.deps.journal.head().position, head, "{path}");
    }
    let (long, body) = ("x".repeat(257), r#"{"goal":"a"}"#);
    for wrong in ["", "ä", &long] {
        bridge
            .post_with("/supervisor/submit", &[("Idempotency-Key", wrong)], body)
            .await
            .expect(400);
    }
    let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")];
    bridge.post_with("/supervisor/submit", &twice, body).await.expect(400);
}
