//! Workspaces of sessions: the files that come in, the files now, what is protected, and the
//! operations on them.
//!
//! *Promises.* A workspace is a function of the session's stream and of blobs: no state is kept
//! beside the journal, only copies of what it says. A content that the journal has is not stored
//! again.

pub(crate) mod contents;
pub(crate) mod intake;
pub(crate) mod operations;
pub mod patterns;
pub(crate) mod protect;
pub mod tree;
pub(crate) mod trees;
