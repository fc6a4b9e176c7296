//! The command line.
//!
//! *Promises.* Results go to standard output, everything else to standard error. Errors are
//! sentences: what was wrong, with which value, what to do. A closed pipe ends a command quietly.
//!
//! *Not here.* The work of the actors: a command sends them requests over the bus, or reads the
//! journal and its views.

mod args;
mod budget_words;
mod colour;
mod commands;
mod context;
mod count;
mod diagnosis_words;
mod ended_session;
mod ending;
mod event_filter;
mod event_words;
mod exit;
mod files;
mod flag_words;
mod follow;
mod http_client;
mod line_words;
mod live_text;
mod model_arguments;
mod narrate;
mod output;
mod pending;
mod progress;
mod remote;
mod session_lookup;
mod silence;
mod story;
mod table;
mod text;
mod turn_words;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _};

use self::{
    args::{Cli, CliCommand, Global},
    context::CommandContext,
    exit::{CommandError, Exit},
    output::Output,
};
use crate::{
    config::{self, LogLevel, PassedOver, SettingsSources},
    wiring,
};

/// The `ai-factory` program: runs the command in the arguments and returns its exit code.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Vec<(OsString, OsString)>,
) -> ExitCode {
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| {
        let name = matches.subcommand_name().unwrap_or_default().to_owned();
        let cli = Cli::from_arg_matches(&matches);
        Ok((name, cli.map_err(|error| error.format(&mut Cli::command()))?))
    });
    let (name, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(said) => {
            // Help and version arrive here, too. A closed pipe is not an error.
            let _ = said.print();
            return if said.use_stderr() { Exit::USAGE.into() } else { Exit::DONE.into() };
        }
    };
    let global = &cli.global;
    let mut output = Output::new(global.json, global.quiet, global.color, &environment);
    let ended = match cli.command {
        // These two must work with any settings.
        CliCommand::Completions(command) => command.run(&mut output),
        CliCommand::SettingsPage => settings_page(&mut output),
        command => match context(global, name, command.flags(), environment) {
            Ok(context) => {
                note_passed_over(&context, &output);
                dispatch(command, &context, &mut output)
            }
            Err(failure) => Err(failure),
        },
    };
    let ended = ended.and_then(|exit| output.flush().map(|()| exit).map_err(CommandError::from));
    match ended {
        Ok(exit) => exit.into(),
        Err(CommandError::ClosedPipe) => Exit::DONE.into(),
        Err(CommandError::Said { sentence, exit }) => {
            // Results written before a failure remain results.
            let _ = output.flush();
            output.error(&sentence);
            exit.into()
        }
    }
}

/// Warns of a file that may hold settings and could not be read.
fn note_passed_over(context: &CommandContext, output: &Output) {
    if let Some(PassedOver { path, reason, may_hold_settings: true }) = &context.loaded.passed_over
    {
        output.note(&format!("warning: settings in {} are not used: {reason}", path.display()));
    }
}

fn settings_page(output: &mut Output) -> Result<Exit, CommandError> {
    output.text(&config::reference_page())?;
    Ok(Exit::DONE)
}

fn context(
    global: &Global,
    command: String,
    flags: Vec<(&'static str, &'static str, String)>,
    environment: Vec<(OsString, OsString)>,
) -> Result<CommandContext, CommandError> {
    let inputs = SettingsSources {
        flags,
        data_dir: global.data_dir.clone(),
        log_level: global.log_level.clone(),
        set: global.set.clone(),
        environment: environment.clone(),
        directory: PathBuf::from("."),
        file: global.config.clone(),
    };
    let loaded = config::load(&inputs)?;
    let umask = wiring::confine_new_files(loaded.settings.data_mode);
    // The console stays quiet unless this command line asks for more.
    let console = match (&global.log_level, global.quiet) {
        (Some(_), _) => loaded.settings.log_level,
        (None, true) => LogLevel::Error,
        (None, false) => LogLevel::Warning,
    };
    Ok(CommandContext { loaded, console, environment, command, umask })
}

fn dispatch(
    command: CliCommand,
    context: &CommandContext,
    output: &mut Output,
) -> Result<Exit, CommandError> {
    match command {
        CliCommand::Up(command) => command.run(context, output),
        CliCommand::Run(command) => command.run(context, output),
        CliCommand::Submit(command) => command.run(context, output),
        CliCommand::Resume => commands::resume::run(context, output),
        CliCommand::Resolve(command) => command.run(context, output),
        CliCommand::Cancel(command) => command.run(context, output),
        CliCommand::Answer(command) => command.run(context, output),
        CliCommand::Budget(command) => command.run(context, output),
        CliCommand::Calls(command) => command.run(context, output),
        CliCommand::Sessions(command) => command.run(context, output),
        CliCommand::Show(command) => command.run(context, output),
        CliCommand::Files(command) => command.run(context, output),
        CliCommand::Replay(command) => command.run(context, output),
        CliCommand::Export(command) => command.run(context, output),
        CliCommand::Goals(command) => command.run(context, output),
        CliCommand::Dead(command) => command.run(context, output),
        CliCommand::Logs(command) => command.run(context, output),
        CliCommand::Runs(command) => command.run(context, output),
        CliCommand::Search(command) => command.run(context, output),
        CliCommand::Remember(command) => command.run(context, output),
        CliCommand::Forget(command) => command.run(context, output),
        CliCommand::Tail(command) => command.run(context, output),
        CliCommand::Snapshot(command) => command.run(context, output),
        CliCommand::Verify(command) => command.run(context, output),
        CliCommand::Head => commands::head::run(context, output),
        CliCommand::Rebuild(command) => command.run(context, output),
        CliCommand::Doctor(command) => command.run(context, output),
        CliCommand::Config => commands::config::run(context, output),
        CliCommand::Completions(_) | CliCommand::SettingsPage => Ok(Exit::DONE),
    }
}
