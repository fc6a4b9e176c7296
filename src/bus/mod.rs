//! The bus, implemented: [`local`] carries messages within this process and needs no server, [`nats`] carries them
//! over a NATS server; [`traced`] puts the messages of any bus into traces.
//!
//! *Promises.* What [`ai_factory_actors::ports::bus`] promises; `tests/suite/contract/bus.rs` holds every
//! implementation to it.

mod interest;
pub mod local;
pub mod nats;
pub mod traced;

use ai_factory_actors::ports::bus::Headers;

pub use local::{LocalBus, LocalBusSettings};
pub use traced::TracedBus;

/// What headers take on the wire of NATS (ADR-4), so that both buses refuse the same messages.
fn header_bytes(headers: &Headers) -> usize {
    const VERSION_LINE_AND_END: usize = "NATS/1.0\r\n\r\n".len();
    if headers.is_empty() {
        return 0;
    }
    let lines = headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    VERSION_LINE_AND_END + lines.sum::<usize>()
}
