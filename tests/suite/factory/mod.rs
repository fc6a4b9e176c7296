//! The actors over real journal, projections and bus, with a sandbox that does what the test says.

mod endurance;
mod harness;
mod operations;
