//! The actors over real journal, projections and bus, with a sandbox that does what the test says.

mod bodies;
mod calls;
mod endurance;
mod files;
mod hand_overs;
pub(crate) mod harness;
mod operations;
mod plans;
mod runs;
mod scripted_model;
mod turns;
mod turns_resume;
mod workspace;
mod workspace_resume;
