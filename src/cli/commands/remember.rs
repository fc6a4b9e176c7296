//! `remember`: records a note for later goals, or a file of notes.

use std::{path::PathBuf, time::Duration};

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{
    answer::Remembered, encoding::without_mark, limit::NOTE_BYTES_MAX, request, subject::operation,
};
use clap::Args;

use super::{REQUEST_MS_MAX, notes, standard_input};
use crate::{
    cli::{
        context::CommandContext,
        ending::unless_interrupted,
        exit::{CommandError, Exit},
        output::Output,
        remote::FactoryTarget,
    },
    clock::new_key,
    wiring::UnfinishedSessions,
};

/// Record a note that later goals may recall.
///
/// With --server or --nats a running factory records it; otherwise the data directory is opened.
#[derive(Args, Debug)]
pub(crate) struct RememberArgs {
    /// The note; `-` reads it from standard input
    #[arg(value_name = "TEXT", required_unless_present = "jsonl")]
    text: Option<String>,
    /// A word to find it by (repeatable); with `--jsonl`, for every note of the file
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// Record every note of a file: a JSON object `{"text": "…", "tags": ["…"], "key": "…"}` on
    /// each line; a note with a key is recorded once
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    jsonl: Option<PathBuf>,
    #[command(flatten)]
    place: FactoryTarget,
}

impl RememberArgs {
    /// Prints the note's id once it is on disk; with `--json`, the answer of `memory.remember`.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        if let Some(path) = &self.jsonl {
            return notes::remember(path, &self.tags, &self.place, context, output);
        }
        let text = match self.text.unwrap_or_default() {
            text if text == "-" => standard_input("the note", NOTE_BYTES_MAX)?,
            text => without_mark(&text).to_owned(),
        };
        if text.trim().is_empty() {
            return Err(CommandError::usage("the note is blank: `ai-factory remember 'the text'`"));
        }
        let note = request::Remember { text, tags: self.tags };
        let wait = Duration::from_millis(REQUEST_MS_MAX);
        let kept: Remembered = if self.place.is_named() {
            let key = new_key();
            self.place.open(context)?.ask(operation::MEMORY_REMEMBER, &note, key.as_str(), wait)?
        } else {
            context.work(output, UnfinishedSessions::LeaveAlone, async |factory, _, _| {
                let call =
                    factory.call(operation::MEMORY_REMEMBER, &note, Headers::default(), wait);
                unless_interrupted(async { Ok(call.await?) }).await
            })?
        };
        if output.json {
            output.json(&kept)?;
        } else {
            output.line(&kept.id.to_string())?;
        }
        Ok(Exit::DONE)
    }
}
