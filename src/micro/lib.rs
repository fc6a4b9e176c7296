//! NATS services (ADR-32) over any bus: discovery, statistics, and serving of endpoints.
//!
//! *Promises.* A service answers on `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, for all services, by
//! its name and by its id, with the types `io.nats.micro.v1.*`. Every request at an endpoint is
//! counted, with its duration and its refusal. At the end an endpoint accepts no more, and all
//! requests that had reached it are answered.
//!
//! *Not here.* The endpoints' work. The client library's own services reply to a refusal with an
//! empty body, and do not count one that has a body (decision 0010): hence this implementation on
//! the port `Bus`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod discovery;
mod serve;
mod service;
mod wire;

pub use discovery::answer_discovery;
pub use serve::serve;
pub use service::{Endpoint, Metadata, MicroService, metadata};
