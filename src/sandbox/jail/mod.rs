//! The jail: a private world for one run, made by this same program and left by nobody.
//!
//! The factory starts itself as *stage one* ([`stage_main`]): one thread that enters new namespaces and starts itself
//! once more as the *init* of the jail ([`init_main`]), process 1 of its own process namespace. Init makes a root of its
//! own, gives up every right, locks itself down, says what it verified to be in force, starts the interpreter, and
//! waits for its order. All three hold the same socket: when the factory closes its end, or dies in whatever way, init
//! ends, and the kernel ends every process of its namespace.
//!
//! *Promises.* A layer that cannot be set up ends the jail with the layer's name and the system's error; no program is
//! ever run with less. What a jail says of itself it has read from the kernel,
//! where the kernel tells: of Landlock, descriptors, limits and memory dumps it says that their set-up succeeded.
//!
//! *Limits.* Linux only. No defence against faults of the kernel itself, nor against side channels.
//!
//! *Not here.* The factory's side of the socket: `super::member`.

mod access;
mod confine;
mod credentials;
mod files;
mod init;
pub(super) mod message;
pub(super) mod namespaces;
mod pattern;
mod program;
mod resources;
mod returned;
pub(super) mod root;
mod search;
mod stage;
mod syscalls;
mod usage;

pub use confine::{CONFINE_ARGUMENT, confine_main};
pub use init::{INIT_ARGUMENT, init_main};
pub use stage::{STAGE_ARGUMENT, stage_main};
