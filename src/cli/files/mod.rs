//! Files of sessions: collected for a workspace, handed to a factory, and written out again.

pub(crate) mod arguments;
pub(crate) mod changes;
mod collect;
pub(crate) mod data_directory;
pub(crate) mod fetch;
mod ignored;
pub(crate) mod out_directory;
pub(crate) mod recorded;
mod secrets;
pub(crate) mod transfer;
pub(crate) mod write_out;
