//! Ports: the traits that the domain needs. Adapters implement them; only the wiring sees both.

pub mod bus;
pub mod clock;
pub mod embedder;
pub mod journal;
pub mod queue;
pub mod sandbox;
pub mod trace;
pub mod views;
