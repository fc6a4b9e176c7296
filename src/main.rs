//! The `ai-factory` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: a guardian starts with every run, and must be quick about it.
    let first = std::env::args_os().nth(1);
    if first.as_deref().is_some_and(|argument| argument == ai_factory::sandbox::GUARD_ARGUMENT) {
        return ai_factory::sandbox::guard_main();
    }
    if first.is_some_and(|argument| argument == ai_factory::bus::nats::KEEP_ARGUMENT) {
        return ai_factory::bus::nats::keep_main(std::env::args_os().skip(2));
    }
    ai_factory::cli::main(std::env::args_os(), std::env::vars_os().collect())
}
