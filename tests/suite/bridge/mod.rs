//! The HTTP bridge: a real socket in front of real actors, whose sandbox does what the test says.

mod contract;
mod events;
mod files;
mod found;
mod fuzz;
mod half_closed;
mod harness;
mod headers;
mod limits;
mod models;
mod shutdown;
