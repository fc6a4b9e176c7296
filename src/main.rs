//! The `ai-factory` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: a guardian starts with every run, and must be quick about it.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == ai_factory::sandbox::GUARD_ARGUMENT)
    {
        return ai_factory::sandbox::guard_main();
    }
    ai_factory::cli::main(std::env::args_os(), std::env::vars_os().collect())
}
