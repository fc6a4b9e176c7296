//! The `ai-factory` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Gives what was freed back to the system, where the C library's allocator keeps what a load once needed (decision 0014).
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Lets the allocator give back also while nothing is allocated, with a thread of its own. Not in the sandbox's processes: they
/// must have one thread to change their namespaces.
fn give_memory_back_when_idle() {
    // Without the thread, memory goes back a little later: nothing that a user must hear of.
    #[cfg(target_os = "linux")]
    let _ = tikv_jemalloc_ctl::background_thread::write(true);
}

fn main() -> ExitCode {
    // First of all: a guardian starts with every run, and must be quick about it.
    let first = std::env::args_os().nth(1);
    if first.as_deref().is_some_and(|argument| argument == ai_factory::sandbox::GUARD_ARGUMENT) {
        return ai_factory::sandbox::guard_main();
    }
    #[cfg(target_os = "linux")]
    {
        use ai_factory::sandbox::{
            CONFINE_ARGUMENT, INIT_ARGUMENT, STAGE_ARGUMENT, confine_main, init_main, stage_main,
        };
        match first.as_deref().and_then(std::ffi::OsStr::to_str) {
            Some(STAGE_ARGUMENT) => return stage_main(),
            Some(INIT_ARGUMENT) => return init_main(),
            Some(CONFINE_ARGUMENT) => return confine_main(),
            _ => {}
        }
    }
    if first.is_some_and(|argument| argument == ai_factory::bus::nats::KEEP_ARGUMENT) {
        return ai_factory::bus::nats::keep_main(std::env::args_os().skip(2));
    }
    give_memory_back_when_idle();
    ai_factory::cli::main(std::env::args_os(), std::env::vars_os().collect())
}
