//! The actors over real journal, projections and bus, with a sandbox that does what the test says.

mod bodies;
mod endurance;
pub(crate) mod harness;
mod operations;
mod runs;
