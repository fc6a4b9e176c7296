//! `remember`: a note for later goals, or a file of them.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use ai_factory_actors::ports::bus::Headers;
use ai_factory_schemas::{answer::Remembered, limit::NOTE_BYTES_MAX, request, subject::operation};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::standard_input;
use crate::cli::{
    context::{Context, unless_interrupted},
    exit::{Exit, Failure},
    output::Output,
};
use crate::wiring::Unfinished;

/// How long memory may take to put a note on disk, in milliseconds.
const REMEMBER_MS_MAX: u64 = 30_000;
/// How many notes of a file are on their way to the disk at once: they share its syncs.
const NOTES_AT_ONCE: usize = 256;
/// After how many notes of a file it is said how many there are by now.
const TOLD_NOTES: usize = 10_000;

/// Keep a note that later goals may recall.
#[derive(Args, Debug)]
pub(crate) struct Remember {
    /// The note; `-` reads it from standard input
    #[arg(value_name = "TEXT", required_unless_present = "jsonl")]
    text: Option<String>,
    /// A word to find it by (repeatable); with `--jsonl`, every note of the file by
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// Keep every note of a file: a JSON object `{"text": "…", "tags": ["…"]}` on each line
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    jsonl: Option<PathBuf>,
}

impl Remember {
    /// Prints the note's id once the note is on disk: with `--json`, the answer of `memory.remember`.
    pub(crate) fn run(self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        if let Some(path) = &self.jsonl {
            return remember_file(path, &self.tags, context, output);
        }
        let text = match self.text.unwrap_or_default() {
            text if text == "-" => standard_input("the note", NOTE_BYTES_MAX)?,
            text => text,
        };
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

/// Keeps every note of a file, and prints how many: with `--json`, as `{"remembered": N}`. The first note that is refused
/// ends it; those before it stay.
fn remember_file(
    path: &Path,
    tags: &[String],
    context: &Context,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let lines = BufReader::new(file).lines().zip(1_usize..);
    let notes = lines.filter(|(line, _)| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
    let notes = notes.map(|(line, number)| {
        let refused =
            |error: &dyn std::fmt::Display| unreadable(&format!("line {number}: {error}"));
        let line = line.map_err(|error| refused(&error))?;
        let mut note: request::Remember =
            serde_json::from_str(&line).map_err(|error| refused(&error))?;
        note.tags.extend(tags.iter().cloned());
        Ok::<_, Failure>((note, number))
    });
    let kept = context.work(output, Unfinished::LeftAlone, async |factory, output, _| {
        let wait = Duration::from_millis(REMEMBER_MS_MAX);
        let keeping = stream::iter(notes).map(|note| async {
            let (note, number) = note?;
            let call = factory.call(operation::MEMORY_REMEMBER, &note, Headers::default(), wait);
            let kept: Result<Remembered, _> = call.await;
            kept.map_err(|problem| unreadable(&format!("line {number}: {}", problem.sentence())))
        });
        let mut keeping = std::pin::pin!(keeping.buffered(NOTES_AT_ONCE));
        unless_interrupted(async {
            let mut kept = 0_usize;
            while let Some(one) = keeping.next().await {
                one?;
                kept += 1;
                if kept.is_multiple_of(TOLD_NOTES) {
                    output.note(&format!("{kept} notes are kept"));
                }
            }
            Ok(kept)
        })
        .await
    })?;
    if output.json {
        output.json(&json!({ "remembered": kept }))?;
    } else {
        output.line(&format!("{kept} notes are kept"))?;
    }
    Ok(Exit::DONE)
}
