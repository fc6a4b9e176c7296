//! The HTTP bridge: a real socket in front of real actors, whose sandbox does what the test says.

mod chaos;
mod contract;
mod events;
mod found;
mod half_closed;
mod harness;
mod limits;
mod manners;
mod shutdown;
