//! Adapters and ingresses of the AI factory: journal, bus, projections, sandbox, embedding models;
//! HTTP bridge, NATS services, agent protocol, command line.
//!
//! *Promises.* Adapters never import each other; only [`wiring`] imports all of them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod agent_protocol;
pub mod bridge;
pub mod bus;
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
pub mod config;
pub mod connections;
pub mod embedding;
pub mod http_server;
pub mod journal;
pub mod micro;
mod overlay;
pub mod projection;
pub mod relay;
mod retry;
pub mod sandbox;
pub mod services;
pub mod telemetry;
pub mod wiring;
