//! The story of one session, read from the journal: no running factory is needed.

use std::collections::HashMap;

use ai_factory_actors::session::story;
use ai_factory_schemas::{
    answer::{SessionRow, SessionStory},
    check::{Check, CheckMoment},
    diagnosis::Diagnosis,
    envelope::Recorded,
    event::Event,
    id::RunId,
    plan::Plan,
    run::RunEvent,
    session::{SessionEvent, SessionOpened},
};

use super::{
    diagnosis_words::changed_tests,
    exit::CommandError,
    files::recorded::{self, RecordedFiles},
    line_words::left_out,
    narrate::narrate,
};
use crate::wiring::Reader;

/// A session's story, and the result of each step.
pub(crate) struct Story {
    /// The answer of `supervisor.session`.
    pub(crate) told: SessionStory,
    /// Each event as its time, its category and a short phrase.
    pub(crate) lines: Vec<(i64, &'static str, String)>,
    /// The result of each step of the plan, in the plan's order.
    pub(crate) steps: Vec<StepStory>,
    /// The result of each check, in their order.
    pub(crate) checks: Vec<CheckStory>,
    /// What decides whether its goal is done.
    pub(crate) check: Option<Check>,
    /// Patterns of the files that are restored before the check after the steps.
    pub(crate) protect: Vec<String>,
    /// The session's files, if it has a workspace.
    pub(crate) files: Option<RecordedFiles>,
}

/// The result of one step.
#[derive(Debug, Default)]
pub(crate) struct StepStory {
    /// Its latest state; `None` if it was not reached.
    pub(crate) state: Option<String>,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
    /// What became of the workspace, in lines.
    pub(crate) files: Vec<String>,
    /// Why it failed.
    pub(crate) diagnosis: Option<Diagnosis>,
}

/// The result of one check.
#[derive(Debug)]
pub(crate) struct CheckStory {
    /// When it ran.
    pub(crate) moment: CheckMoment,
    /// Its result.
    pub(crate) result: StepStory,
}

/// Reads it from the journal.
pub(crate) async fn load(reader: &Reader, row: SessionRow) -> Result<Story, CommandError> {
    let id = row.session_id;
    let told =
        story::load(&*reader.journal, &*reader.views, id).await.map_err(CommandError::failed)?;
    let Some(told) = told else {
        return Err(CommandError::failed(format_args!("there is no session {id}")));
    };
    let mut steps: Vec<StepStory> = Vec::new();
    steps.resize_with(told.session.steps().len(), StepStory::default);
    for output in told.outputs {
        if let Some(step) = steps.get_mut(output.index) {
            (step.stdout, step.stderr) = (output.stdout, output.stderr);
        }
    }
    let journal = &*reader.journal;
    let files = RecordedFiles::load(journal, &told.records).await?;
    let mut diagnoses = diagnoses(&told.records);
    let (mut lines, mut checks) = (Vec::with_capacity(told.records.len()), Vec::new());
    for recorded in &told.records {
        let what = narrate(&recorded.event);
        if let Event::Session(event) = &recorded.event {
            let news = what.split_once(": ").map_or(what.as_str(), |(_, news)| news);
            let made = files.as_ref().and_then(|files| files.made.get(&recorded.position));
            if let Some(step) = event.step()
                && let Some(step) = steps.get_mut(step as usize)
            {
                step.state = Some(news.to_owned());
                if let SessionEvent::StepFinished(finished) = event {
                    step.files = made.cloned().unwrap_or_default();
                    step.files.extend(left_out(finished.workspace.as_ref()));
                    step.diagnosis = diagnoses.remove(&finished.run_id);
                }
            }
            if let SessionEvent::CheckFinished(finished) = event {
                let restored = made.into_iter().flatten();
                let restored = restored.map(|line| format!("restored before the check: {line}"));
                let mut files: Vec<_> = restored.collect();
                if !finished.changed_tests.is_empty() {
                    files.push(changed_tests(&finished.changed_tests));
                }
                let result = StepStory {
                    state: Some(news.to_owned()),
                    stdout: recorded::text(journal, &finished.stdout).await?,
                    stderr: recorded::text(journal, &finished.stderr).await?,
                    files,
                    diagnosis: finished.diagnosis.clone(),
                };
                checks.push(CheckStory { moment: finished.moment, result });
            }
        }
        lines.push((recorded.time.as_micros(), recorded.stream.category.as_str(), what));
    }
    let opened = told.records.iter().find_map(opened);
    let (check, protect) =
        opened.map(|it| (it.check.clone(), it.protect.clone())).unwrap_or_default();
    Ok(Story { told: told.story, lines, steps, checks, check, protect, files })
}

fn opened(recorded: &Recorded) -> Option<&SessionOpened> {
    match &recorded.event {
        Event::Session(SessionEvent::Opened(opened)) => Some(opened),
        _ => None,
    }
}

/// Why runs failed.
fn diagnoses(records: &[Recorded]) -> HashMap<RunId, Diagnosis> {
    let diagnosis = |recorded: &Recorded| match &recorded.event {
        Event::Run(RunEvent::Finished(finished)) => {
            Some((RunId(recorded.stream.id), finished.end.diagnosis.clone()?))
        }
        _ => None,
    };
    records.iter().filter_map(diagnosis).map(|(run, it)| (run, *it)).collect()
}

impl Story {
    /// The plan's steps with their results.
    pub(crate) fn planned_steps(
        &self,
    ) -> impl Iterator<Item = (&ai_factory_schemas::plan::Step, &StepStory)> {
        let steps = self.told.plan.as_ref().map(|plan: &Plan| plan.steps.as_slice());
        steps.unwrap_or_default().iter().zip(&self.steps)
    }
}
