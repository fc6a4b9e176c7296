//! The bus within this process ([`local`]), and spans for the messages of any bus ([`traced`]).
//!
//! *Promises.* Those of [`ai_factory_ports::bus`]; `tests/suite/contract/bus.rs` tests
//! every implementation against them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod interest;
pub mod local;
pub mod traced;

pub use local::{LocalBus, LocalBusSettings};
pub use traced::TracedBus;
