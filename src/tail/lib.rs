//! The journal's tail, read and decoded once for all who follow it.
//!
//! *Promises.* A cursor gets every record after its position once, in order, without gaps, whatever
//! the other cursors do. Cursors that follow closely share the records: each record is read from
//! the journal once (again only by those who ask at the same moment) and decoded once, by the first
//! who looks into it. A cursor that lags behind the shared records reads from the journal itself.
//! No cursor waits for another, and a dropped future loses no record.
//!
//! *Limits.* The shared records are the last ones: at most [`TailLimits::records_max`] of them, and
//! [`TailLimits::bytes_max`] bytes. Decoded, a record takes about as much memory again. What a
//! cursor was given, it holds itself: at most the limit of its read.
//!
//! *Not here.* Where a follower continues after a restart: its checkpoint.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cursor;
mod recent;
mod record;
mod shared;

pub use self::{cursor::TailCursor, recent::TailLimits, record::TailRecord, shared::Tail};

#[cfg(test)]
mod tests;
