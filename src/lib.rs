//! The AI factory: its packages under one name, and what joins them (settings, wiring, telemetry,
//! command line).
//!
//! *Promises.* Each package of `src` is one adapter or one ingress. It knows the ports, and no
//! other adapter: Cargo refuses the rest. Only [`wiring`] sees all of them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod http_server;
pub mod services;
pub mod telemetry;
pub mod wiring;

pub use ai_factory_agent_protocol as agent_protocol;
pub use ai_factory_bridge as bridge;
pub use ai_factory_bus as bus;
pub use ai_factory_client as client;
pub use ai_factory_embedding as embedding;
pub use ai_factory_journal as journal;
pub use ai_factory_micro as micro;
pub use ai_factory_model as model;
pub use ai_factory_nats as nats;
pub use ai_factory_projection as projection;
pub use ai_factory_relay as relay;
pub use ai_factory_sandbox as sandbox;
pub use ai_factory_search as search;
pub use ai_factory_spool as spool;
