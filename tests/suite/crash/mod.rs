//! The program dies, or the disk, or somebody else is there: through the real program, told from
//! outside.

pub mod account;
mod kills;
mod modes;
mod poison;
mod reading;
mod refusals;
mod taken;
mod unknown;
mod workspaces;
