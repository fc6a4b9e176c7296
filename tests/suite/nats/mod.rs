//! What a factory is on a NATS server, for whoever lives there: services, and an agent.

mod agent;
mod client_files;
mod client_outage;
mod examples;
mod forged_headers;
mod interrupted_stream;
mod keep_alive;
mod peers;
mod question;
mod sdk;
mod services;
mod submitters;

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::{
    ingress::{Up, Watcher, body, header},
    support::{nats::TestServer, process::TestHome},
};

/// What the agent of these tests is called.
const OWNER_AND_NAME: &str = "ai-factory.alice.bench";

/// The program, up, as an agent with that name.
fn agent_up(home: &TestHome, server: &TestServer, more: &[&str]) -> Up {
    let url = server.url();
    let named = ["--nats", &url, "--set", "agent_owner=alice", "--set", "agent_name=bench"];
    Up::start(home, &[&named[..], more].concat())
}

fn subject(verb: &str) -> String {
    format!("agents.{verb}.{OWNER_AND_NAME}")
}

/// The stream of an answer, up to its empty end.
#[derive(Debug, Default)]
struct Answer {
    chunks: Vec<Value>,
    /// The code and the body of the error at its end.
    error: Option<(String, Value)>,
}

impl Answer {
    /// The tokens of its statuses, in order.
    fn statuses(&self) -> Vec<&str> {
        let of_kind = self.chunks.iter().filter(|chunk| chunk["type"] == "status");
        of_kind.map(|chunk| chunk["data"].as_str().unwrap()).collect()
    }

    /// The session that its first event names.
    fn session(&self) -> &str {
        self.chunks.iter().find_map(|chunk| chunk["session_id"].as_str()).unwrap()
    }

    /// What its response chunks say together.
    fn text(&self) -> String {
        let of_kind = self.chunks.iter().filter(|chunk| chunk["type"] == "response");
        of_kind.map(|chunk| chunk["data"].as_str().unwrap()).collect()
    }
}

/// A request whose answer is a stream.
struct Asked(async_nats::Subscriber);

impl Asked {
    /// Publishes it. Somebody must listen already.
    fn ask(watcher: &Watcher, verb: &str, named: &[(&str, &str)], payload: &[u8]) -> Self {
        let client = watcher.client();
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in named {
            headers.insert(*name, *value);
        }
        let payload = bytes::Bytes::copy_from_slice(payload);
        watcher.wait(async {
            let inbox = client.new_inbox();
            let replies = client.subscribe(inbox.clone()).await.unwrap();
            let (to, reply) = (subject(verb), inbox);
            client.publish_with_reply_and_headers(to, reply, headers, payload).await.unwrap();
            Self(replies)
        })
    }

    /// The next chunk; the error, or the end, as it comes.
    fn next(&mut self, watcher: &Watcher) -> async_nats::Message {
        let message = watcher.wait(self.0.next()).unwrap();
        assert_eq!(message.status, None, "nobody listens");
        message
    }

    /// All the rest, up to the empty end.
    fn rest(mut self, watcher: &Watcher) -> Answer {
        let mut answer = Answer::default();
        loop {
            let message = self.next(watcher);
            match header(&message, "Nats-Service-Error-Code") {
                Some(code) => {
                    assert!(answer.error.is_none(), "two errors: {answer:?}");
                    answer.error = Some((code.to_owned(), body(&message)));
                }
                None if message.payload.is_empty() => {
                    assert!(message.headers.is_none());
                    return answer;
                }
                None => {
                    assert!(answer.error.is_none(), "a chunk after the error: {answer:?}");
                    answer.chunks.push(body(&message));
                }
            }
        }
    }
}

/// Prompts the agent, and waits for all of its answer.
fn prompt(watcher: &Watcher, named: &[(&str, &str)], payload: &[u8]) -> Answer {
    Asked::ask(watcher, "prompt", named, payload).rest(watcher)
}

/// Waits until the agent listens.
fn found(watcher: &Watcher) -> Value {
    body(&watcher.ask(&subject("status"), b""))
}

/// A goal whose code waits until there is a file `gate`.
fn gated(home: &TestHome) -> (String, std::path::PathBuf) {
    let gate = home.path().join("gate");
    let code = format!(
        "import os\nwhile not os.path.exists('{}'): pass\nprint('through')",
        gate.display()
    );
    (format!("Wait:\n```python\n{code}\n```"), gate)
}
