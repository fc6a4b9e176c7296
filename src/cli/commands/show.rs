//! `show`: the story of one session.

use ai_factory_schemas::{check::CheckMoment, session::Submitter};
use clap::Args;

use super::clock;
use crate::cli::{
    budget_words,
    colour::Colour,
    context::CommandContext,
    diagnosis_words::{in_full, moment_word},
    exit::{CommandError, Exit},
    files::changes,
    narrate::end_word,
    output::Output,
    session_lookup, silence,
    story::{self, StepStory, Story},
    table::TextTable,
    text::{one_line, short},
};

/// Length of a step's action in its heading, in characters.
const ACTION_CHARS_MAX: usize = 100;

/// Show one session: its plan, events and results.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The session: its id, its request's id (the newest session of several), its key, or the
    /// beginning of either id
    #[arg(value_name = "ID")]
    session: String,
}

impl ShowArgs {
    /// Prints it; with `--json`, the answer of `supervisor.session`.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let story = context.read(output, async |reader, _, _| {
            let row = session_lookup::find_session(reader, &self.session).await?;
            story::load(reader, row).await
        })?;
        if output.json {
            output.json(&story.told)?;
            return Ok(Exit::DONE);
        }
        header(output, &story)?;
        timeline(output, &story)?;
        checks(output, &story, CheckMoment::Before)?;
        for (step, came_of_it) in story.planned_steps() {
            let kind = step.code.as_ref().map(|code| format!(" ({})", one_line(&code.language)));
            let action = short(&step.action, ACTION_CHARS_MAX);
            let heading = format!("Step {}: {action}{}", step.index, kind.unwrap_or_default());
            output.line("")?;
            output.line(&output.painted(Colour::Bold, &heading))?;
            outcome(output, came_of_it)?;
        }
        checks(output, &story, CheckMoment::After)?;
        changed_files(output, &story)?;
        result(output, &story)?;
        Ok(Exit::DONE)
    }
}

fn header(output: &mut Output, story: &Story) -> std::io::Result<()> {
    let row = &story.told.row;
    output.line(&output.painted(Colour::Bold, &format!("Session {}", row.session_id)))?;
    let status = output.status(row.status.as_str());
    let end = row.end.map(|end| format!(" ({})", end_word(end))).unwrap_or_default();
    output.line(&format!("  status   {status}{end}"))?;
    output.line(&format!("  opened   {} UTC", clock(row.timestamp)))?;
    output.line(&format!("  request  {}", row.request_id))?;
    if let Some(Submitter { ingress, claims_to_be, proven_to_be }) = &story.told.submitted_by {
        let proven = proven_to_be.as_ref().map(|id| format!(", signed by {}", one_line(id)));
        let claims = claims_to_be
            .as_ref()
            .map(|name| format!(", by a sender that claims to be {}", one_line(name)));
        let (proven, claims) = (proven.unwrap_or_default(), claims.unwrap_or_default());
        output.line(&format!("  through  {}{proven}{claims}", ingress.as_str()))?;
    }
    if let Some(plan) = &story.told.plan {
        output.line(&format!(
            "  plan     {}, by {}",
            plan.task_type,
            one_line(&plan.model_name)
        ))?;
    }
    if !story.told.context.is_empty() {
        output.line(&format!("  recalled {}", story.told.context.len()))?;
    }
    if let Some(files) = &story.files {
        let (came_in, changed) = (files.tree.before.files.len(), files.tree.changes().len());
        output.line(&format!("  files    {came_in} came in, {changed} changed"))?;
    }
    if let Some(check) = &story.check {
        output.line(&format!("  check    {}", one_line(&check.language)))?;
        indented(output, &check.code)?;
    }
    if !story.protect.is_empty() {
        output.line(&format!("  protect  {}", one_line(&story.protect.join(", "))))?;
    }
    if let Some(model) = &story.told.model {
        for (name, text) in budget_words::model(model) {
            output.line(&format!("  {name:<8} {text}"))?;
        }
    }
    if let Some(question) = &story.told.question {
        output.line(&format!("  asks, until {} UTC", clock(question.expires)))?;
        indented(output, &question.question)?;
    }
    if let Some(waits_for) = &story.told.waits_for {
        output.line(&format!("  waits    {}", one_line(waits_for)))?;
    }
    if let Some(reason) = &story.told.reason {
        output.line(&format!("  reason   {}", one_line(reason)))?;
    }
    output.line("  goal")?;
    indented(output, &row.goal)
}

fn timeline(output: &mut Output, story: &Story) -> std::io::Result<()> {
    output.line("")?;
    let start = story.lines.first().map_or(0, |(time, ..)| *time);
    let mut table = TextTable::new(&["AFTER", "WHO", "WHAT"]);
    for (time, who, what) in &story.lines {
        let after_ms = time.saturating_sub(start) / 1_000;
        let after = format!("{}.{:03} s", after_ms / 1_000, after_ms % 1_000);
        table.row([after.as_str(), who, what]);
    }
    output.table(&table)
}

/// The checks of a moment: more than one if the session was interrupted.
fn checks(output: &mut Output, story: &Story, moment: CheckMoment) -> std::io::Result<()> {
    for check in story.checks.iter().filter(|check| check.moment == moment) {
        let heading = format!("Check {}", moment_word(moment));
        output.line("")?;
        output.line(&output.painted(Colour::Bold, &heading))?;
        outcome(output, &check.result)?;
    }
    Ok(())
}

/// What a session with a model answered.
fn result(output: &mut Output, story: &Story) -> std::io::Result<()> {
    let told = &story.told;
    if told.model.is_none() || told.row.end.is_none() {
        return Ok(());
    }
    output.line("")?;
    output.line(&output.painted(Colour::Bold, "Result"))?;
    indented(output, silence::of_model(&told.result, told.row.status))
}

/// What differs in the workspace from what came in.
fn changed_files(output: &mut Output, story: &Story) -> std::io::Result<()> {
    let Some(files) = &story.files else { return Ok(()) };
    let changed =
        changes::lines(&files.tree.changes(), |path| files.tree.before.files.contains_key(path));
    if changed.is_empty() {
        return Ok(());
    }
    output.line("")?;
    output.line(&output.painted(Colour::Bold, "Changed files"))?;
    listed(output, &changed)
}

/// Lines below a heading, each on one line.
fn listed(output: &mut Output, lines: &[String]) -> std::io::Result<()> {
    for line in lines {
        let line = output.shown(line).into_owned();
        output.line(&format!("  {line}"))?;
    }
    Ok(())
}

fn outcome(output: &mut Output, step: &StepStory) -> std::io::Result<()> {
    output.line(&format!("  {}", step.state.as_deref().unwrap_or("not reached")))?;
    for (name, text) in [("stdout", &step.stdout), ("stderr", &step.stderr)] {
        if !text.is_empty() {
            output.line(&format!("  {name}:"))?;
            indented(output, text)?;
        }
    }
    if let Some(diagnosis) = &step.diagnosis {
        output.line("  diagnosis:")?;
        indented(output, &in_full(diagnosis).join("\n"))?;
    }
    listed(output, &step.files)
}

fn indented(output: &mut Output, text: &str) -> std::io::Result<()> {
    let shown = output.shown(text).into_owned();
    for line in shown.lines() {
        output.line(&format!("    {line}"))?;
    }
    Ok(())
}
