//! `goals`: publishes and lists goals in the stream of a NATS server.

use ai_factory_ports::bus::{Headers, header};
use ai_factory_schemas::{id::CommandId, plan::TaskType, request::Goal};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{GOAL_CHARS_MAX, TIME, clock, goal_input};
use crate::{
    cli::{
        context::CommandContext,
        count,
        exit::{CommandError, Exit},
        output::Output,
        remote::NatsTarget,
        table::TextTable,
    },
    clock::new_key,
    nats::{GoalsQueue, WaitingGoal},
};

/// Publish goals to the stream of a NATS server, and list those waiting there
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory goals pub 'Greet' --nats nats://127.0.0.1:4222
  ai-factory goals ls --context team

A goal waits there until a factory takes it, also while none runs. Needs a server with JetStream.")]
pub(crate) struct GoalsArgs {
    #[command(flatten)]
    target: NatsTarget,
    /// The subcommand.
    #[command(subcommand)]
    action: GoalsAction,
}

#[derive(Debug, Subcommand)]
enum GoalsAction {
    /// Publish goals
    Pub {
        /// The goals; `-` reads one from standard input
        #[arg(value_name = "GOAL", required = true)]
        goals: Vec<String>,
        /// The kind of work: general, coding, research or planning
        #[arg(long, value_name = "TYPE", default_value_t)]
        task_type: TaskType,
        /// Idempotency key: the goal takes effect at most once under it
        #[arg(long, value_name = "KEY")]
        key: Option<CommandId>,
    },
    /// List goals that no factory has taken yet, oldest first
    Ls {
        /// Maximum number of goals
        #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
        #[arg(value_parser = count::rows, allow_negative_numbers = true)]
        limit: usize,
    },
}

impl GoalsArgs {
    /// Prints the goals' numbers in the stream; with `--json`, an array of objects.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let action = self.action;
        self.target.over_streams(context, async |bus, streams, subjects| {
            let opened = GoalsQueue::open(bus, streams, subjects).await;
            let queue = opened.map_err(CommandError::failed)?;
            match action {
                GoalsAction::Pub { goals, task_type, key } => {
                    put(&queue, goals, task_type, key.as_ref(), output).await
                }
                GoalsAction::Ls { limit } => {
                    list(&queue.oldest(limit).await.map_err(CommandError::failed)?, output)
                }
            }
        })?;
        Ok(Exit::DONE)
    }
}

async fn put(
    queue: &GoalsQueue,
    given: Vec<String>,
    task_type: TaskType,
    key: Option<&CommandId>,
    output: &mut Output,
) -> Result<(), CommandError> {
    if given.len() > 1 && key.is_some() {
        return Err(CommandError::usage("`--key` goes with one goal"));
    }
    for input in goal_input::from_arguments(given)? {
        let goal = Goal {
            goal: input.goal,
            task_type,
            check: None,
            files: Vec::new(),
            protect: Vec::new(),
            workspace: false,
            ask: false,
            budget: None,
            model: None,
            turns_max: None,
        };
        let body = serde_json::to_vec(&goal).map_err(CommandError::failed)?;
        let mut headers = Headers::default();
        let key = key.cloned().unwrap_or_else(new_key);
        headers.set(header::MESSAGE_ID, key.as_str());
        let taken = queue.enqueue(&headers, body.into()).await.map_err(CommandError::failed)?;
        if output.json {
            output.json(&json!({ "number": taken.number, "key": key, "known": taken.is_known }))?;
        } else if taken.is_known {
            output.line(&format!("{} (known already: its key was used before)", taken.number))?;
        } else {
            output.line(&taken.number.to_string())?;
        }
    }
    Ok(())
}

fn list(waiting: &[WaitingGoal], output: &mut Output) -> Result<(), CommandError> {
    let text = |goal: &WaitingGoal| String::from_utf8_lossy(&goal.payload).into_owned();
    if output.json {
        let document = |goal: &WaitingGoal| {
            json!({
                "number": goal.number, "time": goal.time.to_string(), "key": goal.key, "payload": text(goal)
            })
        };
        return Ok(output.json(&waiting.iter().map(document).collect::<Vec<_>>())?);
    }
    if waiting.is_empty() {
        output.note("no goal waits");
        return Ok(());
    }
    let mut table = TextTable::new(&["NUMBER", TIME, "KEY", "GOAL"]);
    for goal in waiting {
        let shown: String = text(goal).chars().take(GOAL_CHARS_MAX).collect();
        let (number, key) = (goal.number.to_string(), goal.key.as_deref().unwrap_or_default());
        table.row([&number, &clock(goal.time), key, &shown]);
    }
    Ok(output.table(&table)?)
}
