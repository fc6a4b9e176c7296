//! A bridge with a factory behind it, and a client that sends exactly what a test says.

pub(super) use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(super) use ai_factory::bridge::{AccessToken, Bridge, BridgeSettings};
pub(super) use ai_factory_ports::{
    bus::Bus,
    health::{DegradedComponent, HealthReport},
    trace::Traces,
};
pub(super) use ai_factory_tail::Tail;
pub(super) use serde_json::{Value, json};
pub(super) use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

pub(super) use crate::factory::harness::{PATIENCE, TestFactory, code, limits, wait_for};

/// What a test says does not work.
type DegradedSource = Arc<Mutex<Box<dyn Fn() -> Vec<DegradedComponent> + Send + Sync>>>;

pub(super) struct TestBridge {
    pub(super) factory: TestFactory,
    pub(super) address: SocketAddr,
    pub(super) health_report: DegradedSource,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<std::io::Result<()>>>,
}

impl TestBridge {
    pub(super) async fn open() -> Self {
        Self::open_with(BridgeSettings::default()).await
    }

    pub(super) async fn open_with(settings: BridgeSettings) -> Self {
        Self::before(TestFactory::start().await, settings).await
    }

    pub(super) async fn before(factory: TestFactory, settings: BridgeSettings) -> Self {
        let traces = Arc::clone(&factory.deps.traces);
        Self::traced(factory, settings, traces).await
    }

    pub(super) async fn traced(
        factory: TestFactory,
        settings: BridgeSettings,
        traces: Arc<dyn Traces>,
    ) -> Self {
        let bus = Arc::clone(&factory.deps.bus);
        Self::over(bus, factory, settings, traces).await
    }

    /// In front of another bus than the factory's.
    pub(super) async fn over(
        bus: Arc<dyn Bus>,
        factory: TestFactory,
        settings: BridgeSettings,
        traces: Arc<dyn Traces>,
    ) -> Self {
        let health_report: DegradedSource = Arc::new(Mutex::new(Box::new(Vec::new)));
        let told = Arc::clone(&health_report);
        let deps = &factory.deps;
        let bridge = Bridge {
            bus,
            subjects: deps.subjects.clone(),
            tail: Tail::new(Arc::clone(&deps.journal)),
            ids: Arc::clone(&deps.ids),
            traces,
            health_report: Arc::new(move || {
                let told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                HealthReport { degraded: told(), ..HealthReport::default() }
            }),
            settings,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let served = Some(tokio::spawn(bridge.serve(listener, until)));
        Self { factory, address, health_report, stop: Some(stop), served }
    }

    pub(super) fn degrade(
        &self,
        health_report: impl Fn() -> Vec<DegradedComponent> + Send + Sync + 'static,
    ) {
        *self.health_report.lock().unwrap() = Box::new(health_report);
    }

    pub(super) fn close(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until everything is answered.
    pub(super) async fn closed(&mut self) {
        let served = self.served.take().unwrap();
        in_time(served, "the server does not close").await.unwrap().unwrap();
    }

    /// Ends it without waiting for anybody.
    pub(super) fn abort(&self) {
        self.served.as_ref().unwrap().abort();
    }

    pub(super) async fn line(&self) -> RawConnection {
        RawConnection(BufReader::new(TcpStream::connect(self.address).await.unwrap()))
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body.to_string()).await
    }

    pub(super) async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let all: Vec<_> =
            [("Content-Type", "application/json")].iter().chain(headers).copied().collect();
        self.ask("POST", path, &all, body.as_ref()).await
    }

    /// With a `Host` unless the test gives one, and the length of the body where there is one.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut line = self.line().await;
        line.send(&self.written(method, path, headers, body)).await;
        line.answer(method).await
    }

    pub(super) fn written(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        use std::fmt::Write as _;

        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            let _ = write!(head, "Host: {}\r\n", self.address);
        }
        if !body.is_empty() {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        [(head + "\r\n").as_bytes(), body].concat()
    }
}

pub(super) async fn in_time<T>(what: impl Future<Output = T>, otherwise: &str) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap_or_else(|_| panic!("{otherwise}"))
}

/// A connection.
pub(super) struct RawConnection(BufReader<TcpStream>);

impl RawConnection {
    /// Sends what the other side is willing to take.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes).await;
    }

    /// Closes the sending side alone: answers are still taken.
    pub(super) async fn send_no_more(&mut self) {
        self.0.get_mut().shutdown().await.unwrap();
    }

    /// Breaks the connection off.
    pub(super) fn reset(self) {
        let stream = self.0.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The next line without its end; `None` where there is none.
    pub(super) async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while let Ok(byte) = in_time(self.0.read_u8(), "nothing comes").await {
            if byte == b'\n' {
                let line = String::from_utf8(line).unwrap();
                return Some(line.trim_end_matches('\r').to_owned());
            }
            line.push(byte);
        }
        assert!(line.is_empty(), "broke off in {:?}", String::from_utf8_lossy(&line));
        None
    }

    /// Status and headers of the next answer that is no interim one.
    pub(super) async fn head(&mut self) -> Answer {
        loop {
            let first = self.next().await.expect("an answer");
            let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
            let status = status.unwrap_or_else(|| panic!("no answer: {first}"));
            let mut headers = Vec::new();
            while let Some(line) = self.next().await.filter(|line| !line.is_empty()) {
                let (name, value) = line.split_once(':').unwrap();
                headers.push((name.to_lowercase(), value.trim().to_owned()));
            }
            if status >= 200 {
                return Answer { status, headers, body: Vec::new() };
            }
        }
    }

    pub(super) async fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head().await;
        if let (Some(length), true) = (answer.header("content-length"), method != "HEAD") {
            answer.body = vec![0; length.parse().unwrap()];
            in_time(self.0.read_exact(&mut answer.body), "the body ends early").await.unwrap();
        }
        answer
    }

    /// Whether the other side has closed.
    pub(super) async fn is_over(&mut self) -> bool {
        in_time(self.0.read_u8(), "nothing comes").await.is_err()
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known == name);
        let (first, none) = (named.next(), named.next());
        assert!(none.is_none(), "{name} is there twice: {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self}"))
    }

    /// The body of an answer with that status.
    pub(super) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        let body = self.json();
        if status >= 400 {
            let detail = &body["detail"];
            let is_told = detail.as_str().is_some_and(|text| !text.is_empty())
                || detail.as_array().is_some_and(|faults| !faults.is_empty());
            assert!(is_told, "{self}");
        }
        body
    }

    /// A refusal with 422 that names this place.
    pub(super) fn expect_fault(&self, loc: &[&str]) {
        let body = self.expect(422);
        assert_eq!(body["detail"][0]["loc"], json!(loc), "{self}");
        assert!(body["detail"][0]["msg"].is_string() && body["detail"][0]["type"].is_string());
    }

    /// Whether it is the HTTP library's own refusal of what it could not parse: a status alone.
    pub(super) fn is_bare(&self) -> bool {
        self.body.is_empty()
            && self.header("content-length") == Some("0")
            && self.header("x-request-id").is_none()
    }

    /// A refusal of what could not be parsed.
    pub(super) fn expect_bare(&self, status: u16) {
        assert!(self.status == status && self.is_bare(), "{self}");
    }

    /// What every answer to a request that could be parsed has.
    pub(super) fn assert_complete(&self) {
        let id = self.header("x-request-id").unwrap_or_else(|| panic!("no id: {self}"));
        assert!(id.parse::<ai_factory_schemas::id::RequestId>().is_ok(), "{id}");
        let duration = self.header("x-duration").unwrap_or_else(|| panic!("no time: {self}"));
        let (seconds, millis) = duration.split_once('.').unwrap();
        assert!(seconds.parse::<u64>().is_ok() && millis.len() == 3, "{duration}");
        assert!(millis.bytes().all(|byte| byte.is_ascii_digit()), "{duration}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self}");
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} {:?} {:.400}", self.status, self.headers, body)
    }
}
