//! The bus, implemented: [`local`] carries messages within this process and needs no server.
//!
//! *Promises.* What [`ai_factory_actors::ports::bus`] promises; `tests/suite/contract/bus.rs` holds every
//! implementation to it.

mod interest;
pub mod local;

pub use local::{LocalBus, LocalBusSettings};
