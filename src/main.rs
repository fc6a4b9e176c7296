//! The `ai-factory` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == ai_factory::sandbox::GUARD_ARGUMENT)
    {
        return ai_factory::sandbox::guard_main();
    }
    ExitCode::SUCCESS
}
