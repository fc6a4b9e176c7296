//! Running code, at the level of isolation that the settings name.
//!
//! [`JailSandbox`] gives each run a private world (`full`), or on the machine's own file tree what can be had without
//! namespaces (`reduced`); [`ProcessSandbox`] (`process`) a process tree and no more.
//! Both start the factory's own program once more, as a jail or as a guardian, with a life line: when the factory closes
//! it, or dies in whatever way, the run ends. [`Chosen`] is the one that the settings ask for, and never anything less.
//!
//! *Promises.* What [`ai_factory_actors::ports::sandbox`] promises, also against programs that daemonise, fork
//! without end, write without end, ignore signals, lock their directory, or kill or stop their guardian.
//!
//! *Limits.* `docs/sandbox.md` says what each level is not. At level `process` a program can do whatever the factory's user
//! can, and descriptors that the factory itself was started with may reach it. Where there is no `/proc` and no subreaper
//! (any system but Linux) only the process group is ended, so a program that leaves its group survives its run.
//!
//! *Not here.* How many programs run at once is the caller's business, and so is the default wall limit.

mod answer;
#[cfg(target_os = "linux")]
mod cgroup;
mod choice;
mod directory;
mod guard;
mod interpreter;
#[cfg(target_os = "linux")]
pub mod jail;
#[cfg(target_os = "linux")]
pub mod jailed;
mod language;
pub mod layer;
pub mod limits;
#[cfg(target_os = "linux")]
mod member;
mod output;
mod poll;
#[cfg(target_os = "linux")]
mod pool;
pub mod process;
mod processes;
mod report;
pub mod settings;
mod wire;

pub use choice::Chosen;
pub use guard::{GUARD_ARGUMENT, guard_main};
#[cfg(target_os = "linux")]
pub use jail::{
    CONFINE_ARGUMENT, INIT_ARGUMENT, STAGE_ARGUMENT, confine_main, init_main, stage_main,
};
#[cfg(target_os = "linux")]
pub use jailed::JailSandbox;
pub use limits::RunLimits;
pub use process::ProcessSandbox;
pub use report::{LayerState, layers};
pub use settings::SandboxSettings;
