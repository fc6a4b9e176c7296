//! `dead`: lists, shows, retries and drops dead letters.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{GOAL_CHARS_MAX, TIME, clock};
use crate::{
    cli::{
        context::CommandContext,
        count,
        exit::{CommandError, Exit},
        output::Output,
        remote::NatsTarget,
        table::TextTable,
    },
    nats::{DeadLetter, DeadLetters},
};

/// Manage dead letters: goals that were refused or given up (needs JetStream)
#[derive(Args, Debug)]
pub(crate) struct DeadArgs {
    #[command(flatten)]
    target: NatsTarget,
    /// The subcommand.
    #[command(subcommand)]
    action: DeadAction,
}

#[derive(Debug, Subcommand)]
enum DeadAction {
    /// List the dead letters, newest first
    Ls {
        /// Maximum number of letters
        #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
        #[arg(value_parser = count::rows, allow_negative_numbers = true)]
        limit: usize,
    },
    /// Show one letter in full
    Show {
        /// Its number, as `ls` shows it
        #[arg(value_name = "N")]
        number: u64,
    },
    /// Publish the goal again, and remove the letter once the stream of goals has it
    Retry(LetterSelector),
    /// Remove the letter and give the goal up
    Drop(LetterSelector),
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct LetterSelector {
    /// Their numbers, as shown by `ls`
    #[arg(value_name = "N")]
    numbers: Vec<u64>,
    /// All letters
    #[arg(long)]
    all: bool,
}

impl DeadArgs {
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        self.target.over_streams(context, async |bus, streams, subjects| {
            let opened = DeadLetters::open(bus, streams, subjects).await;
            let letters = opened.map_err(CommandError::failed)?;
            match &self.action {
                DeadAction::Ls { limit } => {
                    list(&letters.newest(*limit).await.map_err(CommandError::failed)?, output)
                }
                DeadAction::Show { number } => {
                    show(&letters.letter(*number).await.map_err(CommandError::failed)?, output)
                }
                DeadAction::Retry(which) => {
                    for number in which.numbers(&letters).await? {
                        letters.retry(number).await.map_err(CommandError::failed)?;
                        report(output, number, "retried")?;
                    }
                    Ok(())
                }
                DeadAction::Drop(which) => {
                    for number in which.numbers(&letters).await? {
                        letters.remove(number).await.map_err(CommandError::failed)?;
                        report(output, number, "dropped")?;
                    }
                    Ok(())
                }
            }
        })?;
        Ok(Exit::DONE)
    }
}

impl LetterSelector {
    /// With `--all` oldest first.
    async fn numbers(&self, letters: &DeadLetters) -> Result<Vec<u64>, CommandError> {
        if !self.all {
            return Ok(self.numbers.clone());
        }
        let all = letters.newest(usize::MAX).await.map_err(CommandError::failed)?;
        Ok(all.iter().rev().map(|letter| letter.number).collect())
    }
}

fn report(output: &mut Output, number: u64, what: &str) -> Result<(), CommandError> {
    if output.json {
        output.json(&json!({ "number": number, "done": what }))?;
    } else {
        output.line(&format!("{number} {what}"))?;
    }
    Ok(())
}

fn list(letters: &[DeadLetter], output: &mut Output) -> Result<(), CommandError> {
    if output.json {
        return Ok(output.json(&letters.iter().map(document).collect::<Vec<_>>())?);
    }
    if letters.is_empty() {
        output.note("no dead letters");
        return Ok(());
    }
    let mut table = TextTable::new(&["NUMBER", TIME, "REASON", "GOAL"]);
    for letter in letters {
        let payload = String::from_utf8_lossy(&letter.payload);
        let goal: String = payload.chars().take(GOAL_CHARS_MAX).collect();
        let number = letter.number.to_string();
        table.row([&number, &clock(letter.time), &letter.reason, &goal].map(String::as_str));
    }
    Ok(output.table(&table)?)
}

fn show(letter: &DeadLetter, output: &mut Output) -> Result<(), CommandError> {
    if output.json {
        return Ok(output.json(&document(letter))?);
    }
    let mut line = |name: &str, value: &str| -> Result<(), CommandError> {
        let text = format!("{name:<9}{}", output.shown(value));
        Ok(output.line(&text)?)
    };
    line("number", &letter.number.to_string())?;
    line("time", &clock(letter.time))?;
    line("reason", &letter.reason)?;
    for (name, value) in [("key", &letter.key), ("session", &letter.session)] {
        if let Some(value) = value {
            line(name, value)?;
        }
    }
    for (name, value) in &letter.headers {
        line("header", &format!("{name}: {value}"))?;
    }
    if let Some(bytes) = letter.cut_from_bytes {
        line("cut", &format!("only the beginning of {bytes} bytes"))?;
    }
    let payload = String::from_utf8_lossy(&letter.payload);
    output.line("")?;
    let goal = output.shown(&payload).into_owned();
    Ok(output.line(&goal)?)
}

/// A letter as JSON.
fn document(letter: &DeadLetter) -> Value {
    let headers: serde_json::Map<_, _> =
        letter.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "number": letter.number,
        "time": letter.time.to_string(),
        "reason": letter.reason,
        "key": letter.key,
        "session": letter.session,
        "headers": headers,
        "payload": String::from_utf8_lossy(&letter.payload),
        "payload_bytes": letter.cut_from_bytes.unwrap_or(letter.payload.len() as u64),
    })
}
