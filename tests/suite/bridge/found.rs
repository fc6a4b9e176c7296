//! Sessions found by the request and the key that opened them, and bodies that are read with
//! leniency.

use std::fmt::Write as _;

use super::harness::*;

/// Whatever has to be percent-encoded in a path.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        let _ = write!(encoded, "%{byte:02X}");
        encoded
    })
}

async fn submitted(bridge: &TestBridge, headers: &[(&str, &str)], goal: &str) -> String {
    let body = json!({ "goal": goal }).to_string();
    let answer = bridge.post_with("/supervisor/run", headers, body).await.expect(200);
    answer["session_id"].as_str().unwrap().to_owned()
}

/// The ids of the sessions in a list.
fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["session_id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_request_are_listed_newest_first() {
    let bridge = TestBridge::open().await;
    let mut opened = Vec::new();
    for n in 0..12 {
        opened.push(submitted(&bridge, &[("X-Request-ID", "order-66")], &format!("try {n}")).await);
        submitted(&bridge, &[("X-Request-ID", "order-6")], "of another").await;
        submitted(&bridge, &[("X-Request-ID", "order-66.")], "of yet another").await;
    }
    opened.reverse();
    for path in ["/supervisor/sessions", "/supervisor/status", "/supervisor/history"] {
        let found = |more: &str| {
            let path = format!("{path}?request_id=order-66{more}");
            let bridge = &bridge;
            async move { bridge.get(&path).await.expect(200) }
        };
        assert_eq!(ids(&found("").await), opened[..10], "{path}");
        assert_eq!(ids(&found("&limit=100").await), opened);
        assert_eq!(ids(&found("&limit=1").await), opened[..1]);
        let nobody = bridge.get(&format!("{path}?request_id=order")).await.expect(200);
        assert_eq!(nobody, json!([]), "a beginning is another id");
        assert_eq!(
            ids(&bridge.get(path).await.expect(200)).len(),
            10,
            "all of them where nothing is said"
        );
        for wrong in ["", "a+b", "%C3%A4", &"x".repeat(129), "%ff"] {
            let refused = bridge.get(&format!("{path}?request_id={wrong}")).await;
            refused.expect_fault(&["query", "request_id"]);
        }
    }
    let rows = bridge.get("/supervisor/sessions?limit=3").await.expect(200);
    assert_eq!(rows, bridge.get("/supervisor/status?limit=3").await.expect(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_key_is_listed_whatever_the_key_looks_like() {
    let bridge = TestBridge::open().await;
    for (n, key) in ["order-7", "a b/c?d=e&f+g%", "order 7", "~"].iter().enumerate() {
        let request = format!("r{n}");
        let headers = [("Idempotency-Key", *key), ("X-Request-ID", &request)];
        let id = submitted(&bridge, &headers, &format!("goal {n}")).await;
        let key = encoded(key);
        for path in ["/supervisor/sessions", "/supervisor/status", "/supervisor/history"] {
            let rows = bridge.get(&format!("{path}?key={key}")).await.expect(200);
            assert_eq!(ids(&rows), [&id], "{path} {key}");
            let both = format!("{path}?key={key}&request_id={request}");
            assert_eq!(ids(&bridge.get(&both).await.expect(200)), [&id]);
            let other = bridge.get(&format!("{path}?key={key}&request_id=other")).await.expect(200);
            assert_eq!(other, json!([]));
        }
        let story = bridge.get(&format!("/supervisor/sessions/{key}")).await.expect(200);
        assert_eq!(story["session_id"], *id, "{key}");
    }
    // A key that did something else opened no session.
    let note = json!({ "text": "x" }).to_string();
    bridge.post_with("/memory/remember", &[("Idempotency-Key", "note")], note).await.expect(200);
    for nobody in ["note", "order-8", "order"] {
        let rows = bridge.get(&format!("/supervisor/sessions?key={nobody}")).await.expect(200);
        assert_eq!(rows, json!([]), "{nobody}");
        bridge.get(&format!("/supervisor/sessions/{nobody}")).await.expect(404);
    }
    bridge.get("/supervisor/sessions?key=").await.expect_fault(&["query", "key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_asked_for_by_any_of_its_names() {
    let bridge = TestBridge::open().await;
    // The id that the server gives to a request is one of those that it gives to sessions.
    let answer = bridge.post("/supervisor/run", &json!({ "goal": "nameless" })).await;
    let (id, request) = (answer.json()["session_id"].clone(), answer.header("x-request-id"));
    let story = bridge.get(&format!("/supervisor/sessions/{}", request.unwrap())).await.expect(200);
    assert_eq!((&story["session_id"], &story["goal"]), (&id, &json!("nameless")));
    // A client's own id is taken letter by letter.
    let own = "F47AC10B-58CC-4372-A567-0E02B2C3D479";
    let upper = submitted(&bridge, &[("X-Request-ID", own)], "upper case").await;
    let found = bridge.get(&format!("/supervisor/sessions/{own}")).await.expect(200);
    assert_eq!(found["session_id"], *upper);
    bridge.get(&format!("/supervisor/sessions/{}", own.to_lowercase())).await.expect(404);
    // A session's own id goes first, then the request, then the key.
    let taken = submitted(&bridge, &[("X-Request-ID", &upper)], "named like a session").await;
    let found = bridge.get(&format!("/supervisor/sessions/{upper}")).await.expect(200);
    assert_eq!(found["session_id"], *upper);
    let rows = bridge.get(&format!("/supervisor/sessions?request_id={upper}")).await.expect(200);
    assert_eq!(ids(&rows), [&taken]);
    submitted(&bridge, &[("Idempotency-Key", own)], "named like a request").await;
    let found = bridge.get(&format!("/supervisor/sessions/{own}")).await.expect(200);
    assert_eq!(found["session_id"], *upper);
    // Of several the newest.
    let newest = submitted(&bridge, &[("X-Request-ID", own)], "again").await;
    let found = bridge.get(&format!("/supervisor/sessions/{own}")).await.expect(200);
    assert_eq!(found["session_id"], *newest);
    for unknown in ["x", "..", "order-66", "%20", &uuid::Uuid::now_v7().to_string()] {
        bridge.get(&format!("/supervisor/sessions/{unknown}")).await.expect(404);
    }
    for wrong in ["%ff", "%", "%C3%A4", &"x".repeat(257), "%0A"] {
        let refused = bridge.get(&format!("/supervisor/sessions/{wrong}")).await;
        refused.expect_fault(&["path", "id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_change_a_session_is_not_guessed_among_several() {
    let bridge = TestBridge::open().await;
    let mut events = bridge.factory.events().await;
    let submit = async |request: &str| {
        let body = json!({ "goal": code("wait") }).to_string();
        let headers = [("X-Request-ID", request)];
        let answer = bridge.post_with("/supervisor/submit", &headers, body).await.expect(202);
        answer["session_id"].as_str().unwrap().to_owned()
    };
    let alone = submit("alone").await;
    let (first, second) = (submit("twice").await, submit("twice").await);
    let cancel = async |name: &str| {
        bridge.post_with(&format!("/supervisor/sessions/{name}/cancel"), &[], "").await
    };
    let refused = cancel("twice").await.expect(409).to_string();
    assert!(refused.contains(&first) && refused.contains(&second), "{refused}");
    let resolve = json!({ "resolution": "skip" });
    bridge.post("/supervisor/sessions/twice/resolve", &resolve).await.expect(409);
    assert_eq!(cancel("alone").await.expect(200)["session_id"], *alone);
    wait_for(&mut events, "session.concluded").await;
    let rows = bridge.get("/supervisor/sessions?request_id=twice").await.expect(200);
    assert!(rows.as_array().unwrap().iter().all(|row| row["status"] == "running"), "{rows}");
    assert_eq!(cancel(&second).await.expect(200)["session_id"], *second);
    bridge.post("/supervisor/sessions/alone/resolve", &resolve).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_a_content_coding_is_refused_before_it_is_read() {
    let bridge = TestBridge::open().await;
    let body = r#"{"prompt":"x","goal":"x","code":"x","text":"x","notes":[{"text":"x"}]}"#;
    for path in ["/planner/dispatch", "/debugger/run", "/supervisor/run", "/memory/import"] {
        for codings in [
            &["gzip"][..],
            &["GZip"],
            &["x-gzip"],
            &["br"],
            &["zstd"],
            &["deflate, identity"],
            &["identity, gzip"],
            &["identity", "gzip"],
            &["ä"],
            &["gzip;q=1"],
        ] {
            let headers: Vec<_> =
                codings.iter().map(|coding| ("Content-Encoding", *coding)).collect();
            for body in [body, "\u{1f}\u{8b}", ""] {
                let refused = bridge.post_with(path, &headers, body).await;
                refused.expect(415);
                refused.assert_complete();
                assert_eq!(refused.header("accept-encoding"), Some("identity"), "{codings:?}");
            }
        }
        for coding in ["identity", "Identity", "", "identity, identity", " , "] {
            bridge.post_with(path, &[("Content-Encoding", coding)], body).await.expect(200);
        }
    }
    let nobody = format!("/supervisor/sessions/{}/cancel", uuid::Uuid::now_v7());
    bridge.post_with(&nobody, &[("Content-Encoding", "gzip")], "").await.expect(415);
    bridge.post_with(&nobody, &[("Content-Encoding", "identity")], "").await.expect(404);
    // Where no body is read, its coding does not matter.
    bridge.ask("GET", "/memory/logs", &[("Content-Encoding", "gzip")], b"").await.expect(200);
    // RFC 9110, 12.5.3: no such header where the coding is not what is wrong.
    let refused = bridge.ask("POST", "/planner/dispatch", &[], body.as_bytes()).await;
    refused.expect(415);
    assert_eq!(refused.header("accept-encoding"), None);
    // It is not waited for what is not read.
    let mut line = bridge.line().await;
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "1000000"),
    ];
    line.send(&bridge.written("POST", "/planner/dispatch", &headers, b"")).await;
    line.answer("POST").await.expect(415);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_before_a_body_does_not_matter() {
    let bridge = TestBridge::open().await;
    let marked = |body: &str| format!("\u{feff}{body}");
    for (path, body) in [
        ("/planner/dispatch", r#"{"prompt":"x"}"#),
        ("/debugger/run", r#"{"code":"x"}"#),
        ("/supervisor/run", r#"{"goal":"x"}"#),
        ("/memory/remember", r#"{"text":"x"}"#),
    ] {
        let key = [("Idempotency-Key", path)];
        let first = bridge.post_with(path, &key, marked(body)).await.expect(200);
        assert_eq!(
            first,
            bridge.post_with(path, &key, body).await.expect(200),
            "it is the same body"
        );
    }
    let notes = marked(" {\"notes\":[{\"text\":\"y\"}]}");
    assert!(
        bridge.post_with("/memory/import", &[], notes).await.expect(200)["notes"][0]["id"]
            .is_string()
    );
    let id = submitted(&bridge, &[], "marked").await;
    let resolve = format!("/supervisor/sessions/{id}/resolve");
    bridge.post_with(&resolve, &[], marked(r#"{"resolution":"skip"}"#)).await.expect(200);
    for empty in ["", "{}"] {
        let cancel = format!("/supervisor/sessions/{id}/cancel");
        bridge.post_with(&cancel, &[], marked(empty)).await.expect(200);
    }
    for wrong in ["\u{feff}", "\u{feff}[]", "{\u{feff}\"prompt\":\"x\"}"] {
        bridge.post_with("/planner/dispatch", &[], wrong).await.expect_fault(&["body"]);
    }
    let utf_16: Vec<u8> =
        "\u{feff}{\"prompt\":\"x\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let refused = bridge.post_with("/planner/dispatch", &[], utf_16).await;
    refused.expect_fault(&["body"]);
    assert!(refused.json().to_string().contains("UTF-8"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_that_cannot_be_planned_is_refused_as_a_goal() {
    let bridge = TestBridge::open().await;
    let many = "- a step of many\n".repeat(65);
    for path in ["/supervisor/run", "/supervisor/submit"] {
        let refused = bridge.post(path, &json!({ "goal": many })).await;
        refused.expect_fault(&["body", "goal"]);
        let coding = json!({ "goal": many, "task_type": "coding" });
        bridge.post(path, &coding).await.expect_fault(&["body", "goal"]);
        // Nothing that a person could see is blank.
        for blank in ["\u{200b}", "\u{feff}\n\u{2060}", "\u{85}"] {
            bridge.post(path, &json!({ "goal": blank })).await.expect(400);
        }
    }
    let refused = bridge.post("/planner/dispatch", &json!({ "prompt": many })).await;
    refused.expect_fault(&["body", "prompt"]);
    assert_eq!(bridge.factory.deps.journal.head().position, 0);
}
