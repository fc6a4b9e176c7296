//! Anything at all, thrown at every route: each request gets one answer, a documented one. What
//! cannot be parsed is refused by a status alone.

use ai_factory_schemas::route::{ROUTES, Route};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::harness::*;

/// A request, as bytes that may be a request or not.
#[derive(Clone, Debug)]
struct Thrown {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    has_host: bool,
}

impl Thrown {
    fn written(&self, address: SocketAddr) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        if self.has_host {
            bytes.extend_from_slice(format!("Host: {address}\r\n").as_bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Whether nothing in it could keep it from being parsed.
    fn is_plain(&self) -> bool {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/?=&+*%.-_".contains(c);
        let is_visible = |value: &[u8]| value.iter().all(|byte| matches!(byte, b' '..=b'~'));
        self.method.chars().all(|c| c.is_ascii_alphanumeric())
            && self.path.starts_with('/')
            && self.path.chars().all(is_plain)
            && self.headers.iter().all(|(_, value)| is_visible(value))
    }

    /// The route that it would reach if nothing were wrong with it; with a method that the path
    /// does not have, another one of the path.
    fn route(&self) -> Option<&'static Route> {
        let path = self.path.split(['?', '#']).next()?;
        let of_path = |route: &&Route| {
            let (wanted, given) = (route.path.split('/'), path.split('/'));
            wanted.clone().count() == given.clone().count()
                && wanted
                    .zip(given)
                    .all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
        };
        let method = if self.method == "HEAD" { "GET" } else { &self.method };
        let mut routes = ROUTES.iter().filter(of_path);
        let exact = routes.clone().find(|route| route.method.name() == method);
        exact.or_else(|| routes.next())
    }
}

/// Method and path: mostly those of a route, else either of them anything.
fn places() -> impl Strategy<Value = (String, String)> {
    let path = |route: &Route| {
        let path = route.path.replace("{id}", "01a20529-56af-779b-bc64-e91d4ae00ea3");
        path.replace("{path}", "a.txt").replace("{hash}", &"0".repeat(64))
    };
    let known =
        select(ROUTES).prop_map(move |route| (route.method.name().to_owned(), path(&route)));
    let others = &["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"][..];
    let methods = prop_oneof![9 => select(others).prop_map(str::to_owned), 1 => "[!-~]{1,12}"];
    let paths = prop_oneof![
        6 => select(ROUTES).prop_map(move |route| path(&route)),
        2 => "/[a-z{}/%.]{0,20}",
        1 => "[ -~]{0,20}",
    ];
    prop_oneof![3 => known, 1 => (methods, paths)]
}

fn queries() -> impl Strategy<Value = String> {
    let names =
        || select(&["q", "n", "limit", "after", "filter", "id", "x", "%71", "bytes", "offset"][..]);
    let values =
        || prop_oneof!["[0-9]{1,4}", "[a-z+0-9*.]{0,12}", "[a-z+%0-9*>.]{0,6}", "-?[0-9.e]{1,25}"];
    prop_oneof![
        3 => Just(String::new()),
        6 => vec((names(), values()), 1..4).prop_map(|pairs| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("?{}", pairs.join("&"))
        }),
        1 => "\\?[!-~]{0,40}",
    ]
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let typed = Just(("Content-Type".to_owned(), b"application/json".to_vec()));
    let names = select(
        &[
            "Content-Type",
            "X-Request-ID",
            "Idempotency-Key",
            "Origin",
            "Sec-Fetch-Site",
            "Last-Event-ID",
            "traceparent",
            "Authorization",
            "Accept",
            "Expect",
            "Connection",
            "Host",
            "X-Odd",
        ][..],
    );
    let values = prop_oneof![
        select(
            &[
                "application/json",
                "application/octet-stream",
                "text/plain",
                "null",
                "same-origin",
                "cross-site",
                "0",
                "1",
                "Bearer x",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "100-continue",
                "close",
                "a b",
            ][..]
        )
        .prop_map(|text| text.as_bytes().to_vec()),
        "[!-~]{0,150}".prop_map(String::into_bytes),
        vec(prop_oneof![32..=126u8, 128..=255u8], 0..20),
    ];
    let odd = vec((names.prop_map(str::to_owned), values), 0..3);
    (proptest::option::weighted(0.9, typed), odd)
        .prop_map(|(typed, odd)| typed.into_iter().chain(odd).collect())
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let fields = select(
        &[
            "prompt",
            "task_type",
            "goal",
            "code",
            "language",
            "text",
            "tags",
            "id",
            "key",
            "resolution",
            "run_id",
            "files",
            "check",
            "hashes",
        ][..],
    );
    let values = prop_oneof![
        4 => "[ -~äß\u{1F600}]{0,40}".prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => select(&["coding", "python", "skip", "01a20529-56af-779b-bc64-e91d4ae00ea3"][..]).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => vec("[a-z]{0,5}", 0..3).prop_map(Value::from),
    ];
    let object = vec((fields, values), 0..4).prop_map(|members| {
        let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Object(members.collect()).to_string().into_bytes()
    });
    // What every operation takes, said in anybody's words.
    let fitting = "[ -~äß\u{1F600}]{1,40}".prop_map(|words| {
        let fields = ["prompt", "goal", "code", "text"];
        let all = fields.map(|name| (name.to_owned(), Value::from(words.clone())));
        Value::Object(all.into_iter().collect()).to_string().into_bytes()
    });
    prop_oneof![
        3 => object,
        8 => fitting,
        1 => vec(any::<u8>(), 0..100),
        1 => "[\\[\\]{}:,\"0-9eE.+\\\\ud8-]{0,60}".prop_map(String::into_bytes),
        1 => Just(Vec::new()),
    ]
}

fn thrown() -> impl Strategy<Value = Thrown> {
    let has_host = prop::bool::weighted(0.95);
    (places(), queries(), headers(), bodies(), has_host).prop_map(
        |((method, path), query, headers, body, has_host)| Thrown {
            method,
            path: path + &query,
            headers,
            body,
            has_host,
        },
    )
}

/// What must hold of an answer to it.
fn judge(thrown: &Thrown, answer: &Answer) -> Result<(), TestCaseError> {
    if answer.is_bare() {
        prop_assert!(matches!(answer.status, 400 | 431) && !thrown.is_plain(), "{}", answer);
        return Ok(());
    }
    answer.assert_complete();
    prop_assert!(answer.status < 500 || matches!(answer.status, 503 | 504), "{}", answer);
    let unreadable = [400, 405, 414, 431].contains(&answer.status);
    if let (Some(route), false) = (thrown.route(), unreadable) {
        let documented = [route.successes(), route.problems()].concat().contains(&answer.status);
        prop_assert!(documented, "{}: {}", route.path, answer);
    }
    if answer.status >= 400 && thrown.method != "HEAD" {
        answer.expect(answer.status);
    }
    Ok(())
}

#[test]
fn anything_thrown_at_any_route_gets_a_documented_answer() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bridge = runtime.block_on(TestBridge::open());
    let mut runner = TestRunner::new(Config { cases: 1500, ..Config::default() });
    let thrown = thrown();
    let outcome = runner.run(&thrown, |thrown| {
        let answer = runtime.block_on(async {
            let mut line = bridge.line().await;
            line.send(&thrown.written(bridge.address)).await;
            // A stream of events has no end to wait for: its answer has no length.
            line.answer(&thrown.method).await
        });
        judge(&thrown, &answer)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let alive = runtime.block_on(bridge.get("/livez"));
    assert_eq!(alive.status, 200);
}
