//! Ports: the traits that the domain needs. Adapters implement them; only the wiring sees both.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

pub mod body;
pub mod bus;
pub mod clock;
mod convert;
pub mod embedder;
pub mod health;
pub mod ingress;
pub mod journal;
pub mod message;
pub mod metrics;
pub mod model;
pub mod queue;
pub mod request_reply;
pub mod retry_after;
pub mod sandbox;
pub mod trace;
pub mod uploads;
pub mod views;
