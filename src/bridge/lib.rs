//! The HTTP ingress: carries requests to the actors over the bus, and their answers back.
//!
//! *Promises.* A route of the table (`ai_factory_schemas::route`) is an operation on the bus and
//! nothing else: bodies and answers pass unchanged, but for the contents of files, which are raw
//! bytes over HTTP and base64 in parts on the bus. Every answer to a request that could be parsed,
//! whatever the outcome, has the headers `X-Request-ID` and `X-Duration`; a problem has the body
//! `{"detail": …}`. What cannot be parsed is refused by the HTTP library, with a status alone. No
//! answer contains a file system path, except that of a snapshot. Pages of other sites cannot use
//! the server, and it does not listen beyond loopback without a token ([`check_listen_address`]).
//! Events are served from the journal: a client that reconnects with the last position it saw
//! receives each later event exactly once.
//!
//! *Limits.* All in [`BridgeSettings`]. Beyond a limit on concurrency a request is refused with
//! `Retry-After`; a client that sends or reads too slowly is disconnected.
//!
//! *Not here.* The operations, and the validation of bodies: the actors do both, alike for every
//! ingress. Encryption: leave it to a proxy.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod access;
mod answer;
mod body;
mod connection_limiter;
mod docs;
mod events;
mod file;
mod forward;
mod live;
mod pages;
mod peer;
mod query;
mod router;
mod serve;
mod settings;
mod socket;
mod state;
mod trace;

pub use access::{ListenRefused, check_listen_address};
pub use connection_limiter::SPARE_CONNECTIONS;
pub use settings::{
    ANSWER_MAX, AccessToken, BODY_BYTES_MAX, BODY_READ_MAX, BridgeSettings, CONNECTIONS_MAX,
    DISCARDED_BYTES_MAX, HEAD_BYTES_MAX, HEAD_READ_MAX, HEADERS_MAX, HEARTBEAT, ParseTokenError,
    REQUESTS_MAX, RUN_ANSWER_MAX, SESSION_ANSWER_MAX, STREAMS_MAX, URI_BYTES_MAX, WRITE_STALL_MAX,
};
pub use state::Bridge;
