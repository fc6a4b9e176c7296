//! What the owners of folded files share: files that are folded from the journal and can be dropped
//! and folded again.
//!
//! [`Mark`] says up to which record files are folded, [`Access`] what a process does with them,
//! [`OwnedFiles`] who may use them and whether they can be written. [`atomic_replace`] replaces
//! them, and [`catch_corruption`] keeps a damaged one from ending the program.
//!
//! *Not here.* What is folded: each owner knows its own rows or documents.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod atomic_replace;
mod blocking;
mod corruption;
mod mark;
mod metrics;
mod owned_files;
mod records;

pub use blocking::blocking;
pub use corruption::{CorruptFile, catch_corruption};
pub use mark::{Access, Mark};
pub use metrics::FilesMetrics;
pub use owned_files::{FilesInUse, FilesState, OwnedFiles, storage_reason};
pub use records::{FOLD_EVENTS_MAX, is_of_journal, read_events};
