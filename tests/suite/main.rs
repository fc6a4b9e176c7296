//! The integration tests, one binary: contracts of the ports, the HTTP bridge, crashes, scenarios,
//! history, tidiness.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs
)]

mod bridge;
mod cases;
mod circles;
mod cli;
mod commands;
mod contract;
mod crash;
mod embedding;
mod factory;
mod history;
mod ingress;
mod invariants;
mod journal;
mod model;
mod nats;
mod packages;
mod projection;
mod sandbox;
mod scenario;
mod support;
mod telemetry;
mod tidy;
