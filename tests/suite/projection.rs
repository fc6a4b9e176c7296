//! The projections: rows, search, files and snapshots over a journal in memory.

mod files;
mod forget;
mod heal;
mod kit;
mod meaning;
mod mend;
mod remake;
mod rest;
mod rows;
mod search;
mod slow;
