//! Command line arguments: global flags and commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{colour::ColourChoice, commands};

const EXAMPLE: &str = "\
Examples:
  ai-factory run 'Add the numbers from 1 to 100:
  ```python
  print(sum(range(101)))
  ```'
  ai-factory sessions
  ai-factory show ID
  ai-factory tail --follow";

const AFTER: &str = "\
Exit codes:
  0    done
  1    it ran and failed: a session that is partial or error, a file that --out leaves as it is, an
       altered journal
  2    wrong use: flags, settings, a blank goal, an unknown id, no journal where one is needed
  3    the data directory cannot be used: in use by another process, no permission, not a journal
  4    the factory stopped itself: the disk failed while writing, the data directory was taken away, or
       its parts kept failing
  5    a session with a model waits for an answer or a larger budget; nothing is lost
  130  interrupted from the keyboard
  143  terminated (SIGTERM, or SIGHUP when the terminal is gone)

Settings come from flags, then AI_FACTORY_* variables, then .env, then ai-factory.toml, then
defaults. `ai-factory config` shows each value and its source.";

/// A local-first agent runtime: a goal comes in, a session comes out, and every fact in between is
/// on disk
#[derive(Debug, Parser)]
#[command(name = "ai-factory", version, before_help = EXAMPLE, after_help = AFTER)]
#[command(max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The data directory: journal, index, logs [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// The settings file, in place of ./ai-factory.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The log level, here and in logs/app.log: DEBUG, INFO, WARNING or ERROR
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Set one setting, with precedence over all other sources (repeatable)
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print results as JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    #[arg(hide_possible_values = true, help = "When to use colours: auto, always or never")]
    pub(crate) color: ColourChoice,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run as a service over HTTP and NATS until stopped
    Up(commands::up::UpArgs),
    /// Run goals to their end and show each step
    Run(commands::run::RunArgs),
    /// Submit a goal to a running factory
    Submit(commands::submit::SubmitArgs),
    /// Finish every session that a crash or a shutdown interrupted
    Resume,
    /// Decide whether a step with an unknown outcome is repeated or skipped
    Resolve(commands::resolve::ResolveArgs),
    /// Cancel a session
    Cancel(commands::cancel::CancelArgs),
    /// Answer a question that a session with a model waits with
    Answer(commands::answer::AnswerArgs),
    /// Show or change what a session with a model may spend
    Budget(commands::budget::BudgetArgs),
    /// List the model calls of a session
    Calls(commands::calls::CallsArgs),
    /// List sessions, newest first
    Sessions(commands::sessions::SessionsArgs),
    /// Show one session: its plan, events and results
    Show(commands::show::ShowArgs),
    /// List the files of a session, or write them to a directory
    Files(commands::files::FilesArgs),
    /// Decide a recorded session again, and compare
    Replay(commands::replay::ReplayArgs),
    /// Write a session with its model calls to a file
    Export(commands::export::ExportArgs),
    /// Publish goals to the stream of a NATS server, and list those waiting there
    Goals(commands::goals::GoalsArgs),
    /// Manage dead letters: goals that were refused or given up (needs JetStream)
    Dead(commands::dead::DeadArgs),
    /// List plans, newest first
    Logs(commands::logs::LogsArgs),
    /// List or search runs of code, newest first
    Runs(commands::runs::RunsArgs),
    /// Search memories: notes, plans, runs and sessions
    Search(commands::search::SearchArgs),
    /// Record a note that later goals may recall
    Remember(commands::remember::RememberArgs),
    /// Forget a memory: searches no longer find it
    Forget(commands::forget::ForgetArgs),
    /// Print recorded events, and follow new ones
    Tail(commands::tail::TailArgs),
    /// Write the newest events to a file
    Snapshot(commands::snapshot::SnapshotArgs),
    /// Verify that the whole journal is unaltered
    Verify(commands::verify::VerifyArgs),
    /// Print the journal's last position and hash
    Head,
    Rebuild(commands::rebuild::RebuildArgs),
    /// Check that the installation is complete and works
    Doctor(commands::doctor::DoctorArgs),
    /// Show every setting, its value and its source
    Config,
    /// Print a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
    /// Print the page that documents the settings
    #[command(hide = true)]
    SettingsPage,
}

impl CliCommand {
    /// The command's flags that set a setting: flag, key, value.
    pub(crate) fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        match self {
            Self::Up(up) => up.flags(),
            Self::Run(run) => run.flags(),
            _ => Vec::new(),
        }
    }
}
