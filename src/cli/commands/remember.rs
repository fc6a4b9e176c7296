//! `remember`: a note for later goals.

use std::time::Duration;

use ai_factory_actors::ports::bus::Headers;
use ai_factory_schemas::{answer::Remembered, limit::NOTE_BYTES_MAX, request, subject::operation};
use clap::Args;

use super::standard_input;
use crate::cli::{
    context::{Context, unless_interrupted},
    exit::{Exit, Failure},
    output::Output,
};
use crate::wiring::Unfinished;

/// How long memory may take to put a note on disk, in milliseconds.
const REMEMBER_MS_MAX: u64 = 30_000;

/// Keep a note that later goals may recall.
#[derive(Args, Debug)]
pub(crate) struct Remember {
    /// The note; `-` reads it from standard input
    #[arg(value_name = "TEXT")]
    text: String,
    /// A word to find it by (repeatable)
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
}

impl Remember {
    /// Prints the note's id once the note is on disk: with `--json`, the answer of `memory.remember`.
    pub(crate) fn run(self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        let text =
            if self.text == "-" { standard_input("the note", NOTE_BYTES_MAX)? } else { self.text };
        if text.trim().is_empty() {
            return Err(Failure::usage("the note is blank: `ai-factory remember 'the text'`"));
        }
        let note = request::Remember { text, tags: self.tags };
        let kept: Remembered =
            context.work(output, Unfinished::LeftAlone, async |factory, _, _| {
                let wait = Duration::from_millis(REMEMBER_MS_MAX);
                let call =
                    factory.call(operation::MEMORY_REMEMBER, &note, Headers::default(), wait);
                unless_interrupted(async { Ok(call.await?) }).await
            })?;
        if output.json {
            output.json(&kept)?;
        } else {
            output.line(&kept.id.to_string())?;
        }
        Ok(Exit::DONE)
    }
}
