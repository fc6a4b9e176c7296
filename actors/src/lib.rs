//! The domain: pure deciders, the ractor actors that run them under supervision, and the ports they
//! need.
//!
//! *Promises.* Deciders are pure: no clock, no randomness, no await (I-9). Actors reach each other
//! only through the [`Bus`](ai_factory_ports::bus::Bus).
//!
//! *Not here.* No redb, no NATS, no HTTP, no files, no processes: those are adapters.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

pub mod admission;
pub mod agent;
mod answer_cache;
mod append;
mod blobs;
pub mod debugger;
pub mod decider;
pub mod deps;
mod effect;
pub mod goal;
pub mod intake;
pub mod limits;
pub mod mask;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod planner;
pub mod request;
pub mod service;
pub mod session;
pub mod session_registry;
mod spans;
pub mod supervision;
pub mod supervisor;
pub mod tasks;
pub mod tree;
pub mod waiting;
pub mod workspace;
