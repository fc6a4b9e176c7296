//! One session's story, told from the journal: no running factory is needed.

use ai_factory_actors::ports::journal::Journal;
use ai_factory_schemas::{
    answer::{SessionRow, SessionStory, TimelineEntry},
    envelope::Recorded,
    event::Event,
    plan::Plan,
    session::SessionEvent,
    text::Text,
};

use super::{exit::Failure, narrate::narrate};
use crate::wiring::Reader;

/// A session's story, and what each of its steps came to.
pub(crate) struct Story {
    /// As `supervisor.session` answers it.
    pub(crate) told: SessionStory,
    /// Each event in a few words: its time, its category, what happened.
    pub(crate) lines: Vec<(i64, &'static str, String)>,
    /// What came of each step of the plan, in the plan's order.
    pub(crate) steps: Vec<StepStory>,
}

/// What came of one step.
#[derive(Debug, Default)]
pub(crate) struct StepStory {
    /// The latest news of it; nothing where it was not reached.
    pub(crate) state: Option<String>,
    /// What it wrote.
    pub(crate) stdout: String,
    /// What it wrote.
    pub(crate) stderr: String,
}

/// Reads the session's stream and those of its runs.
pub(crate) async fn tell(reader: &Reader, row: SessionRow) -> Result<Story, Failure> {
    let id = row.session_id;
    let mut events = reader.journal.load(id.into(), 0).await?;
    for run in reader.views.runs_of_session(id).await? {
        events.extend(reader.journal.load(run.into(), 0).await?);
    }
    events.sort_by_key(|recorded| recorded.position);

    let mut story = Story {
        told: SessionStory {
            row,
            plan: None,
            context: Vec::new(),
            result: String::new(),
            summary: None,
            reason: None,
            timeline: Vec::with_capacity(events.len()),
        },
        lines: Vec::with_capacity(events.len()),
        steps: Vec::new(),
    };
    for recorded in &events {
        story.told.timeline.push(entry(recorded)?);
        let what = narrate(&recorded.event);
        story.lines.push((recorded.time.as_micros(), recorded.stream.category.as_str(), what));
        if let Event::Session(event) = &recorded.event {
            story.take(reader.journal.as_ref(), event, &recorded.event).await?;
        }
    }
    story.told.result = story.result();
    Ok(story)
}

impl Story {
    async fn take(
        &mut self,
        journal: &dyn Journal,
        event: &SessionEvent,
        whole: &Event,
    ) -> Result<(), Failure> {
        match event {
            SessionEvent::Planned(planned) => {
                self.steps.resize_with(planned.plan.steps.len(), StepStory::default);
                self.told.plan = Some(planned.plan.clone());
            }
            SessionEvent::Recalled(recalled) => {
                self.told.context = recalled.items.iter().map(|item| item.text.clone()).collect();
            }
            SessionEvent::StepFinished(step) => {
                let stdout = full(journal, &step.stdout).await?;
                let stderr = full(journal, &step.stderr).await?;
                if let Some(told) = self.steps.get_mut(step.step as usize) {
                    (told.stdout, told.stderr) = (stdout, stderr);
                }
            }
            SessionEvent::Concluded(end) => {
                self.told.summary = Some(end.summary.clone());
                self.told.reason.clone_from(&end.reason);
            }
            _ => {}
        }
        if let Some(step) = step_of(event)
            && let Some(told) = self.steps.get_mut(step as usize)
        {
            let narrated = narrate(whole);
            let news = narrated.split_once(": ").map_or(narrated.as_str(), |(_, news)| news);
            told.state = Some(news.to_owned());
        }
        Ok(())
    }

    /// The steps' outputs as `[step N] stdout:` and `[step N] stderr:` blocks, or `no-op`.
    fn result(&self) -> String {
        let mut blocks = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            for (name, text) in [("stdout", &step.stdout), ("stderr", &step.stderr)] {
                if !text.is_empty() {
                    blocks.push(format!("[step {index}] {name}:\n{}", text.trim_end_matches('\n')));
                }
            }
        }
        if blocks.is_empty() { "no-op".to_owned() } else { blocks.join("\n") }
    }

    /// The plan's steps beside what came of them.
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
        | SessionEvent::Resumed(_)
        | SessionEvent::Concluded(_) => return None,
    })
}

fn entry(recorded: &Recorded) -> Result<TimelineEntry, Failure> {
    let data = recorded.event.data().and_then(|data| serde_json::from_str(&data));
    Ok(TimelineEntry {
        position: recorded.position,
        time: recorded.time,
        stream: recorded.stream.to_string(),
        event: recorded.event.name().to_owned(),
        data: data.map_err(|error| {
            Failure::failed(format_args!("event {} cannot be shown: {error}", recorded.position))
        })?,
    })
}

/// The whole text, wherever it is kept.
async fn full(journal: &dyn Journal, text: &Text) -> Result<String, Failure> {
    let Some(hash) = text.blob() else { return Ok(text.head().to_owned()) };
    Ok(match journal.blob(hash).await? {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => format!("{}\n(the rest is missing: blob {hash} is not there)", text.head()),
    })
}
