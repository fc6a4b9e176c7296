//! HTTP client of the trace exporter.
//!
//! *Promises.* Calls the configured collector only: redirects are not followed and the
//! environment's proxies are not used.
//!
//! *Limits.* An answer has at most [`ANSWER_BYTES_MAX`] bytes. A call blocks its thread, which the
//! exporter has for itself.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

/// Size limit of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The client.
#[derive(Debug)]
pub(super) struct CollectorClient {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Drives the client's connections during a call.
    runtime: Runtime,
    /// Timeout of a call.
    call_max: Duration,
}

impl CollectorClient {
    /// A client, without connecting.
    pub(super) fn new(call_max: Duration) -> io::Result<Self> {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { client, runtime, call_max })
    }

    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Full::from)).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

#[async_trait::async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.block_on(async { timeout(self.call_max, self.call(request)).await? })
    }
}
