//! Implementations of the bus: [`local`] carries messages within this process and needs no server,
//! [`nats`] carries them over a NATS server; [`traced`] adds spans to the messages of any bus.
//!
//! *Promises.* Those of [`ai_factory_actors::ports::bus`]; `tests/suite/contract/bus.rs` tests
//! every implementation against them.

mod interest;
pub mod local;
pub mod nats;
pub mod traced;

pub use local::{LocalBus, LocalBusSettings};
pub use traced::TracedBus;
