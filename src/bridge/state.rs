//! The bridge and what its requests share: ports, limits, permits, the caller of a request.

use std::sync::Arc;

use ai_factory_ports::{bus::Bus, clock::IdSource, health::HealthReport, trace::Traces};
use ai_factory_schemas::{id::RequestId, subject::Subjects};
use ai_factory_tail::Tail;
use axum::http::HeaderName;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{access::AccessPolicy, settings::BridgeSettings};

/// The caller's request id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The HTTP ingress. See the crate.
pub struct Bridge {
    /// The bus that serves the operations.
    pub bus: Arc<dyn Bus>,
    /// The subjects of the operations.
    pub subjects: Subjects,
    /// The source of events.
    pub tail: Arc<Tail>,
    /// Source of request ids.
    pub ids: Arc<dyn IdSource>,
    /// Connects requests to the traces of their clients.
    pub traces: Arc<dyn Traces>,
    /// Reports the factory's health; called for each health check.
    pub health_report: Arc<dyn Fn() -> HealthReport + Send + Sync>,
    /// All limits.
    pub settings: BridgeSettings,
}

/// State shared by all requests.
pub struct HttpState {
    pub bridge: Bridge,
    pub access: AccessPolicy,
    /// Permits for concurrent requests.
    pub requests: Semaphore,
    /// Permits for event streams.
    pub streams: Arc<Semaphore>,
    /// Cancelled when the server shuts down.
    pub ended: CancellationToken,
}

impl HttpState {
    /// The state for a bridge that shuts down with `ended`.
    pub fn new(bridge: Bridge, access: AccessPolicy, ended: CancellationToken) -> Self {
        let requests = Semaphore::new(bridge.settings.requests_max);
        let streams = Arc::new(Semaphore::new(bridge.settings.streams_max));
        Self { bridge, access, requests, streams, ended }
    }
}

/// The caller of a request, as its handler sees it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's request id, or a new one.
    pub request_id: RequestId,
    /// The trace that the caller assigns the request to.
    pub traceparent: Option<String>,
}
