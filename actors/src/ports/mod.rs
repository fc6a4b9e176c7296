//! What the domain needs of the world, as traits. Adapters implement them; only the wiring sees both.

pub mod bus;
pub mod embedder;
pub mod journal;
pub mod queue;
pub mod sandbox;
pub mod trace;
pub mod views;
pub mod world;
