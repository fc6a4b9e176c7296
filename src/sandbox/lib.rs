//! Runs code at the configured level of isolation.
//!
//! [`JailSandbox`] runs each program in a private environment (`full`), or on the machine's own
//! file tree with the layers that need no namespaces (`reduced`); [`ProcessSandbox`] (`process`)
//! only controls a process tree. Both start the factory's own executable again, as a jail or as a
//! guardian, with a lifeline: when the factory closes it, or dies for any reason, the run ends.
//! [`SelectedSandbox`] is the sandbox of the configured level, never a weaker one.
//!
//! *Promises.* Those of [`ai_factory_ports::sandbox`], also against programs that
//! daemonise, fork or write without end, ignore signals, lock their directory, or kill or stop
//! their guardian.
//!
//! *Limits.* `docs/sandbox.md` lists what each level does not isolate. At level `process` a program
//! can do whatever the factory's user can, and may inherit descriptors that the factory itself was
//! started with. Without `/proc` and a subreaper (any system but Linux) only the process group is
//! ended, so a program that leaves its group survives its run.
//!
//! *Not here.* The number of concurrent programs and the default wall limit: both belong to the
//! caller.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod answer;
#[cfg(target_os = "linux")]
mod cgroup;
mod choice;
mod dependencies;
#[cfg(target_os = "linux")]
mod descriptor;
mod directory;
mod frames;
mod guardian;
mod interpreter;
#[cfg(target_os = "linux")]
pub mod jail;
#[cfg(target_os = "linux")]
mod jail_factory;
#[cfg(target_os = "linux")]
mod jail_handle;
#[cfg(target_os = "linux")]
mod jail_layers;
#[cfg(target_os = "linux")]
pub mod jail_sandbox;
mod language;
pub mod layer;
pub mod limits;
mod metrics;
mod output;
pub mod packages;
mod poll;
#[cfg(target_os = "linux")]
mod pool;
pub mod process;
mod processes;
mod report;
#[cfg(target_os = "linux")]
mod sealed_tree;
pub mod settings;
#[cfg(target_os = "linux")]
mod workspace;

pub use choice::SelectedSandbox;
pub use guardian::{GUARD_ARGUMENT, guard_main};
#[cfg(target_os = "linux")]
pub use jail::{
    CONFINE_ARGUMENT, INIT_ARGUMENT, STAGE_ARGUMENT, confine_main, init_main, stage_main,
};
#[cfg(target_os = "linux")]
pub use jail_sandbox::JailSandbox;
pub use limits::RunLimits;
pub use process::ProcessSandbox;
pub use report::{LayerState, layers};
pub use settings::SandboxSettings;
