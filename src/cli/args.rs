//! What can be typed: global flags and commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{commands, output::ColourChoice};

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
  1    it ran and failed: a session that is partial or error, a journal that was altered
  2    used wrongly: flags, settings, a blank goal, an id that nothing has, no journal where one is needed
  3    the data directory cannot be used: in use by another process, no permission, not a journal
  4    the factory stopped itself: the disk failed while writing, the data directory was taken away, or
       its parts kept failing
  130  interrupted from the keyboard
  143  told to end (SIGTERM, or SIGHUP of a terminal that is gone)

Settings come from flags, then AI_FACTORY_* variables, then .env, then ai-factory.toml, then
defaults. What is set, and from where, is shown by `ai-factory config`.";

/// A local-first agent runtime: a goal comes in, a session comes out, and every fact in between is on disk
#[derive(Debug, Parser)]
#[command(name = "ai-factory", version, before_help = EXAMPLE, after_help = AFTER)]
#[command(max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where everything is kept [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// The settings file, in place of ./ai-factory.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How much is logged, here and in logs/app.log: DEBUG, INFO, WARNING or ERROR
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Give one setting a value, over all other sources (repeatable)
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Results as JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    #[arg(hide_possible_values = true, help = "When to use colours: auto, always or never")]
    pub(crate) color: ColourChoice,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the factory to others, over HTTP and NATS, until told to end
    Up(commands::up::Up),
    /// Run goals to their end, showing each step as it happens
    Run(commands::run::Run),
    /// Hand a goal to a running factory
    Submit(commands::submit::Submit),
    /// Finish every session that a crash or a shutdown left unfinished
    Resume,
    /// Decide what to do with a step whose end is unknown
    Resolve(commands::resolve::Resolve),
    /// End a session
    Cancel(commands::cancel::Cancel),
    /// List sessions, newest first
    Sessions(commands::sessions::Sessions),
    /// Tell one session's story
    Show(commands::show::Show),
    /// Put goals into the stream of a NATS server, and list those that wait there
    Goals(commands::queue::Goals),
    /// See to goals that were refused or given up, where the NATS server has JetStream
    Dead(commands::dead::Dead),
    /// List what was planned, newest first
    Logs(commands::logs::Logs),
    /// List or search runs of code, newest first
    Runs(commands::runs::Runs),
    /// Search everything that was remembered
    Search(commands::search::Search),
    /// Keep a note that later goals may recall
    Remember(commands::remember::Remember),
    /// Forget a memory: no search finds it any more
    Forget(commands::forget::Forget),
    /// Print recorded events, and follow them
    Tail(commands::tail::Tail),
    /// Write the newest events to a file
    Snapshot(commands::snapshot::Snapshot),
    /// Check that the whole journal is as it was written
    Verify(commands::verify::Verify),
    /// Print the journal's last position and hash
    Head,
    Rebuild(commands::rebuild::Rebuild),
    /// Check that all that is needed is there and works
    Doctor,
    /// Show every setting, its value and where it comes from
    Config,
    /// Print a completion script for a shell
    Completions(commands::completions::Completions),
    /// Print the page that documents the settings
    #[command(hide = true)]
    SettingsPage,
}

impl Command {
    /// Flags of the command that stand for a setting: the flag, the key, the value.
    pub(crate) fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        match self {
            Self::Up(up) => up.flags(),
            _ => Vec::new(),
        }
    }
}
