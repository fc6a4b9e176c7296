//! `submit`: submits a goal to a running factory.

use std::time::Duration;

use ai_factory_schemas::{
    answer::{GoalAnswer, SessionAnswer, Submitted},
    id::CommandId,
    plan::TaskType,
    request::Goal,
    session::SessionStatus,
    subject::operation,
};
use clap::Args;

use super::{
    REQUEST_MS_MAX,
    goal_batch::own_reason,
    goal_input::{self, GoalInput},
};
use crate::{
    cli::{
        budget_words,
        context::CommandContext,
        exit::{CommandError, Exit},
        files::{arguments::WorkspaceArgs, changes, transfer},
        model_arguments::ModelArgs,
        output::Output,
        remote::{FactoryTarget, RemoteFactory},
        silence::{self, NO_OUTPUT, Silence, StepEnd},
        text::one_line,
    },
    clock::new_key,
    services::AnswerLimits,
};

/// Submit a goal to a running factory.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory submit 'Greet'
  ai-factory submit --wait 'Greet' --nats nats://127.0.0.1:4222
  ai-factory submit --with ./project --check 'pytest -q' 'Run the tests: …'

Without --wait it prints the session's id as soon as the goal is on disk.
`ai-factory files ID --out DIR` writes the files of the session.
Without --server and --nats it uses the address in the settings `host` and `port`.")]
pub(crate) struct SubmitArgs {
    /// The goal; `-` reads it from standard input
    #[arg(value_name = "GOAL")]
    goal: String,
    /// Wait for the session's end and print its result
    #[arg(long)]
    wait: bool,
    /// The kind of work: general, coding, research or planning
    #[arg(long, value_name = "TYPE", default_value_t)]
    task_type: TaskType,
    /// Idempotency key: the goal takes effect at most once under it; a repetition gets the first
    /// answer
    #[arg(long, value_name = "KEY")]
    key: Option<CommandId>,
    #[command(flatten)]
    workspace: WorkspaceArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    place: FactoryTarget,
}

impl SubmitArgs {
    /// Prints the session's id, or its result; with `--json`, the answer of `supervisor.submit` or
    /// `supervisor.run`.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let remote = self.place.open(context)?;
        let mut goals = goal_input::from_arguments(vec![self.goal])?;
        let Some(GoalInput { goal, .. }) = goals.pop() else { return Ok(Exit::DONE) };
        let workspace = self.workspace.collect(context.settings(), output)?;
        if self.model.is_none()
            && let Some(warning) = self.model.unused()
        {
            output.note(&warning);
        }
        transfer::send(&remote, &workspace.files)?;
        let came_in = workspace.hashes();
        let goal = self.model.apply(workspace.goal(goal, self.task_type), false);
        let key = self.key.unwrap_or_else(new_key);
        if self.wait {
            let limit = AnswerLimits::new(context.settings()).session;
            let came_in = |path: &str| came_in.contains_key(path);
            return print_end(&remote, &goal, &key, limit, came_in, output);
        }
        let wait = Duration::from_millis(REQUEST_MS_MAX);
        let submitted: Submitted =
            remote.ask(operation::SUPERVISOR_SUBMIT, &goal, key.as_str(), wait)?;
        if output.json {
            output.json(&submitted)?;
        } else {
            output.line(&submitted.session_id.to_string())?;
        }
        Ok(Exit::DONE)
    }
}

fn print_end(
    remote: &RemoteFactory,
    goal: &Goal,
    key: &CommandId,
    wait: Duration,
    came_in: impl Fn(&str) -> bool,
    output: &mut Output,
) -> Result<Exit, CommandError> {
    let answer = match remote.ask(operation::SUPERVISOR_RUN, goal, key.as_str(), wait)? {
        GoalAnswer::Concluded(answer) => *answer,
        GoalAnswer::Pending(pending) => {
            if output.json {
                output.json(&pending)?;
            }
            for line in budget_words::pending(&pending) {
                output.note(&line);
            }
            output.note("to reach the running factory, these commands take --server, --nats or --context, too");
            return Ok(Exit::WAITING);
        }
    };
    let silence = silence(remote, &answer);
    if let Some(Silence::NothingRan(why)) = &silence {
        output.note(why);
    }
    if output.json {
        output.json(&answer)?;
    } else {
        output.text(&silence::shown(&answer, silence.as_ref()))?;
        for line in changes::of_answer(&answer, came_in) {
            output.text(&line)?;
        }
    }
    output.flush()?;
    if let Some(reason) = own_reason(&answer) {
        output.error(&one_line(reason));
    }
    if answer.changed_files.as_ref().is_some_and(|changed| !changed.is_empty()) {
        output.note(&changes::hint(answer.session_id));
    }
    Ok(if answer.status == SessionStatus::Success { Exit::DONE } else { Exit::FAILED })
}

/// The text for a session without output. If the session's story is unavailable, its result is
/// printed as it is.
fn silence(remote: &RemoteFactory, answer: &SessionAnswer) -> Option<Silence> {
    if answer.result != NO_OUTPUT || answer.model.is_some() {
        return None;
    }
    let story = remote.session(&answer.session_id.into()).ok()?;
    Some(Silence::of(&answer.plan.plan, story.timeline.iter().filter_map(StepEnd::of_entry)))
}
