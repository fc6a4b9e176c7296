//! The story of one session, read from the journal: no running factory is needed.

use ai_factory_actors::session::story;
use ai_factory_schemas::{
    answer::{SessionRow, SessionStory},
    event::Event,
    plan::Plan,
    session::SessionEvent,
};

use super::{exit::CommandError, narrate::narrate};
use crate::wiring::Reader;

/// A session's story, and the result of each step.
pub(crate) struct Story {
    /// The answer of `supervisor.session`.
    pub(crate) told: SessionStory,
    /// Each event as its time, its category and a short phrase.
    pub(crate) lines: Vec<(i64, &'static str, String)>,
    /// The result of each step of the plan, in the plan's order.
    pub(crate) steps: Vec<StepStory>,
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
    for (index, stdout, stderr) in told.outputs {
        if let Some(step) = steps.get_mut(index) {
            (step.stdout, step.stderr) = (stdout, stderr);
        }
    }
    let mut lines = Vec::with_capacity(told.records.len());
    for recorded in &told.records {
        let what = narrate(&recorded.event);
        if let Event::Session(event) = &recorded.event
            && let Some(step) = step_of(event)
            && let Some(step) = steps.get_mut(step as usize)
        {
            let news = what.split_once(": ").map_or(what.as_str(), |(_, news)| news);
            step.state = Some(news.to_owned());
        }
        lines.push((recorded.time.as_micros(), recorded.stream.category.as_str(), what));
    }
    Ok(Story { told: told.story, lines, steps })
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

fn step_of(event: &SessionEvent) -> Option<u32> {
    Some(match event {
        SessionEvent::StepDispatched(e) => e.step,
        SessionEvent::StepFinished(e) => e.step,
        SessionEvent::StepSkipped(e) => e.step,
        SessionEvent::StepFailed(e) => e.step,
        SessionEvent::StepUnknown(e) => e.step,
        SessionEvent::StepResolved(e) => e.step,
        SessionEvent::Opened(_)
        | SessionEvent::Planned(_)
        | SessionEvent::Recalled(_)
        | SessionEvent::CheckDispatched(_)
        | SessionEvent::CheckFinished(_)
        | SessionEvent::Resumed(_)
        | SessionEvent::Concluded(_) => return None,
    })
}
