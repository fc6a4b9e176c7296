//! The `ai-factory` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Returns freed memory to the system; the C library's allocator keeps it (decision 0014).
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Starts the allocator's background thread, which returns memory while nothing is allocated. Not
/// in sandbox processes: they must be single-threaded to change their namespaces.
fn give_memory_back_when_idle() {
    // Without the thread, memory is returned a little later: not worth an error.
    #[cfg(target_os = "linux")]
    let _ = tikv_jemalloc_ctl::background_thread::write(true);
}

fn main() -> ExitCode {
    // First, because every run starts a guardian, which must start fast.
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
    if first.is_some_and(|argument| argument == ai_factory::nats::KEEP_ARGUMENT) {
        return ai_factory::nats::keeper_main(std::env::args_os().skip(2));
    }
    give_memory_back_when_idle();
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let environment = std::env::vars_os().collect();
    ai_factory::cli::main(std::env::args_os(), environment)
}
