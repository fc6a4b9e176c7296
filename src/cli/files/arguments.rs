//! The flags that give a session a workspace: files and a check.

use std::{collections::BTreeMap, path::PathBuf};

use ai_factory_schemas::{
    check::{CHECK_LANGUAGE, Check},
    limit::{CHECK_BYTES_MAX, PROTECT_PATTERNS_MAX},
    plan::TaskType,
    request::Goal,
    text::BlobHash,
    workspace::WorkspaceLimits,
};
use clap::Args;

use super::{
    collect::{InputFiles, collect},
    data_directory::DataDirectory,
    transfer,
};
use crate::{
    cli::{exit::CommandError, output::Output, text::first},
    config::Settings,
};

/// What stays out and is named.
const LEFT_OUT_SHOWN_MAX: usize = 20;

/// Files and a check for a session.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Files and a check")]
pub(crate) struct WorkspaceArgs {
    /// Give the session a file, or what is in a folder, to work on (repeatable)
    #[arg(long = "with", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Let files in that hold secrets
    #[arg(long, requires = "paths")]
    with_secrets: bool,
    /// A line of bash that decides whether the goal is done: exit code 0
    #[arg(long, value_name = "CODE")]
    check: Option<String>,
    /// Restore files that match a pattern before the check after the steps, such as `tests/**`
    /// (repeatable)
    #[arg(long, value_name = "GLOB", requires = "check")]
    protect: Vec<String>,
}

/// The workspace of the sessions that a command opens.
#[derive(Debug, Default)]
pub(crate) struct GoalWorkspace {
    /// The files.
    pub(crate) files: InputFiles,
    /// Whether the sessions have one, also if no file goes in.
    pub(crate) is_wanted: bool,
    check: Option<Check>,
    protect: Vec<String>,
}

impl WorkspaceArgs {
    /// Reads the files and says what stayed out.
    ///
    /// # Errors
    /// Wrong use: a file that cannot go in, a limit.
    pub(crate) fn collect(
        self,
        settings: &Settings,
        output: &Output,
    ) -> Result<GoalWorkspace, CommandError> {
        let check = self.check.map(check).transpose()?;
        let patterns = self.protect.len();
        if patterns > PROTECT_PATTERNS_MAX {
            return Err(CommandError::usage(format_args!(
                "--protect is given {patterns} times: at most {PROTECT_PATTERNS_MAX}"
            )));
        }
        let limits = WorkspaceLimits {
            files_max: settings.workspace_files_max,
            file_bytes_max: settings.workspace_file_bytes_max,
            bytes_max: settings.workspace_bytes_max,
        };
        let files = collect(
            &self.paths,
            &limits,
            self.with_secrets,
            &DataDirectory::new(&settings.data_dir),
        )?;
        let rest = |more| format!("{more} more stay out for such reasons");
        for note in first(files.left_out.clone(), LEFT_OUT_SHOWN_MAX, rest) {
            output.note(&note);
        }
        if !self.paths.is_empty() {
            output.note(&match files.files.len() {
                1 => format!("1 file, {} bytes, goes in", files.bytes()),
                n => format!("{n} files, {} bytes, go in", files.bytes()),
            });
        }
        let is_wanted = !self.paths.is_empty() || check.is_some();
        Ok(GoalWorkspace { files, is_wanted, check, protect: self.protect })
    }
}

fn check(code: String) -> Result<Check, CommandError> {
    if code.trim().is_empty() {
        return Err(CommandError::usage("the check is blank: `--check 'pytest -q'`"));
    }
    if code.len() > CHECK_BYTES_MAX {
        return Err(CommandError::usage(format_args!(
            "the check has {} bytes: at most {CHECK_BYTES_MAX}; put it into a script among the files",
            code.len()
        )));
    }
    Ok(Check { language: CHECK_LANGUAGE.to_owned(), code })
}

impl GoalWorkspace {
    /// A goal for a session with this workspace.
    pub(crate) fn goal(&self, goal: String, task_type: TaskType) -> Goal {
        Goal {
            goal,
            task_type,
            files: transfer::goal_files(&self.files),
            workspace: self.is_wanted,
            check: self.check.clone(),
            protect: self.protect.clone(),
            ask: false,
            budget: None,
            model: None,
            turns_max: None,
        }
    }

    /// The hashes of what goes in, by path.
    pub(crate) fn hashes(&self) -> BTreeMap<String, BlobHash> {
        self.files.files.iter().map(|(path, file)| (path.clone(), file.hash)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn a_check_is_bash_and_never_blank_or_too_long() {
        assert_eq!(check("true".into()).unwrap().language, "bash");
        for wrong in [" \n".to_owned(), "x".repeat(CHECK_BYTES_MAX + 1)] {
            let refused = check(wrong);
            assert!(matches!(refused, Err(CommandError::Said { exit: Exit::USAGE, .. })));
        }
    }
}
