//! The `ai-factory` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ai_factory::cli::main(std::env::args_os(), std::env::vars_os().collect())
}
