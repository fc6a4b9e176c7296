//! HTTP client for models: one connection a request, with TLS for `https` addresses.
//!
//! *Promises.* Redirects are not followed and the environment's proxies are not used. A connection
//! that is not made has sent nothing; one that is made carries one request and is never used again,
//! so no request is ever sent twice. Dropping a response closes its connection. TLS is configured
//! for this client alone.
//!
//! *Limits.* The time limits of [`TimeLimits`].

use std::{error::Error, time::Duration};

use ai_factory_https::{self as https, TlsError, root_cause};
use ai_factory_ports::model::ModelError;
use ai_factory_schemas::model::ModelErrorClass;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Uri,
    body::Incoming,
    client::conn::http1,
    header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
    service::Service as _,
};
use hyper_rustls::HttpsConnector;
use hyper_util::{client::legacy::connect::HttpConnector, service::TowerToHyperService};
use rustls::RootCertStore;
use tokio::{
    sync::OnceCell,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use url::{Position, Url};

use super::{
    draft::cut,
    patience::{ATTEMPT_MAX, BODY_MAX, Patience, TimeLimits, Waited},
};

/// How the client calls itself.
const AGENT: &str = concat!("ai-factory/", env!("CARGO_PKG_VERSION"));

type TlsConnector = TowerToHyperService<HttpsConnector<HttpConnector>>;

/// A request.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Outgoing {
    /// A request for JSON, or with JSON.
    pub(crate) fn new(method: Method, url: Url, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        Self { method, url, headers, body }
    }

    /// Adds a header.
    pub(crate) fn header(&mut self, name: &'static str, value: &'static str) {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }

    /// Adds a header whose value no log shows.
    pub(crate) fn secret(&mut self, name: &'static str, value: &str) -> Result<(), ModelError> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            let reason = "the key has characters that no key has: copy it again";
            ModelError::new(ModelErrorClass::Credentials, reason)
        });
        let mut value = value?;
        value.set_sensitive(true);
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(())
    }
}

/// A response whose content arrives.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    host: String,
    limits: TimeLimits,
    patience: Patience,
    /// Drives the connection until this is dropped.
    _connection: JoinSet<()>,
}

impl Response {
    /// A header as text; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The next part of the content; `None` at its end.
    pub(crate) async fn part(&mut self) -> Result<Option<Bytes>, ModelError> {
        let (until, waited) = self.patience.until();
        let part = timeout_at(until, self.data()).await;
        let part = part.map_err(|_| self.timed_out(waited))??;
        self.patience.heard(Instant::now());
        Ok(part)
    }

    /// The last part brought something of the answer, and no mere sign of life.
    pub(crate) fn progressed(&mut self) {
        self.patience.progressed(Instant::now());
    }

    async fn data(&mut self) -> Result<Option<Bytes>, ModelError> {
        loop {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame =
                frame.map_err(|error| cut(&format!("{} {}", self.host, root_cause(&error))))?;
            match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            }
        }
    }

    fn timed_out(&self, waited: Waited) -> ModelError {
        let (host, limits) = (&self.host, self.limits);
        let reason = match waited {
            Waited::FirstByte => return no_first_byte(host, limits.first_byte),
            Waited::Idle => format!(
                "{host} sent nothing more for {} ms: try again, or raise `model_idle_ms_max`",
                limits.idle.as_millis()
            ),
            Waited::Progress => format!(
                "{host} sent signs of life and nothing more of the answer for {} ms: try again, or raise \
                 `model_first_byte_ms_max`",
                limits.first_byte.max(limits.idle).as_millis()
            ),
            Waited::Attempt => format!(
                "{host} did not complete its answer within {} minutes: use a faster model, or ask for less",
                ATTEMPT_MAX.max(limits.first_byte).as_secs() / 60
            ),
        };
        ModelError::new(ModelErrorClass::TimedOut, reason)
    }

    /// At most so many bytes of the content, as far as it arrives within [`BODY_MAX`].
    pub(crate) async fn beginning(mut self, bytes_max: usize) -> Bytes {
        let until = Instant::now() + self.limits.idle.min(BODY_MAX);
        let mut whole = Vec::new();
        while let Ok(Ok(Some(part))) = timeout_at(until, self.data()).await {
            let room = bytes_max.saturating_sub(whole.len());
            whole.extend_from_slice(&part[..part.len().min(room)]);
            if part.len() >= room {
                break;
            }
        }
        whole.into()
    }
}

/// The client.
#[derive(Default)]
pub(crate) struct ModelClient {
    /// Made at the first request over TLS, because that is when the system's root certificates are
    /// loaded.
    tls: OnceCell<TlsConnector>,
    plain: OnceCell<TlsConnector>,
}

impl ModelClient {
    /// Sends a request, and answers when the head of the response has come.
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing,
        limits: TimeLimits,
    ) -> Result<Response, ModelError> {
        let Outgoing { method, url, headers, body } = outgoing;
        let host = url[Position::BeforeHost..Position::AfterPort].to_owned();
        let connecting = timeout(limits.connect, self.connection(&url)).await;
        let (mut sender, connection) = connecting.unwrap_or_else(|_| {
            let waited = limits.connect.as_millis();
            Err(unreachable(
                &host,
                &format!("no connection within {waited} ms, `model_connect_ms_max`"),
            ))
        })?;
        let failed = |error: hyper::Error| cut(&format!("{host} {}", root_cause(&error)));
        let mut request = Request::builder()
            .method(method)
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .header(HOST, &host)
            .body(Full::from(body))
            .map_err(|error| unreachable(&host, &error.to_string()))?;
        request.headers_mut().extend(headers);
        let began = Instant::now();
        let first_byte_by = began + limits.first_byte;
        let responding = timeout_at(first_byte_by, sender.send_request(request)).await;
        let response = responding.map_err(|_| no_first_byte(&host, limits.first_byte))?;
        let (head, body) = response.map_err(failed)?.into_parts();
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            host,
            limits,
            patience: Patience::new(limits, began),
            _connection: connection,
        })
    }

    async fn connection(
        &self,
        url: &Url,
    ) -> Result<(http1::SendRequest<Full<Bytes>>, JoinSet<()>), ModelError> {
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let connector = if url.scheme() == "https" {
            self.tls.get_or_try_init(|| tls(host)).await?
        } else {
            self.plain.get_or_try_init(|| async { connector(RootCertStore::empty(), host) }).await?
        };
        let uri: Uri =
            url.as_str().parse().map_err(|error| unreachable(host, &format!("{error}")))?;
        let stream = connector.call(uri).await.map_err(|error| not_connected(host, &*error))?;
        let shaking = http1::handshake(stream).await;
        let (sender, connection) =
            shaking.map_err(|error| unreachable(host, &root_cause(&error).to_string()))?;
        let mut driving = JoinSet::new();
        // Its end is seen where the response is read.
        driving.spawn(async move { drop(connection.await) });
        Ok((sender, driving))
    }
}

async fn tls(host: &str) -> Result<TlsConnector, ModelError> {
    let trusted = https::trusted_roots([]).await.map_err(|error| match error {
        TlsError::NobodyTrusted(reason) => {
            let remedy = format!("{reason}: install `ca-certificates`");
            unreachable(host, &remedy)
        }
        TlsError::Setup(reason) => unreachable(host, &reason),
    })?;
    connector(trusted, host)
}

fn connector(trusted: RootCertStore, host: &str) -> Result<TlsConnector, ModelError> {
    let connector = https::connector(trusted);
    let connector = connector.map_err(|error| unreachable(host, &error.to_string()))?;
    Ok(TowerToHyperService::new(connector))
}

fn unreachable(host: &str, cause: &str) -> ModelError {
    ModelError::new(
        ModelErrorClass::Unreachable,
        format!("{host} cannot be reached ({cause}): start it, or correct `model_url`"),
    )
}

fn not_connected(host: &str, error: &(dyn Error + 'static)) -> ModelError {
    let cause = root_cause(error);
    match https::refused_certificate(cause) {
        Some(reason) => ModelError::new(
            ModelErrorClass::Unreachable,
            format!(
                "the certificate of {host} is not trusted ({reason}): correct `model_url`, or add its root certificate \
                 to those of this system"
            ),
        ),
        None => unreachable(host, &cause.to_string()),
    }
}

fn no_first_byte(host: &str, waited: Duration) -> ModelError {
    ModelError::new(
        ModelErrorClass::TimedOut,
        format!(
            "{host} did not begin to answer within {} ms: try again, or raise `model_first_byte_ms_max`",
            waited.as_millis()
        ),
    )
}
