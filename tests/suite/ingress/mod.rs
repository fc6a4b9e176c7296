//! HTTP and NATS of the real program with a real NATS server, seen from outside.

mod goals;
mod kills;
mod logins;
mod long_outage;
mod many_connections;
mod memory;
mod models;
mod outage;
mod own_server;
mod remote;
pub mod streams;
mod unreadable;

use std::{sync::Arc, time::Duration};

use ai_factory_schemas::{envelope::Recorded, event::Event, session::SessionEvent};
use async_nats::jetstream;
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::support::{
    nats::TestServer,
    process::{PATIENCE, Running, TestHome},
};

/// Patient limits, for a machine that is busy.
const SETTINGS: [&str; 2] = ["--set", "run_wall_ms_max=60000"];

/// The program, up.
pub struct Up {
    running: Running,
    pub http: Http,
}

/// Its HTTP server.
#[derive(Clone)]
pub struct Http {
    pub base: String,
    pub client: reqwest::blocking::Client,
}

impl Up {
    /// Connected to this server.
    pub fn with(home: &TestHome, server: &TestServer) -> Self {
        Self::start(home, &["--nats", &server.url()])
    }

    pub fn start(home: &TestHome, more: &[&str]) -> Self {
        Self::start_in(home, more, &[])
    }

    /// With these variables in its environment.
    pub fn start_in(home: &TestHome, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut arguments = vec!["up", "--port", "0"];
        arguments.extend(SETTINGS);
        arguments.extend(more);
        let mut command = home.command(&arguments);
        command.envs(variables.iter().copied());
        Self::launch(command)
    }

    /// Starts a command that is `up`, and waits until it listens.
    pub fn launch(command: std::process::Command) -> Self {
        let mut running = Running::start(command);
        let base = loop {
            let line = running.line().expect("it ended before it listened");
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.to_owned();
            }
        };
        let client = reqwest::blocking::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { running, http: Http { base, client } }
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Tells it to end, and expects that it does so in order.
    pub fn terminate(self) {
        self.ends_by(rustix::process::Signal::TERM);
    }

    /// Sends it a signal, and expects that it ends in order.
    pub fn ends_by(self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.running.pid()).unwrap());
        rustix::process::kill_process(pid.unwrap(), signal).unwrap();
        let ended = self.running.ended();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    }
}

impl Http {
    pub fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.base)).send().unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().unwrap()
    }

    /// The status and the body.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        let asked = self.client.post(format!("{}{path}", self.base));
        Self::sent(asked.header("idempotency-key", key).json(body))
    }

    /// The same without a key.
    pub fn post_plain(&self, path: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        Self::sent(self.client.post(format!("{}{path}", self.base)).json(body))
    }

    fn sent(asked: reqwest::blocking::RequestBuilder) -> reqwest::Result<(u16, Value)> {
        let answer = asked.send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    }
}

/// Somebody at the NATS server who hears every event.
pub struct Watcher {
    runtime: Arc<tokio::runtime::Runtime>,
    client: async_nats::Client,
    events: async_nats::Subscriber,
}

impl Watcher {
    pub fn at(server: &TestServer) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = Arc::new(runtime.worker_threads(1).enable_all().build().unwrap());
        let (client, events) = runtime.block_on(async {
            let client = server.client().await;
            let events = client.subscribe("factory.events.>").await.unwrap();
            client.flush().await.unwrap();
            (client, events)
        });
        Self { runtime, client, events }
    }

    /// The client library itself.
    pub fn client(&self) -> async_nats::Client {
        self.client.clone()
    }

    fn jetstream(&self) -> jetstream::Context {
        let _runtime = self.runtime.enter();
        jetstream::new(self.client.clone())
    }

    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("in time") })
    }

    /// The next event.
    pub fn event(&mut self) -> Recorded {
        let Self { runtime, events, .. } = self;
        let message = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time").unwrap()
        });
        Recorded::decode(&message.payload).unwrap()
    }

    /// Waits for the end of so many sessions.
    pub fn sessions_end(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let is_end = matches!(self.event().event, Event::Session(SessionEvent::Concluded(_)));
            left -= usize::from(is_end);
        }
    }

    /// Publishes a goal and waits until JetStream has it.
    pub fn publish(&self, id: Option<&str>, goal: impl Into<bytes::Bytes>) {
        let headers: Vec<_> = id.into_iter().map(|id| ("Nats-Msg-Id", id)).collect();
        self.publish_with(&headers, goal);
    }

    pub fn publish_with(&self, named: &[(&str, &str)], goal: impl Into<bytes::Bytes>) {
        let context = self.jetstream();
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in named {
            headers.insert(*name, *value);
        }
        let goal = goal.into();
        self.wait(async {
            context
                .publish_with_headers("factory.goals", headers, goal)
                .await
                .unwrap()
                .await
                .unwrap()
        });
    }

    /// A request, asked again until somebody listens.
    pub fn ask(&self, subject: &str, payload: &[u8]) -> async_nats::Message {
        self.ask_with(&[], subject, payload)
    }

    /// The same, with these headers.
    pub fn ask_with(
        &self,
        named: &[(&str, &str)],
        subject: &str,
        payload: &[u8],
    ) -> async_nats::Message {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in named {
            headers.insert(*name, *value);
        }
        self.wait(async {
            loop {
                let payload = bytes::Bytes::copy_from_slice(payload);
                let (subject, headers) = (subject.to_owned(), headers.clone());
                match self.client.request_with_headers(subject, headers, payload).await {
                    Ok(answer) => return answer,
                    Err(error) => {
                        let kind = error.kind();
                        assert_eq!(kind, async_nats::RequestErrorKind::NoResponders, "{error}");
                    }
                }
            }
        })
    }

    /// The same, also while there is no connection.
    pub fn request_until_answered(
        &self,
        subject: &str,
        payload: &'static [u8],
    ) -> async_nats::Message {
        self.wait(async {
            loop {
                let asked = self.client.request(subject.to_owned(), payload.into()).await;
                if let Ok(answer) = asked {
                    return answer;
                }
            }
        })
    }

    /// How many goals wait in the stream; `None` where there is no stream.
    fn goals_waiting(&self) -> Option<u64> {
        let context = self.jetstream();
        self.wait(async {
            let stream = context.get_stream("FACTORY_GOALS").await.ok()?;
            Some(stream.get_info().await.ok()?.state.messages)
        })
    }

    /// The consumer that hands goals out, once it is there.
    fn consumer(&self) -> Option<()> {
        let context = self.jetstream();
        self.wait(async {
            let stream = context.get_stream("FACTORY_GOALS").await.ok()?;
            stream.consumer_info("factory-goals").await.ok().map(drop)
        })
    }

    /// Waits until the factory takes goals in from JetStream.
    pub fn goals_are_taken_in(&self) {
        while self.goals_waiting().is_none() {
            std::thread::yield_now();
        }
    }

    /// Waits until no goal is left in the stream.
    pub fn goals_are_settled(&self) {
        while self.goals_waiting() != Some(0) {
            std::thread::yield_now();
        }
    }
}

pub fn header<'a>(message: &'a async_nats::Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
}

pub fn body(message: &async_nats::Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

/// Waits until the report of health says this, and answers the first reason in it.
pub fn wait_for_health(up: &Up, word: &str) -> String {
    loop {
        let health = up.http.get("/healthcheck");
        if health["status"] == word {
            return health["parts"][0]["reason"].as_str().unwrap_or_default().to_owned();
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Waits until the report of health gives a reason with all of these words in it.
pub fn wait_for_reason(up: &Up, words: &[&str]) -> String {
    loop {
        let reason = wait_for_health(up, "degraded");
        if words.iter().all(|word| reason.contains(word)) {
            return reason;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// The lines of the log that have this in them.
pub fn logged(home: &TestHome, word: &str) -> Vec<String> {
    let log = std::fs::read_to_string(home.data().join("logs/app.log")).unwrap();
    log.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

/// The last position of the journal.
pub fn head(home: &TestHome) -> u64 {
    home.json(&["head"])["position"].as_u64().unwrap()
}

/// How long a thread rests that looks for something which nothing tells of.
const LOOK: Duration = Duration::from_millis(20);
