//! A scripted model server on a real socket, as well or as ill as a test wants it.
//!
//! It speaks chat completions (`/v1/chat/completions`) and messages (`/v1/messages`) on raw TCP in
//! a thread of its own, so that it serves async tests, blocking ones and other processes. Each
//! request takes the next reply of the script; a request after the last one is refused with status
//! 400, so that a session never goes on by accident. One request a connection.
//!
//! ```text
//! let server = ModelServer::start([
//!     Reply::tool("write_file", json!({ "path": "a.py", "content": "print(1)\n" })),
//!     Reply::status(429).retry_after(2),
//!     Reply::text("Done.").stalled(), // nothing until `server.go_on()`
//! ]);
//! // … `server.url()` as `model_url`; then `server.requests()[0].body["messages"]` …
//! ```
//!
//! A reply without [`Reply::usage`] reports plausible tokens: a quarter of the request's bytes.
//! Less than a twelfth of what was sent counts as a request that was not read as a whole.

mod answer;
mod frames;
mod reply;
mod wire;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
};

pub use reply::Reply;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// `POST` or `GET`.
    pub method: String,
    /// Path, with the query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// The body; null if there is none.
    pub body: Value,
    /// Its size, in bytes.
    pub bytes: usize,
}

impl ModelRequest {
    /// A header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Answers every request for which the script has no reply; it is given the number of the request,
/// from 0.
type Author = dyn Fn(usize, &ModelRequest) -> Reply + Send + Sync;

/// What has come and gone.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    requests: usize,
    hung_up: usize,
}

struct State {
    script: VecDeque<Reply>,
    author: Arc<Author>,
    /// Answers to other paths: status and body.
    pages: HashMap<String, (u16, Value)>,
    requests: Vec<ModelRequest>,
    others: Vec<ModelRequest>,
}

struct Shared {
    state: Mutex<State>,
    seen: watch::Sender<Seen>,
    go_on: Semaphore,
    over: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Records the request and answers with its reply.
    fn take(&self, request: ModelRequest) -> Reply {
        let mut state = self.state();
        let is_call =
            request.path.ends_with("/chat/completions") || request.path.ends_with("/messages");
        if !is_call {
            let page = state.pages.get(&request.path).cloned();
            state.others.push(request);
            return page.map_or_else(
                || Reply::status(404),
                |(status, body)| Reply::status(status).body(body.to_string()),
            );
        }
        let number = state.requests.len();
        let reply = state.script.pop_front();
        let author = Arc::clone(&state.author);
        state.requests.push(request.clone());
        drop(state);
        let reply = reply.unwrap_or_else(|| author(number, &request));
        self.seen.send_modify(|seen| seen.requests += 1);
        reply
    }
}

/// The server. It ends with the test.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl ModelServer {
    /// Replies with the script, one reply a request.
    pub fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::serve(script, |_, _| {
            let body = r#"{"error":{"message":"the script of the test has no further reply"}}"#;
            Reply::status(400).body(body)
        })
    }

    /// Replies with what a function makes of the number of the request, from 0, and its content.
    pub fn answering(
        author: impl Fn(usize, &ModelRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve([], author)
    }

    fn serve(
        script: impl IntoIterator<Item = Reply>,
        author: impl Fn(usize, &ModelRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                script: script.into_iter().collect(),
                author: Arc::new(author),
                pages: HashMap::new(),
                requests: Vec::new(),
                others: Vec::new(),
            }),
            seen: watch::Sender::default(),
            go_on: Semaphore::new(0),
            over: Notify::new(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(accept(listener, serving));
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// The base of the API.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Appends to the script.
    pub fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.state().script.extend(replies);
    }

    /// What a path other than the two of calls answers, such as `/props`. Others answer 404.
    pub fn page(&self, path: &str, status: u16, body: Value) {
        self.shared
            .state()
            .pages
            .insert(path.to_owned(), (status, body));
    }

    /// The calls so far.
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.shared.state().requests.clone()
    }

    /// The requests so far that were no calls.
    pub fn others(&self) -> Vec<ModelRequest> {
        self.shared.state().others.clone()
    }

    /// Lets one reply that stalls go on, now or when it comes to that.
    pub fn go_on(&self) {
        self.shared.go_on.add_permits(1);
    }

    /// Waits until so many calls have come.
    pub async fn received(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        seen.wait_for(|seen| seen.requests >= count).await.unwrap();
    }

    /// Waits until so many callers have hung up before the end of their reply.
    pub async fn hung_up(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        seen.wait_for(|seen| seen.hung_up >= count).await.unwrap();
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.shared.over.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        tokio::select! {
            () = shared.over.notified() => return,
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                tokio::spawn(converse(stream, Arc::clone(&shared)));
            }
        }
    }
}

/// Answers the request of a connection.
async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.into_split();
    let Some(request) = wire::read(&mut from).await else {
        return;
    };
    let reply = shared.take(request.clone());
    let done = tokio::select! {
        biased;
        done = wire::write(&mut to, &reply, &request, &shared.go_on) => done,
        () = wire::closed(&mut from) => false,
    };
    if !done {
        shared.seen.send_modify(|seen| seen.hung_up += 1);
    }
}
