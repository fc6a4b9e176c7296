//! The program dies, or the disk, or somebody else is there: through the real program, told from outside.

pub mod account;
mod kills;
mod poison;
mod refusals;
mod unknown;
