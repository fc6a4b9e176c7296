//! The actor of the model: one attempt of a call at a time for each call, a limited number of calls
//! at once, each recorded before its request leaves and before its answer is used.
//!
//! *Promises.* An attempt is sent at most once: asked again it is joined, or answered as recorded;
//! if a crash lost it, that is recorded, and nothing is sent. The day's budget is never exceeded by
//! a reservation.
//!
//! *Not here.* Retries and the budget of a session: its decider's.

mod charge;
mod content;
mod day;
pub mod decider;
mod execute;
mod live;
mod perform;
#[cfg(test)]
mod samples;
pub mod service;
