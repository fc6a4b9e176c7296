//! Imports a file of notes in batches.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    str,
    time::Duration,
};

use ai_factory_ports::bus::{Headers, header};
use ai_factory_schemas::{
    answer::{Imported, NoteOutcome},
    encoding::{DecodeTextError, has_other_mark, without_mark},
    limit::NOTES_MAX,
    problem::{Detail, PathSegment, Problem},
    request,
    subject::operation,
};
use serde_json::json;

use super::REQUEST_MS_MAX;
use crate::{
    cli::{
        context::CommandContext,
        ending::unless_interrupted,
        exit::{CommandError, Exit},
        output::Output,
        progress::Progress,
        remote::FactoryTarget,
    },
    clock::new_key,
    wiring::UnfinishedSessions,
};

/// The largest batch, in bytes of its notes as in the file: every ingress accepts it.
const IMPORT_BYTES_MAX: usize = 512 * 1024;
/// Number of refused lines that are remembered.
const REFUSED_MAX: usize = 1_000;
/// Number of refused lines that the failure names.
const REFUSED_SHOWN_MAX: usize = 10;
/// Interval of progress lines without a terminal, in notes.
const PROGRESS_NOTES: usize = 10_000;

/// Records every note of a file and prints their number; with `--json`, as `{"remembered": N}`. A
/// refused line does not affect other lines: a final failure names it (with `--json`, `refusal` as
/// well). Any other failure ends the import and says how many notes are recorded.
pub(super) fn remember(
    path: &Path,
    tags: &[String],
    place: &FactoryTarget,
    context: &CommandContext,
    output: &mut Output,
) -> Result<Exit, CommandError> {
    let file = File::open(path)
        .map_err(|error| CommandError::usage(format_args!("{}: {error}", path.display())))?;
    let lines = BufReader::new(file);
    let mut notes =
        Notes { path, tags, lines, number: 0, waiting: None, refused: RefusedLines::default() };
    let progress = Progress::new(output);
    let mut tally = ImportTally { notes: 0, upto: 0, reported: 0, progress };
    let wait = Duration::from_millis(REQUEST_MS_MAX);
    let done = if place.is_named() {
        let remote = place.open(context)?;
        // Until the end of the file or a failure.
        (|| {
            while let Some(batch) = notes.next()? {
                let key = new_key();
                let answer =
                    remote.try_ask(operation::MEMORY_IMPORT, &batch.body(), key.as_str(), wait)?;
                tally.count(&batch, each(answer, batch.len())?, &mut notes.refused, output)?;
            }
            Ok(())
        })()
    } else {
        context.work(output, UnfinishedSessions::LeaveAlone, async |factory, output, _| {
            unless_interrupted(async {
                while let Some(batch) = notes.next()? {
                    let mut headers = Headers::default();
                    headers.set(header::MESSAGE_ID, new_key().as_str());
                    let body = batch.body();
                    let call = factory.call(operation::MEMORY_IMPORT, &body, headers, wait);
                    let answer = each(call.await, batch.len())?;
                    tally.count(&batch, answer, &mut notes.refused, output)?;
                }
                Ok(())
            })
            .await
        })
    };
    done.map_err(|failure| tally.with_progress(failure))?;
    let (remembered, refused) = (tally.notes, &notes.refused);
    match (output.json, refused.first.is_empty()) {
        (true, true) => output.json(&json!({ "remembered": remembered }))?,
        (true, false) => {
            let lines = refused.first.iter();
            let lines: Vec<_> =
                lines.map(|(line, why)| json!({ "line": line, "reason": why })).collect();
            output.json(&json!({ "remembered": remembered, "refused": lines }))?;
        }
        (false, true) => output.line(&format!("{remembered} notes are kept"))?,
        (false, false) => {}
    }
    match refused.failure(path) {
        Some(failure) => Err(tally.with_progress(failure)),
        None => Ok(Exit::DONE),
    }
}

/// The result of each note in a batch, also if every one was refused.
fn each(answer: Result<Imported, Problem>, notes: usize) -> Result<Vec<NoteOutcome>, Problem> {
    let problem = match answer {
        Ok(imported) => return Ok(imported.notes),
        Err(problem) => problem,
    };
    let Detail::Faults(faults) = &problem.detail else { return Err(problem) };
    let mut of_notes = vec![Vec::new(); notes];
    for fault in faults {
        let index = match fault.loc.get(2) {
            Some(PathSegment::Item(index)) => usize::try_from(*index).ok(),
            _ => None,
        };
        let Some(of_note) = index.and_then(|index| of_notes.get_mut(index)) else {
            return Err(problem);
        };
        of_note.push(fault.clone());
    }
    let refused =
        |faults| NoteOutcome::Refused { status: problem.status, detail: Detail::Faults(faults) };
    Ok(of_notes.into_iter().map(refused).collect())
}

/// The notes of a file, in batches.
struct Notes<'a> {
    path: &'a Path,
    tags: &'a [String],
    lines: BufReader<File>,
    /// Number of the last line read.
    number: usize,
    /// A line that did not fit into the batch, with its length.
    waiting: Option<(NumberedNote, usize)>,
    /// Lines without an acceptable note.
    refused: RefusedLines,
}

/// `RefusedLines` lines.
#[derive(Default)]
struct RefusedLines {
    /// The first ones, at most [`REFUSED_MAX`], each with its reason.
    first: Vec<(usize, String)>,
    count: usize,
}

impl RefusedLines {
    fn add(&mut self, line: usize, why: impl std::fmt::Display) {
        self.count += 1;
        if self.first.len() < REFUSED_MAX {
            self.first.push((line, why.to_string()));
        }
    }

    /// A failure that names the first refused lines, if there are any.
    fn failure(&self, path: &Path) -> Option<CommandError> {
        let mut first = self.first.clone();
        // Unreadable lines are found before those that the factory refuses.
        first.sort_by_key(|(line, _)| *line);
        let shown = first.iter().take(REFUSED_SHOWN_MAX);
        let lines: Vec<_> = shown.map(|(line, why)| format!("line {line}: {why}")).collect();
        let more = match self.count.saturating_sub(lines.len()) {
            0 => String::new(),
            more => format!("\n  and {more} more lines"),
        };
        let sentence = format!("{}: {}{more}", path.display(), lines.join("\n  "));
        (self.count > 0).then(|| CommandError::usage(sentence))
    }
}

/// A note with its line number.
struct NumberedNote {
    note: request::NoteInput,
    number: usize,
}

/// A batch of notes.
struct Batch {
    lines: Vec<NumberedNote>,
}

impl Batch {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn body(&self) -> request::Import {
        request::Import { notes: self.lines.iter().map(|line| line.note.clone()).collect() }
    }
}

impl Notes<'_> {
    /// The next batch; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Batch>, CommandError> {
        let mut batch = Batch { lines: Vec::new() };
        let mut bytes = 0;
        while batch.len() < NOTES_MAX {
            let next = match self.waiting.take() {
                Some(waiting) => Some(waiting),
                None => self.line()?,
            };
            match next {
                Some((line, length)) if batch.is_empty() || bytes + length <= IMPORT_BYTES_MAX => {
                    bytes += length;
                    batch.lines.push(line);
                }
                waiting => {
                    self.waiting = waiting;
                    break;
                }
            }
        }
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }

    /// The next line with a note, and its length.
    fn line(&mut self) -> Result<Option<(NumberedNote, usize)>, CommandError> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.number += 1;
            let number = self.number;
            let at = |why: &dyn std::fmt::Display| {
                CommandError::usage(format_args!("{}: line {number}: {why}", self.path.display()))
            };
            let length = self.lines.read_until(b'\n', &mut bytes).map_err(|error| at(&error))?;
            if length == 0 {
                return Ok(None);
            }
            if number == 1 && has_other_mark(&bytes) {
                return Err(at(&DecodeTextError::OtherEncoding));
            }
            let Ok(text) = str::from_utf8(&bytes) else {
                self.refused.add(number, "it is not UTF-8 text: save the file as UTF-8");
                continue;
            };
            // Concatenated files contain byte order marks at inner lines, too.
            let text = without_mark(text);
            if text.trim().is_empty() {
                continue;
            }
            match serde_json::from_str::<request::NoteInput>(text) {
                Ok(mut note) => {
                    note.tags.extend(self.tags.iter().cloned());
                    return Ok(Some((NumberedNote { note, number }, length)));
                }
                Err(error) => self.refused.add(number, slip(&error)),
            }
        }
    }
}

/// The error in a line that is not a note, without the line number within that line, which is
/// always 1.
fn slip(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match said.strip_suffix(&place) {
        Some(what) if error.column() > 0 => format!("column {}: {what}", error.column()),
        Some(what) => what.to_owned(),
        None => said,
    }
}

/// The progress of an import.
struct ImportTally {
    notes: usize,
    /// The last submitted line.
    upto: usize,
    reported: usize,
    progress: Progress,
}

impl ImportTally {
    /// Counts recorded and refused notes. Fails if the cause is not the note itself.
    fn count(
        &mut self,
        batch: &Batch,
        answers: Vec<NoteOutcome>,
        refused: &mut RefusedLines,
        output: &Output,
    ) -> Result<(), CommandError> {
        self.upto = batch.lines.last().map_or(self.upto, |line| line.number);
        let mut failed = None;
        for (line, note) in batch.lines.iter().zip(answers) {
            match note {
                NoteOutcome::Kept { .. } => self.notes += 1,
                NoteOutcome::Refused { status, detail } => {
                    let problem = Problem { status, detail, retry_after: None };
                    if (400..500).contains(&status) {
                        refused.add(line.number, problem.sentence());
                    } else {
                        failed.get_or_insert(problem);
                    }
                }
            }
        }
        if let Some(problem) = failed {
            return Err(problem.into());
        }
        let line = format!("{} notes are kept", self.notes);
        self.progress.doing(&line);
        if self.notes / PROGRESS_NOTES > self.reported / PROGRESS_NOTES {
            self.progress.line(output, &line);
        }
        self.reported = self.notes;
        Ok(())
    }

    /// The failure that ended the import, with how much of the file is recorded: after the
    /// correction that part need not be imported again.
    fn with_progress(&self, failure: CommandError) -> CommandError {
        match failure {
            CommandError::Said { sentence, exit } => {
                let kept = match self.notes {
                    0 => "nothing is kept".to_owned(),
                    1 => format!("one note is kept, of the lines up to {}", self.upto),
                    notes => format!(
                        "{notes} notes are kept: of the lines up to {} all that can be",
                        self.upto
                    ),
                };
                CommandError::Said { sentence: format!("{sentence}; {kept}"), exit }
            }
            CommandError::ClosedPipe => CommandError::ClosedPipe,
        }
    }
}
