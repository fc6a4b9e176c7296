//! What every implementation of a port must pass.

pub mod bus;
pub mod journal;
pub mod uploads;
