//! HTTP client for a model's API, with TLS for `https` addresses.
//!
//! *Promises.* Redirects are not followed and the environment's proxies are not used. The key
//! appears in no error. TLS is configured for this client alone: it changes no default of the
//! process.
//!
//! *Limits.* An answer has at most [`ANSWER_BYTES_MAX`] bytes.

use std::{error::Error, fs, path::Path, time::Duration};

use ai_factory_https::{self as https, TlsError};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::sync::OnceCell;

/// Size limit of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

type HttpClient = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The address that texts are posted to.
pub(super) struct Api {
    uri: Uri,
    /// The API key, as a header.
    authorization: Option<HeaderValue>,
    /// Trusted root certificates beside the system's.
    ca: Vec<CertificateDer<'static>>,
    /// Timeout of a call.
    call_max: Duration,
    /// Made at the first call, because that is when the system's root certificates are loaded.
    client: OnceCell<HttpClient>,
}

/// The API's answer.
pub(super) struct ApiResponse {
    pub status: StatusCode,
    /// The requested pause before the next call, if any.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The timeout passed.
    #[error("no answer in time")]
    TimedOut,
    /// The answer exceeds the size limit.
    #[error("the answer exceeds {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// No trusted root certificates: neither the system's nor configured ones.
    #[error("no trusted root certificates: {0}")]
    NobodyTrusted(String),
    /// The server's certificate was refused.
    #[error("its certificate is refused: {0}")]
    Untrusted(String),
    /// The connection failed or broke.
    #[error("{0}")]
    Unreached(String),
}

impl Api {
    /// Makes the client without connecting. An error is a sentence for a person.
    pub(super) fn new(
        uri: &str,
        key: Option<&str>,
        ca: Option<&Path>,
        call_max: Duration,
    ) -> Result<Self, String> {
        let is_address =
            |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        let uri: Uri = uri.parse().ok().filter(is_address).ok_or_else(|| {
            format!("{uri} is no http or https address: correct AI_FACTORY_EMBEDDING_URL")
        })?;
        if ca.is_some() && uri.scheme_str() != Some("https") {
            return Err(format!(
                "AI_FACTORY_EMBEDDING_CA requires TLS, but {uri} does not use it: write https:// in \
                 AI_FACTORY_EMBEDDING_URL, or unset AI_FACTORY_EMBEDDING_CA"
            ));
        }
        let authorization = key.map(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(
                |_| "AI_FACTORY_EMBEDDING_KEY contains characters that a key cannot have",
            )?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let (authorization, ca) =
            (authorization.transpose()?, ca.map(certificates).transpose()?.unwrap_or_default());
        Ok(Self { uri, authorization, ca, call_max, client: OnceCell::new() })
    }

    /// Posts JSON and reads the complete answer.
    pub(super) async fn post(&self, json: Vec<u8>) -> Result<ApiResponse, CallError> {
        tokio::time::timeout(self.call_max, self.call(json))
            .await
            .unwrap_or(Err(CallError::TimedOut))
    }

    async fn call(&self, json: Vec<u8>) -> Result<ApiResponse, CallError> {
        let client = self.client.get_or_try_init(|| self.connector()).await?;
        let mut request = Request::post(&self.uri).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(json)).map_err(|error| connection_error(&error))?;
        let response = client.request(request).await.map_err(|error| connection_error(&error))?;
        let (head, body) = response.into_parts();
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let seconds = seconds.and_then(|value| value.trim().parse().ok());
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                CallError::TooLarge
            } else {
                connection_error(&*error)
            }
        })?;
        Ok(ApiResponse {
            status: head.status,
            retry_after: seconds.map(Duration::from_secs),
            body: body.to_bytes(),
        })
    }

    async fn connector(&self) -> Result<HttpClient, CallError> {
        let trusted = match self.uri.scheme_str() {
            Some("https") => https::trusted_roots(self.ca.iter().cloned()).await?,
            _ => RootCertStore::empty(),
        };
        let mut client = legacy::Client::builder(TokioExecutor::new());
        Ok(client.pool_timer(TokioTimer::new()).build(https::connector(trusted)?))
    }
}

impl From<TlsError> for CallError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::NobodyTrusted(reason) => Self::NobodyTrusted(reason),
            TlsError::Setup(reason) => Self::Unreached(reason),
        }
    }
}

/// The certificates in a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |reason: String| {
        format!("AI_FACTORY_EMBEDDING_CA: {} cannot be used: {reason}", path.display())
    };
    let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if RootCertStore::empty().add_parsable_certificates(found.iter().cloned()).0 == 0 {
        return Err(unusable("it contains no certificates (PEM)".to_owned()));
    }
    Ok(found)
}

/// The root cause of a failed call.
fn connection_error(error: &(dyn Error + 'static)) -> CallError {
    let cause = https::root_cause(error);
    match https::refused_certificate(cause) {
        Some(reason) => CallError::Untrusted(reason),
        None => CallError::Unreached(cause.to_string()),
    }
}
