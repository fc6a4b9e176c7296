//! The jail: an isolated environment for one run, created by this same executable and removed after
//! it.
//!
//! The factory starts itself as *stage one* ([`stage_main`]): one thread that enters new namespaces
//! and starts the executable again as *init* of the jail ([`init_main`]), process 1 of its own
//! process namespace. Init creates a private root, drops all privileges, locks itself down, reports
//! which layers it verified to be in force, starts the interpreter, and waits for its order. All
//! three hold the same socket: when the factory closes its end, or dies for any reason, init ends,
//! and the kernel ends every process of its namespace.
//!
//! *Promises.* A layer that cannot be set up ends the jail, with the layer's name and the system's
//! error; no program runs with less isolation. A jail's report is read back from the kernel where
//! the kernel exposes the state; for Landlock, descriptors, limits and memory dumps it means that
//! their set-up succeeded.
//!
//! *Limits.* Linux only. No defence against kernel bugs or side channels.
//!
//! *Not here.* The factory's side of the socket: `super::jail_handle`.

mod access;
mod collected_files;
mod comparison;
mod confine;
mod credentials;
mod files;
mod halves;
mod init;
mod left_out;
pub(super) mod message;
pub(super) mod namespaces;
mod pattern;
mod program;
mod resources;
pub(super) mod root;
mod sealed_contents;
mod search;
mod stage;
mod syscalls;
mod usage;
mod workspace;

pub use confine::{CONFINE_ARGUMENT, confine_main};
pub use init::{INIT_ARGUMENT, init_main};
pub(super) use left_out::LEFT_OUT_BYTES_MAX;
pub use stage::{STAGE_ARGUMENT, stage_main};
