//! `completions`: a shell script that completes commands and flags.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::cli::{
    args::Cli,
    exit::{CommandError, Exit},
    output::Output,
};

/// Print a completion script for a shell.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  ai-factory completions bash > ~/.local/share/bash-completion/completions/ai-factory"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script.
    pub(crate) fn run(&self, output: &mut Output) -> Result<Exit, CommandError> {
        // Into memory first: the generator panics on a closed pipe.
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "ai-factory", &mut script);
        output.line_of_bytes(script.trim_ascii_end())?;
        Ok(Exit::DONE)
    }
}
