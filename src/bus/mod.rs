//! The bus, implemented: [`local`] carries messages within this process and needs no server; [`traced`] puts
//! the messages of any bus into traces.
//!
//! *Promises.* What [`ai_factory_actors::ports::bus`] promises; `tests/suite/contract/bus.rs` holds every
//! implementation to it.

mod interest;
pub mod local;
pub mod traced;

pub use local::{LocalBus, LocalBusSettings};
pub use traced::TracedBus;
