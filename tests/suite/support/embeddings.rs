//! An OpenAI-compatible API for embeddings on a free port, as well or as ill as a test wants it.
//!
//! Its model is the one that is part of the program with the numbers of each vector the other way
//! round, so that vectors of the two are not to be compared.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use ai_factory::embedding::BuiltIn;
use ai_factory_ports::embedder::Embedder as _;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

/// What a call is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The vectors.
    Vectors,
    /// The vectors, the last one first, each with its index.
    Backwards,
    /// Vectors that are cut to so many numbers.
    Cut(usize),
    /// This status, these headers and this body.
    Answer(u16, &'static str, &'static str),
    /// Nothing, until the caller hangs up.
    Hang,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub key: Option<String>,
    pub body: Value,
}

impl Call {
    pub fn texts(&self) -> Vec<&str> {
        self.body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }
}

#[derive(Default)]
struct Shared {
    model: BuiltIn,
    /// What the next calls are answered.
    next: Mutex<VecDeque<Reply>>,
    /// What all others are.
    usual: Mutex<Option<Reply>>,
    calls: Mutex<Vec<Call>>,
    is_over: AtomicBool,
}

/// The API. It ends with the test.
pub struct Embeddings {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Embeddings {
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn start_at(address: SocketAddr) -> Self {
        Self::serve(address, "http", serve)
    }

    /// With TLS: it shows `NAME.pem` of the directory.
    pub fn start_with_tls(directory: &Path, name: &str) -> Self {
        let certificates = CertificateDer::pem_file_iter(directory.join(format!("{name}.pem")));
        let certificates = certificates.unwrap().collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(directory.join(format!("{name}.key"))).unwrap();
        let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let settings = Arc::new(settings);
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "https", move |stream, shared| {
            let connection = ServerConnection::new(Arc::clone(&settings)).unwrap();
            serve(StreamOwned::new(connection, stream), shared);
        })
    }

    fn serve(
        address: SocketAddr,
        scheme: &'static str,
        serve: impl Fn(TcpStream, &Shared) + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over.load(Ordering::Acquire) {
                    return;
                }
                let (serve, serving) = (serve.clone(), Arc::clone(&serving));
                std::thread::spawn(move || serve(stream.unwrap(), &serving));
            }
        });
        Self { address, scheme, shared, accepting: Some(accepting) }
    }

    /// An address at which nobody listens now.
    pub fn nowhere() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("{}://{}/v1", self.scheme, self.address)
    }

    /// How the next calls are answered, one after the other.
    pub fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.next.lock().unwrap().extend(replies);
    }

    /// How all others are answered from now on.
    pub fn usual(&self, reply: Reply) {
        *self.shared.usual.lock().unwrap() = Some(reply);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// How many texts it was given.
    pub fn texts(&self) -> usize {
        self.shared.calls.lock().unwrap().iter().map(|call| call.texts().len()).sum()
    }
}

impl Drop for Embeddings {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Answers the calls of one connection.
fn serve(stream: impl Read + Write, shared: &Shared) {
    let mut from = BufReader::new(stream);
    while let Some(call) = call(&mut from) {
        shared.calls.lock().unwrap().push(call.clone());
        let next = shared.next.lock().unwrap().pop_front();
        let usual = || shared.usual.lock().unwrap().clone();
        let reply = next.or_else(usual).unwrap_or(Reply::Vectors);
        let texts = call.texts();
        let (status, headers, body) = match reply {
            Reply::Vectors => (200, "", vectors(&shared.model, &texts, usize::MAX).to_string()),
            Reply::Cut(numbers) => (200, "", vectors(&shared.model, &texts, numbers).to_string()),
            Reply::Backwards => {
                let mut answer = vectors(&shared.model, &texts, usize::MAX);
                answer["data"].as_array_mut().unwrap().reverse();
                (200, "", answer.to_string())
            }
            Reply::Answer(status, headers, body) => (status, headers, body.to_owned()),
            Reply::Hang => {
                // Returns when the caller has hung up.
                let _ = from.read_line(&mut String::new());
                return;
            }
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        // The caller may be gone.
        let to = from.get_mut();
        let sent = to.write_all(head.as_bytes()).and_then(|()| to.write_all(body.as_bytes()));
        if sent.and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

fn vectors(model: &BuiltIn, texts: &[&str], numbers: usize) -> Value {
    let vectors = model.embed(texts).unwrap();
    let data: Vec<Value> = vectors
        .into_iter()
        .enumerate()
        .map(|(index, mut vector)| {
            vector.reverse();
            vector.truncate(numbers);
            json!({ "object": "embedding", "index": index, "embedding": vector })
        })
        .collect();
    json!({ "object": "list", "data": data })
}

/// The next call; `None` where the connection is closed.
fn call(from: &mut BufReader<impl Read>) -> Option<Call> {
    let (mut head, mut length, mut key) = (String::new(), 0, None);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                key = Some(value.trim().to_owned());
            }
            _ => writeln!(head, "{line}").unwrap(),
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    Some(Call { path, key, body: serde_json::from_slice(&body).unwrap() })
}
