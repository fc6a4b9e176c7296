//! `run`: runs goals to their end.

use std::path::PathBuf;

use ai_factory_schemas::{id::CommandId, plan::TaskType};
use clap::Args;

use super::{goal_batch::GoalBatch, goal_input};
use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        files::{arguments::WorkspaceArgs, transfer, write_out},
        model_arguments::ModelArgs,
        output::Output,
        pending,
    },
    wiring::UnfinishedSessions,
};

/// Run goals to their end and show each step.
#[derive(Args, Debug)]
#[command(after_help = "\
A goal carries its code in fenced blocks. Several goals run at once, as one session each.

--with gives sessions files to work on: the contents of a folder at the root of the workspace, a \
file under its base name. What .gitignore and .ignore name in a folder stays out. --check says \
whether the goal is done.

  ai-factory run --with . --check 'pytest -q' --out . 'Run it:
  ```bash
  ./fix.sh
  ```'

With a model (--model, or the setting `model`) a goal needs no code: the model reads and writes the
files and runs code until the check passes. It may ask you at the prompt, unless --no-ask is said.

  ai-factory run --model ollama/qwen3 --with . --check 'pytest -q' 'Add a --json flag'

Without --out nothing outside the data directory is written; `ai-factory files` has the results.

Ctrl-C cancels them; a second Ctrl-C leaves at once.
`ai-factory resume` finishes sessions that a crash interrupted.")]
pub(crate) struct RunArgs {
    /// The goals; `-` reads one from standard input
    #[arg(value_name = "GOAL", required_unless_present = "file")]
    goals: Vec<String>,
    /// A file with one goal per line: plain text, or a JSON object such as {"goal": "…", "key":
    /// "…"}
    #[arg(long, value_name = "FILE", conflicts_with = "goals")]
    file: Option<PathBuf>,
    /// The kind of work: general, coding, research or planning
    #[arg(long, value_name = "TYPE", default_value_t)]
    task_type: TaskType,
    /// Idempotency key: a goal takes effect at most once under it; a repetition gets the first
    /// answer
    #[arg(long, value_name = "KEY")]
    key: Option<CommandId>,
    #[command(flatten)]
    workspace: WorkspaceArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Write changed files below a directory, but never over a file that differs from what went in
    #[arg(long, value_name = "DIR", help_heading = "Files and a check")]
    out: Option<PathBuf>,
}

impl RunArgs {
    /// The setting that its flags set.
    pub(crate) fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        self.model.flags()
    }

    /// Prints each result as its session ends; with `--json`, the answer of `supervisor.run` on one
    /// line.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let mut goals = match &self.file {
            Some(file) => goal_input::from_file(file)?,
            None => goal_input::from_arguments(self.goals)?,
        };
        if let Some(key) = self.key {
            match goals.as_mut_slice() {
                [only] => only.key = Some(key),
                _ => {
                    return Err(CommandError::usage(
                        "`--key` goes with one goal; in a file, give each line a \"key\" of its own",
                    ));
                }
            }
        }
        if self.out.is_some() && goals.len() > 1 {
            return Err(CommandError::usage("`--out` goes with one goal"));
        }
        let mut workspace = self.workspace.collect(context.settings(), output)?;
        workspace.is_wanted |= self.out.is_some();
        if !self.model.has_model(context.settings())
            && let Some(warning) = self.model.unused()
        {
            output.note(&warning);
        }
        let out = self.out.map(|path| write_out::open(&path, context)).transpose()?;
        context.work(output, UnfinishedSessions::Resume, async |factory, output, settings| {
            transfer::hand_over(factory, &workspace.files).await?;
            let asks = self.model.has_model(settings) && pending::somebody_is_there(output);
            let terms = |goal| self.model.apply(goal, asks);
            let kinds = (self.task_type, &workspace);
            let mut goals = GoalBatch::new(factory, settings, goals, kinds, terms);
            goals.is_asked_here = asks;
            goals.traceparent = context.traceparent();
            goals.out = out.as_ref();
            goals.run(output).await
        })
    }
}
