//! Running code: each program in a process tree of its own, with a guardian that ends the whole tree.
//!
//! For every run the factory starts itself once more as a *guardian* ([`guard_main`]). The guardian makes the
//! run's private directory, starts the interpreter, captures what it writes, watches the clock, and in the end
//! kills every descendant, removes the directory and reports. The pipe over which it gets its order stays
//! open as a *life line*: when the factory closes it, or dies in whatever way, the guardian ends the run.
//!
//! *Promises.* What [`ai_factory_actors::ports::sandbox`] promises, also against programs that daemonise, fork
//! without end, write without end, ignore signals, lock their directory, or kill or stop their guardian.
//!
//! *Limits.* The isolation is `process` and no more: a program can read and write whatever the factory's user
//! can, use the network, and harm the user's other processes. What it writes outside its private directory
//! stays. Descriptors that the factory itself was started with, beyond the standard three, reach the program unless
//! whoever opened them said otherwise. Where there is no `/proc` and no subreaper (any system but Linux) only the process group is ended,
//! so a program that leaves its group survives its run.
//!
//! *Not here.* How many programs run at once is the caller's business, and so is the default wall limit.

mod directory;
mod guard;
mod interpreter;
mod output;
pub mod process;
mod processes;
mod wire;

pub use guard::{GUARD_ARGUMENT, guard_main};
pub use interpreter::found as interpreter;
pub use process::{ProcessSandbox, SandboxSettings};
