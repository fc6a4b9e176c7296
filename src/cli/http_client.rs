//! A blocking HTTP client for a running factory.
//!
//! *Promises.* Redirects are not followed and the environment's proxies are not used: the token is
//! sent to the named address only.
//!
//! *Limits.* No TLS: beyond this machine, a factory is reached over NATS or through a tunnel.

use std::{
    error::Error,
    fmt::Display,
    io::{self, Read},
    time::Duration,
};

use ai_factory_schemas::problem::{Detail, Problem, ProblemBody};
use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::exit::CommandError;

/// Timeout for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A client of one factory.
pub(crate) struct FactoryClient {
    /// Its address: `http://HOST:PORT`.
    base: String,
    authorization: Option<HeaderValue>,
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl FactoryClient {
    /// A client that sends this token, without connecting.
    pub(crate) fn new(base: String, token: Option<&str>) -> Result<Self, CommandError> {
        let unusable =
            |error: &dyn Display| CommandError::failed(format_args!("no HTTP client: {error}"));
        let authorization = token.map(|token| format!("Bearer {token}").parse()).transpose();
        let authorization = authorization.map_err(|error| unusable(&error))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unusable(&error))?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base, authorization, runtime, client })
    }

    /// The factory's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Runs work that has several requests in flight.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Posts JSON under an idempotency key, and reads the answer within `wait`.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        key: &str,
        json: Vec<u8>,
        wait: Duration,
    ) -> Result<Result<T, Problem>, CommandError> {
        self.block_on(self.send_json(url, key, json, wait))
    }

    /// The same inside of [`Self::block_on`].
    pub(crate) async fn send_json<T: DeserializeOwned>(
        &self,
        url: &str,
        key: &str,
        json: Vec<u8>,
        wait: Duration,
    ) -> Result<Result<T, Problem>, CommandError> {
        let request = Request::builder()
            .method(Method::POST)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key);
        self.read(request.uri(url).body(Full::from(json)), wait).await
    }

    /// Puts raw bytes, and reads the answer within `wait`.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        url: &str,
        bytes: Bytes,
        wait: Duration,
    ) -> Result<Result<T, Problem>, CommandError> {
        let request = Request::put(url).header(CONTENT_TYPE, "application/octet-stream");
        self.read(request.body(Full::from(bytes)), wait).await
    }

    /// Reads raw bytes within `wait`.
    pub(crate) async fn bytes(
        &self,
        url: &str,
        wait: Duration,
    ) -> Result<Result<Bytes, Problem>, CommandError> {
        self.answer(Request::get(url).body(Full::default()), wait).await
    }

    /// Reads recorded data within `wait`.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        wait: Duration,
    ) -> Result<Result<T, Problem>, CommandError> {
        self.block_on(self.read(Request::get(url).body(Full::default()), wait))
    }

    /// Opens the stream of events behind a position, or of new ones.
    pub(crate) fn events(&self, after: Option<u64>) -> Result<impl Read + '_, CommandError> {
        let url = format!("{}/events", self.base);
        let mut request = Request::get(url).header(ACCEPT, "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let response = self.runtime.block_on(async {
            let response = self.send(request.body(Full::default())).await?;
            self.check(response).await
        })??;
        Ok(BodyReader { runtime: &self.runtime, body: response.into_body(), piece: Bytes::new() })
    }

    async fn read<T: DeserializeOwned>(
        &self,
        request: hyper::http::Result<Request<Full<Bytes>>>,
        wait: Duration,
    ) -> Result<Result<T, Problem>, CommandError> {
        match self.answer(request, wait).await? {
            Ok(body) => {
                serde_json::from_slice(&body).map(Ok).map_err(|error| self.unreadable(&error))
            }
            Err(problem) => Ok(Err(problem)),
        }
    }

    /// The body of an answer.
    async fn answer(
        &self,
        request: hyper::http::Result<Request<Full<Bytes>>>,
        wait: Duration,
    ) -> Result<Result<Bytes, Problem>, CommandError> {
        let answer = async {
            let response = self.send(request).await?;
            let body = match self.check(response).await? {
                Ok(response) => response.into_body().collect().await,
                Err(problem) => return Ok(Err(problem)),
            };
            Ok(Ok(body.map_err(|error| self.unreadable(&error))?.to_bytes()))
        };
        timeout(wait, answer).await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn send(
        &self,
        request: hyper::http::Result<Request<Full<Bytes>>>,
    ) -> Result<Response<Incoming>, CommandError> {
        let mut request = request.map_err(|error| self.unreached(&error))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.client
            .request(request)
            .await
            .map_err(|error| if is_timeout(&error) { self.late() } else { self.unreached(&error) })
    }

    /// The answer, or the refusal in it.
    async fn check(
        &self,
        response: Response<Incoming>,
    ) -> Result<Result<Response<Incoming>, Problem>, CommandError> {
        let status = response.status();
        if status.is_success() {
            return Ok(Ok(response));
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(CommandError::usage(
                "the factory requires its token: set AI_FACTORY_TOKEN to the one that it was \
                 started with",
            ));
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = response.into_body().collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let detail = match serde_json::from_slice::<ProblemBody>(&body) {
            Ok(body) => body.detail,
            Err(_) => Detail::Sentence(format!("it answers {status}: is it ai-factory?")),
        };
        Ok(Err(Problem { status: status.as_u16(), detail, retry_after }))
    }

    fn late(&self) -> CommandError {
        CommandError::failed(format_args!("{} did not answer in time", self.base))
    }

    fn unreached(&self, error: &dyn Display) -> CommandError {
        CommandError::failed(format_args!(
            "no factory can be reached at {}: `ai-factory up` starts one ({error})",
            self.base
        ))
    }

    fn unreadable(&self, error: &dyn Display) -> CommandError {
        CommandError::failed(format_args!("the answer of {} cannot be read: {error}", self.base))
    }
}

/// Whether a call failed because something took too long.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The body of an answer, read as it comes.
struct BodyReader<'a> {
    runtime: &'a Runtime,
    body: Incoming,
    /// What came and was not read.
    piece: Bytes,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.body.frame()) {
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let bytes = self.piece.len().min(into.len());
        self.piece.copy_to_slice(&mut into[..bytes]);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
        thread::JoinHandle,
    };

    use serde_json::Value;

    use super::*;
    use crate::cli::exit::Exit;

    const LONG: Duration = Duration::from_secs(30);

    /// A client of a server that answers one request with these bytes, and the request's head.
    fn answering(answer: &'static str) -> (FactoryClient, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head = lines.take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).unwrap();
            head
        });
        (FactoryClient::new(base, Some("open-sesame")).unwrap(), server)
    }

    fn url(client: &FactoryClient) -> String {
        format!("{}/x", client.base())
    }

    #[test]
    fn a_redirect_is_not_followed_and_the_token_goes_to_the_named_address_alone() {
        let (client, server) = answering(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        );
        let problem = client.get::<Value>(&url(&client), LONG).unwrap().unwrap_err();
        assert_eq!(problem.status, 302);
        assert!(problem.sentence().contains("is it ai-factory?"), "{problem}");
        let head = server.join().unwrap();
        assert_eq!(head[0], "GET /x HTTP/1.1");
        assert!(head.contains(&"authorization: Bearer open-sesame".to_owned()), "{head:?}");
    }

    #[test]
    fn a_refusal_is_a_problem_with_the_time_to_try_again() {
        let (client, server) = answering(
            "HTTP/1.1 503 x\r\nretry-after: 7\r\ncontent-length: 17\r\n\r\n{\"detail\":\"full\"}",
        );
        let asked = client.post::<Value>(&url(&client), "k", b"{}".into(), LONG);
        assert_eq!(asked.unwrap().unwrap_err(), Problem::busy("full", Duration::from_secs(7)));
        assert!(server.join().unwrap().contains(&"idempotency-key: k".to_owned()));
    }

    #[test]
    fn nobody_there_and_nothing_in_time_are_told_apart() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", silent.local_addr().unwrap());
        let client = FactoryClient::new(base, None).unwrap();
        let said = |asked: Result<Result<Value, Problem>, CommandError>| match asked {
            Err(CommandError::Said { sentence, exit: Exit::FAILED }) => sentence,
            other => panic!("{other:?}"),
        };
        let late = said(client.get(&url(&client), Duration::from_millis(1)));
        assert!(late.ends_with("did not answer in time"), "{late}");
        drop(silent);
        let absent = said(client.get(&url(&client), LONG));
        assert!(absent.starts_with("no factory can be reached at http://127.0.0.1"), "{absent}");
        let base = "https://127.0.0.1:1".to_owned();
        let no_tls = said(FactoryClient::new(base, None).unwrap().get("https://127.0.0.1:1", LONG));
        assert!(no_tls.starts_with("no factory can be reached at https://"), "{no_tls}");
    }

    #[test]
    fn a_stream_is_read_as_it_comes() {
        let (client, server) = answering(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nid: 1\r\n3\r\n\n\nx\r\n0\r\n\r\n",
        );
        let lines: Vec<_> = BufReader::new(client.events(Some(7)).unwrap()).lines().collect();
        let lines: Vec<_> = lines.into_iter().map(Result::unwrap).collect();
        assert_eq!(lines, ["id: 1", "", "x"]);
        let head = server.join().unwrap();
        assert_eq!(head[0], "GET /events HTTP/1.1");
        assert!(head.contains(&"last-event-id: 7".to_owned()), "{head:?}");
    }
}
