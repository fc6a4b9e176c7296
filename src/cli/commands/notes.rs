//! The notes of a file, kept many at a time.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    str,
    time::Duration,
};

use ai_factory_actors::ports::bus::{Headers, header};
use ai_factory_schemas::{
    answer::{Imported, ImportedNote},
    encoding::{DecodeTextError, has_other_mark, without_mark},
    limit::NOTES_MAX,
    problem::Problem,
    request,
    subject::operation,
};
use serde_json::json;
use uuid::Uuid;

use super::TELL_MS_MAX;
use crate::cli::{
    context::Context,
    ending::unless_interrupted,
    exit::{Exit, Failure},
    output::Output,
    progress::Progress,
    remote::Where,
};
use crate::wiring::Unfinished;

/// The largest request, in bytes of its notes as they stand in the file: every door takes it.
const IMPORT_BYTES_MAX: usize = 512 * 1024;
/// After how many notes of a file it is said how many there are by now, where nobody watches.
const TOLD_NOTES: usize = 10_000;

/// Keeps every note of a file, and prints how many: with `--json`, as `{"remembered": N}`. A line that is refused ends it; what is
/// kept by then stays, and the failure says how many that are.
pub(super) fn remember(
    path: &Path,
    tags: &[String],
    place: &Where,
    context: &Context,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))?;
    let mut notes = Notes { path, tags, lines: BufReader::new(file), number: 0, waiting: None };
    let progress = Progress::new(output);
    let mut kept = Kept { notes: 0, upto: 0, told: 0, progress };
    let wait = Duration::from_millis(TELL_MS_MAX);
    let done = if place.is_named() {
        let remote = place.open(context)?;
        // Until the file ends or something fails.
        (|| {
            while let Some(batch) = notes.next()? {
                let key = Uuid::now_v7().to_string();
                let imported = remote.ask(operation::MEMORY_IMPORT, &batch.body(), &key, wait)?;
                kept.take(&batch, imported, path, output)?;
            }
            Ok(())
        })()
    } else {
        context.work(output, Unfinished::LeftAlone, async |factory, output, _| {
            unless_interrupted(async {
                while let Some(batch) = notes.next()? {
                    let mut headers = Headers::default();
                    headers.set(header::MESSAGE_ID, Uuid::now_v7().to_string());
                    let body = batch.body();
                    let call = factory.call(operation::MEMORY_IMPORT, &body, headers, wait);
                    kept.take(&batch, call.await?, path, output)?;
                }
                Ok(())
            })
            .await
        })
    };
    done.map_err(|failure| kept.told_with(failure))?;
    let remembered = kept.notes;
    if output.json {
        output.json(&json!({ "remembered": remembered }))?;
    } else {
        output.line(&format!("{remembered} notes are kept"))?;
    }
    Ok(Exit::DONE)
}

/// The notes of a file, many at a time.
struct Notes<'a> {
    path: &'a Path,
    tags: &'a [String],
    lines: BufReader<File>,
    /// Of the line that was read last.
    number: usize,
    /// What did not fit, with its length.
    waiting: Option<(Line, usize)>,
}

/// A note and the number of its line.
struct Line {
    note: request::ImportedNote,
    number: usize,
}

/// Some notes, and why there are no more, if that is a failure.
struct Batch {
    lines: Vec<Line>,
    ended: Option<Failure>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn body(&self) -> request::Import {
        request::Import { notes: self.lines.iter().map(|line| line.note.clone()).collect() }
    }
}

impl Notes<'_> {
    /// The next ones; `None` at the end of the file. A line that is no note is a failure once those before it are handed out.
    fn next(&mut self) -> Result<Option<Batch>, Failure> {
        let mut batch = Batch { lines: Vec::new(), ended: None };
        let mut bytes = 0;
        while batch.lines.len() < NOTES_MAX {
            let next = match self.waiting.take() {
                Some(waiting) => Ok(Some(waiting)),
                None => self.line(),
            };
            match next {
                Ok(Some((line, length)))
                    if batch.is_empty() || bytes + length <= IMPORT_BYTES_MAX =>
                {
                    bytes += length;
                    batch.lines.push(line);
                }
                Ok(waiting) => {
                    self.waiting = waiting;
                    break;
                }
                Err(failure) if batch.is_empty() => return Err(failure),
                Err(failure) => {
                    batch.ended = Some(failure);
                    break;
                }
            }
        }
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }

    fn line(&mut self) -> Result<Option<(Line, usize)>, Failure> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.number += 1;
            let read = self.lines.read_until(b'\n', &mut bytes);
            let length = read.map_err(|error| self.refused(&error))?;
            if length == 0 {
                return Ok(None);
            }
            if self.number == 1 && has_other_mark(&bytes) {
                return Err(self.refused(&DecodeTextError::OtherEncoding));
            }
            let text = str::from_utf8(&bytes)
                .map_err(|_| self.refused(&"it is not UTF-8 text: save the file as UTF-8"))?;
            // Files that were put together have such marks within, too.
            let text = without_mark(text);
            if text.trim().is_empty() {
                continue;
            }
            let mut note: request::ImportedNote =
                serde_json::from_str(text).map_err(|error| self.refused(&slip(&error)))?;
            note.note.tags.extend(self.tags.iter().cloned());
            return Ok(Some((Line { note, number: self.number }, length)));
        }
    }

    fn refused(&self, why: &dyn std::fmt::Display) -> Failure {
        refused(self.path, self.number, why)
    }
}

fn refused(path: &Path, number: usize, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format_args!("{}: line {number}: {why}", path.display()))
}

/// What is wrong with a line that is no note. The line's number among its own lines, always 1, is left out.
fn slip(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match said.strip_suffix(&place) {
        Some(what) if error.column() > 0 => format!("column {}: {what}", error.column()),
        Some(what) => what.to_owned(),
        None => said,
    }
}

/// What is kept by now.
struct Kept {
    notes: usize,
    /// The last line that was handed in.
    upto: usize,
    told: usize,
    progress: Progress,
}

impl Kept {
    /// Counts the notes that are kept, and fails with the first one that is not.
    fn take(
        &mut self,
        batch: &Batch,
        imported: Imported,
        path: &Path,
        output: &Output,
    ) -> Result<(), Failure> {
        self.upto = batch.lines.last().map_or(self.upto, |line| line.number);
        let mut first_refused = None;
        for (line, note) in batch.lines.iter().zip(imported.notes) {
            match note {
                ImportedNote::Kept { .. } => self.notes += 1,
                ImportedNote::Refused { status, detail } => {
                    let problem = Problem { status, detail, retry_after: None };
                    first_refused
                        .get_or_insert_with(|| refused(path, line.number, &problem.sentence()));
                }
            }
        }
        if let Some(failure) = first_refused {
            return Err(failure);
        }
        let told = format!("{} notes are kept", self.notes);
        self.progress.doing(&told);
        if self.notes / TOLD_NOTES > self.told / TOLD_NOTES {
            self.progress.line(output, &told);
        }
        self.told = self.notes;
        match &batch.ended {
            Some(Failure::Said { sentence, exit }) => {
                Err(Failure::Said { sentence: sentence.clone(), exit: *exit })
            }
            _ => Ok(()),
        }
    }

    /// The failure that ended it, with how much of the file is kept: who mends it need not hand that in again.
    fn told_with(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Said { sentence, exit } => {
                let kept = match self.notes {
                    0 => "nothing is kept".to_owned(),
                    1 => format!("one note is kept, of the lines up to {}", self.upto),
                    notes => format!(
                        "{notes} notes are kept: of the lines up to {} all that can be",
                        self.upto
                    ),
                };
                Failure::Said { sentence: format!("{sentence}; {kept}"), exit }
            }
            Failure::ClosedPipe => Failure::ClosedPipe,
        }
    }
}
