//! What holds for every answer, and who gets none: ids, times, methods, names of the server, pages
//! of other sites, tokens.

use std::collections::{BTreeMap, BTreeSet};

use ai_factory_schemas::{
    envelope::Recorded,
    route::{Method, ROUTES},
};

use super::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_which_request_it_is_for_and_how_long_it_took() {
    let bridge = TestBridge::open().await;
    for answer in [
        bridge.get("/").await,
        bridge.get("/healthcheck").await,
        bridge.get("/nowhere").await,
        bridge.ask("DELETE", "/planner/dispatch", &[], b"").await,
        bridge.ask("PUT", "/", &[], b"x").await,
        bridge.ask("BREW", "/", &[], b"").await,
        bridge.post_with("/planner/dispatch", &[], "x").await,
        bridge.ask("POST", "/planner/dispatch", &[], b"{}").await,
        bridge.ask("GET", "/", &[("Host", "evil.example")], b"").await,
        bridge.post_with("/debugger/run", &[], vec![b' '; 2 * 1024 * 1024]).await,
        bridge.get(&format!("/{}", "x".repeat(20_000))).await,
        bridge.ask("GET", "/", &[("X-Short", "x"); 70], b"").await,
        bridge.ask("CONNECT", "/", &[], b"").await,
    ] {
        answer.assert_complete();
        if answer.status >= 400 {
            answer.expect(answer.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_parsed_is_refused_by_a_status_alone() {
    let bridge = TestBridge::open().await;
    for bytes in ["\u{0}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "{\"goal\": 1}\r\n\r\n"]
    {
        let mut line = bridge.line().await;
        line.send(bytes.as_bytes()).await;
        line.answer("GET").await.expect_bare(400);
        assert!(line.is_over().await);
    }
    bridge.ask("GET", "no path", &[], b"").await.expect_bare(400);
    bridge.ask("GET", "/", &[("Bad Header", "x")], b"").await.expect_bare(400);
    bridge.get(&format!("/{}", "x".repeat(70_000))).await.expect_bare(431);
    bridge.ask("GET", "/", &[("X-Long", &"x".repeat(40_000))], b"").await.expect_bare(431);
    bridge.ask("GET", "/", &[("X-Short", "x"); 120], b"").await.expect_bare(431);
    // Behind a request that is one, on the same connection.
    let mut line = bridge.line().await;
    let mut bytes = bridge.written("GET", "/livez", &[], b"");
    bytes.extend_from_slice(b"nonsense\r\n\r\n");
    line.send(&bytes).await;
    line.answer("GET").await.expect(200);
    line.answer("GET").await.expect_bare(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_own_id_is_taken_over_where_it_is_one() {
    let bridge = TestBridge::open().await;
    let longest = "x".repeat(128);
    for (n, id) in ["a", "Order-66_b.c:d", &longest].iter().enumerate() {
        for (path, body) in [
            ("/planner/dispatch", json!({ "prompt": format!("p{n}") })),
            ("/debugger/run", json!({ "code": format!("c{n}") })),
            ("/supervisor/run", json!({ "goal": code(&format!("g{n}")) })),
            ("/supervisor/submit", json!({ "goal": format!("s{n}") })),
            ("/memory/remember", json!({ "text": format!("t{n}") })),
        ] {
            let answer = bridge.post_with(path, &[("X-Request-ID", id)], body.to_string()).await;
            assert_eq!(answer.header("x-request-id"), Some(*id), "{path}");
            assert_eq!(answer.json()["request_id"], **id, "{path}");
        }
        let logs = bridge.get("/memory/logs?limit=1").await.expect(200);
        assert_eq!(logs[0]["request_id"], **id);
    }
    // Every record that a request left behind can be found by its id.
    for raw in bridge.factory.deps.journal.read(0, 1000).await.unwrap() {
        let recorded = Recorded::decode(&raw.bytes).unwrap();
        let name = recorded.event.name();
        if ["plan.proposed", "run.requested", "memory.remembered", "session.opened"].contains(&name)
        {
            let json: Value = serde_json::from_slice(&raw.bytes).unwrap();
            let id = json["data"]["request_id"].as_str().unwrap();
            assert!(["a", "Order-66_b.c:d", &longest].contains(&id), "{name}: {id}");
        }
    }
    let too_long = "x".repeat(129);
    for id in ["", "a b", "ä", "a/b", "a\"", &too_long] {
        let answer = bridge.ask("GET", "/nowhere", &[("X-Request-ID", id)], b"").await;
        let new = answer.header("x-request-id").unwrap();
        assert_eq!(uuid::Uuid::parse_str(new).unwrap().get_version_num(), 7, "{id:?}");
    }
    let answer = bridge.post("/planner/dispatch", &json!({ "prompt": "x" })).await;
    assert_eq!(answer.json()["request_id"], answer.header("x-request-id").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_says_with_which_methods_it_is_asked_and_answers_head_where_it_answers_get() {
    let bridge = TestBridge::open().await;
    let routes = ROUTES.iter().map(|route| (route.path.replace(['{', '}'], ""), route.method));
    let pages = ["/docs", "/docs/style.css"].map(|path| (path.to_owned(), Method::Get));
    let mut methods = BTreeMap::<String, BTreeSet<&str>>::new();
    for (path, method) in routes.chain(pages) {
        methods.entry(path).or_default().insert(method.name());
    }
    for (path, methods) in methods {
        let answer = bridge.ask("PATCH", &path, &[], b"").await;
        answer.expect(405);
        let get = methods.contains("GET");
        let with_head: BTreeSet<_> = methods.into_iter().chain(get.then_some("HEAD")).collect();
        let allowed: BTreeSet<_> = answer.header("allow").unwrap().split(',').collect();
        assert_eq!(allowed, with_head, "{path}");
        let head = bridge.ask("HEAD", &path, &[], b"").await;
        head.assert_complete();
        assert_eq!(head.status == 405, !get, "{path}: {head}");
    }
    for path in [
        "/nowhere",
        "/planner",
        "/planner/dispatch/",
        "//",
        "/PLANNER/DISPATCH",
        "/debugger/cancel",
    ] {
        bridge.get(path).await.expect(404);
        bridge.post_with(path, &[], "{}").await.expect(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_describes_itself() {
    let bridge = TestBridge::open().await;
    assert_eq!(bridge.get("/").await.expect(200)["docs"], "/docs");
    let document = bridge.get("/openapi.json").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let page = bridge.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let html = String::from_utf8(page.body.clone()).unwrap();
    for route in ROUTES {
        assert!(html.contains(route.path), "{}", route.path);
    }
    for foreign in ["http://", "https://", "//cdn", "<script", "style="] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(bridge.get("/docs/style.css").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_the_degraded_components_and_no_path() {
    let bridge = TestBridge::open().await;
    bridge.post("/planner/dispatch", &json!({ "prompt": "x" })).await.expect(200);
    let well = bridge.get("/healthcheck").await.expect(200);
    let (status, service, phase) = (&well["status"], &well["service"], &well["phase"]);
    assert_eq!((status, service, phase), (&json!("ok"), &json!("ai-factory"), &json!(4)));
    assert_eq!((&well["position"], &well["parts"]), (&json!(1), &json!([])));
    bridge.get("/readyz").await.expect(200);

    let degraded = |serves| DegradedComponent {
        name: "bus",
        reason: "cannot open /var/x: gone".into(),
        serves,
    };
    bridge.degrade(move || vec![degraded(true)]);
    let ill = bridge.get("/healthcheck").await.expect(200);
    assert_eq!(ill["status"], "degraded");
    assert_eq!(
        ill["parts"],
        json!([{ "part": "bus", "reason": "cannot open (a path): gone", "serves": true }])
    );
    bridge.get("/readyz").await.expect(200);

    bridge.degrade(move || vec![degraded(false)]);
    let ready = bridge.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["parts"][0]["part"]), (503, &json!("bus")));
    bridge.get("/healthcheck").await.expect(200);
    bridge.get("/livez").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_answer_and_the_server_goes_on() {
    let bridge = TestBridge::open().await;
    bridge.degrade(|| panic!("the test asked for it"));
    for _ in 0..3 {
        let answer = bridge.get("/healthcheck").await;
        answer.assert_complete();
        let said = answer.expect(500).to_string();
        assert!(!said.contains("the test asked for it"), "{said}");
    }
    bridge.get("/livez").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_reach_it() {
    let bridge = TestBridge::open().await;
    let port = bridge.address.port();
    let own = format!("http://localhost:{port}");
    let run = |headers: Vec<(&'static str, String)>| {
        let bridge = &bridge;
        async move {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let typed = headers.iter().any(|(name, _)| *name == "Content-Type");
            let all: Vec<_> = headers
                .into_iter()
                .chain((!typed).then_some(("Content-Type", "application/json")))
                .collect();
            bridge.ask("POST", "/planner/dispatch", &all, br#"{"prompt":"x"}"#).await.status
        }
    };
    for (name, value, status) in [
        ("Host", format!("localhost:{port}"), 200),
        ("Host", format!("[::1]:{port}"), 200),
        ("Host", "localhost".to_owned(), 403),
        ("Host", format!("evil.example:{port}"), 403),
        ("Origin", own.clone(), 200),
        ("Origin", "http://localhost:1".to_owned(), 403),
        ("Origin", "http://evil.example".to_owned(), 403),
        ("Origin", "null".to_owned(), 403),
        ("Sec-Fetch-Site", "same-origin".to_owned(), 200),
        ("Sec-Fetch-Site", "cross-site".to_owned(), 403),
        ("Content-Type", "Application/JSON; charset=utf-8".to_owned(), 200),
        ("Content-Type", "text/plain".to_owned(), 415),
        ("Content-Type", "application/x-www-form-urlencoded".to_owned(), 415),
        ("Content-Type", "application/jsonp".to_owned(), 415),
        ("Content-Type", String::new(), 415),
    ] {
        assert_eq!(run(vec![(name, value.clone())]).await, status, "{name}: {value}");
    }
    assert_eq!(
        bridge.ask("POST", "/planner/dispatch", &[], br#"{"prompt":"x"}"#).await.status,
        415
    );
    let nobody = format!("/supervisor/sessions/{}/cancel", uuid::Uuid::now_v7());
    bridge.ask("POST", &nobody, &[], b"").await.expect(415);
    // What a browser asks first is not answered with leave.
    let asks = [("Origin", own.as_str()), ("Access-Control-Request-Method", "POST")];
    let preflight = bridge.ask("OPTIONS", "/planner/dispatch", &asks, b"").await;
    assert_eq!(preflight.status, 405);
    assert!(preflight.headers.iter().all(|(name, _)| !name.starts_with("access-control")));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_nobody_else_comes_in() {
    let token = Some(AccessToken::new("open-sesame").unwrap());
    let bridge = TestBridge::open_with(BridgeSettings { token, ..BridgeSettings::default() }).await;
    for path in
        ["/", "/healthcheck", "/memory/logs", "/events", "/openapi.json", "/docs", "/nowhere"]
    {
        let refused = bridge.get(path).await;
        refused.expect(401);
        refused.assert_complete();
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{path}");
    }
    bridge.get("/livez").await.expect(200);
    bridge.get("/readyz").await.expect(200);
    let body = br#"{"prompt":"x"}"#;
    for (value, status) in
        [("Bearer open-sesame", 200), ("Bearer open", 401), ("Basic open-sesame", 401)]
    {
        bridge
            .post_with("/planner/dispatch", &[("Authorization", value)], body)
            .await
            .expect(status);
    }
}

/// Names one span for everything, and remembers what it was told to adopt.
#[derive(Default)]
struct Named(Mutex<Vec<String>>);

const OWN: &str = "00-11111111111111111111111111111111-2222222222222222-01";
const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

impl Traces for Named {
    fn adopt(&self, _: &tracing::Span, traceparent: &str) {
        self.0.lock().unwrap().push(traceparent.to_owned());
    }

    fn of(&self, _: &tracing::Span) -> Option<String> {
        Some(OWN.to_owned())
    }
}

/// The trace that the newest event belongs to.
async fn recorded_trace(bridge: &TestBridge, given: &str) -> Option<String> {
    let body = json!({ "prompt": "x" }).to_string();
    bridge.post_with("/planner/dispatch", &[("traceparent", given)], body).await.expect(200);
    let journal = &bridge.factory.deps.journal;
    let newest = journal.read(journal.head().position - 1, 1).await.unwrap();
    Recorded::decode(&newest[0].bytes).unwrap().trail.traceparent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_began_at_the_client_goes_on() {
    let bridge = TestBridge::open().await;
    assert_eq!(recorded_trace(&bridge, GIVEN).await.as_deref(), Some(GIVEN));
    for wrong in ["", "x", "00-0-0-00", &GIVEN.to_uppercase()] {
        assert_eq!(recorded_trace(&bridge, wrong).await, None, "{wrong}");
    }
    let traces = Arc::new(Named::default());
    let named: Arc<dyn Traces> = Arc::clone(&traces) as Arc<dyn Traces>;
    let bridge =
        TestBridge::traced(TestFactory::start().await, BridgeSettings::default(), named).await;
    assert_eq!(recorded_trace(&bridge, GIVEN).await.as_deref(), Some(OWN));
    assert_eq!(recorded_trace(&bridge, "x").await.as_deref(), Some(OWN));
    assert_eq!(*traces.0.lock().unwrap(), [GIVEN]);
}
