//! Events as short phrases.

use ai_factory_schemas::{
    event::Event,
    goal::GoalEvent,
    memory::MemoryEvent,
    plan::PlanEvent,
    run::{EndedBy, RunEvent, RunStatus},
    session::{Resolution, SessionEnd, SessionEvent},
};

use super::{
    diagnosis_words::{brief, moment_word},
    line_words::{QUOTE_CHARS_MAX, changed, duration, files, quote},
    text::short,
    turn_words::{narrate_call, narrate_turn},
};

/// An event as one line, safe for a terminal.
pub(crate) fn narrate(event: &Event) -> String {
    match event {
        Event::Plan(PlanEvent::Proposed(e)) => {
            format!("planned {} for {}", steps(e.plan.steps.len()), quote(&e.prompt))
        }
        Event::Run(event) => narrate_run(event),
        Event::Memory(event) => narrate_memory(event),
        Event::Call(event) => narrate_call(event),
        Event::Session(event) => narrate_session(event),
        Event::Goal(GoalEvent::Rejected(e)) => {
            format!("rejected {}: {}", quote(&e.payload), short(&e.reason, QUOTE_CHARS_MAX))
        }
    }
}

fn narrate_memory(event: &MemoryEvent) -> String {
    match event {
        MemoryEvent::Remembered(e) => format!("remembered {}", quote(&e.text)),
        MemoryEvent::Forgotten(e) => format!("forgot the memory of position {}", e.position),
        MemoryEvent::Expired(e) => match e.memories {
            1 => format!("forgot 1 memory, up to position {}", e.upto),
            n => format!("forgot {n} memories, up to position {}", e.upto),
        },
    }
}

fn narrate_run(event: &RunEvent) -> String {
    match event {
        RunEvent::Requested(e) => format!("{} code handed in", short(&e.language, QUOTE_CHARS_MAX)),
        RunEvent::Dispatched(e) => format!("attempt {} begins", e.attempt),
        RunEvent::Finished(e) => {
            let end = &e.end;
            let ended = ended(end.status, end.exit_code, end.ended_by, "", end.duration_ms);
            match (&end.reason, &end.diagnosis) {
                (Some(reason), _) => format!("{ended}: {}", short(reason, QUOTE_CHARS_MAX)),
                (None, Some(diagnosis)) => format!("{ended}: {}", brief(diagnosis)),
                (None, None) => ended,
            }
        }
        RunEvent::Abandoned(e) => format!("abandoned: {}", short(&e.reason, QUOTE_CHARS_MAX)),
    }
}

fn narrate_session(event: &SessionEvent) -> String {
    match event {
        SessionEvent::Opened(e) => format!("opened for {}", quote(&e.goal)),
        SessionEvent::Planned(e) => format!(
            "planned {} by {}",
            steps(e.plan.steps.len()),
            short(&e.plan.model_name, QUOTE_CHARS_MAX)
        ),
        SessionEvent::Recalled(e) => match e.items.len() {
            1 => "recalled 1 memory".to_owned(),
            n => format!("recalled {n} memories"),
        },
        SessionEvent::StepDispatched(e) if e.attempt > 1 => {
            format!("step {}: begins again, attempt {}", e.step, e.attempt)
        }
        SessionEvent::StepDispatched(e) => format!("step {}: begins", e.step),
        SessionEvent::StepFinished(e) => {
            let is_silent = e.stdout.head().is_empty() && e.stderr.head().is_empty();
            let what = if is_silent { ", no output" } else { "" };
            let end = ended(e.status, e.exit_code, e.ended_by, what, e.duration_ms);
            format!("step {}: {end}{}", e.step, changed(e.workspace.as_ref()))
        }
        SessionEvent::StepSkipped(e) => {
            format!("step {}: skipped, {}", e.step, short(&e.reason, QUOTE_CHARS_MAX))
        }
        SessionEvent::StepFailed(e) => {
            format!("step {}: failed, {}", e.step, short(&e.reason, QUOTE_CHARS_MAX))
        }
        SessionEvent::StepUnknown(e) => format!(
            "step {}: how attempt {} ended is unknown; decide with `ai-factory resolve`",
            e.step, e.attempt
        ),
        SessionEvent::StepResolved(e) => match e.resolution {
            Resolution::Repeat => format!("step {}: to be run again", e.step),
            Resolution::Skip => format!("step {}: to be counted as failed", e.step),
        },
        SessionEvent::CheckDispatched(e) if e.attempt > 1 => {
            format!("check {}: begins again, attempt {}", moment_word(e.moment), e.attempt)
        }
        SessionEvent::CheckDispatched(e) => format!("check {}: begins", moment_word(e.moment)),
        SessionEvent::CheckFinished(e) => {
            let end = ended(e.status, e.exit_code, e.ended_by, "", e.duration_ms);
            let restored = e.restored.as_ref().map(|list| format!(", {} restored", files(list)));
            let why = e.diagnosis.as_ref().map(|diagnosis| format!(": {}", brief(diagnosis)));
            let (restored, why) = (restored.unwrap_or_default(), why.unwrap_or_default());
            format!("check {}: {end}{restored}{why}", moment_word(e.moment))
        }
        SessionEvent::TurnDispatched(_)
        | SessionEvent::TurnFinished(_)
        | SessionEvent::TurnFailed(_)
        | SessionEvent::ToolDispatched(_)
        | SessionEvent::ToolFinished(_)
        | SessionEvent::QuestionAsked(_)
        | SessionEvent::QuestionAnswered(_)
        | SessionEvent::BudgetChanged(_)
        | SessionEvent::Compacted(_) => narrate_turn(event).unwrap_or_default(),
        SessionEvent::Resumed(e) => format!("resumed ({})", e.count),
        SessionEvent::Concluded(e) => {
            let why = end_word(e.end);
            match &e.reason {
                Some(reason) => {
                    format!("{why}: {}, {}", e.status.as_str(), short(reason, QUOTE_CHARS_MAX))
                }
                None => format!("{why}: {}", e.status.as_str()),
            }
        }
    }
}

/// The reason of a session's end, as a word.
pub(crate) fn end_word(end: SessionEnd) -> &'static str {
    match end {
        SessionEnd::Completed => "completed",
        SessionEnd::Cancelled => "cancelled",
        SessionEnd::Expired => "out of time",
        SessionEnd::Failed => "failed",
    }
}

fn ended(status: RunStatus, exit_code: i32, by: EndedBy, what: &str, duration_ms: u64) -> String {
    let how = match by {
        EndedBy::Exit | EndedBy::Wall if exit_code == 0 || status == RunStatus::Timeout => {
            status.as_str().to_owned()
        }
        EndedBy::Exit => format!("{}, exit code {exit_code}", status.as_str()),
        EndedBy::Signal => format!("{}, ended by a signal ({exit_code})", status.as_str()),
        EndedBy::Wall => format!("{}, out of time", status.as_str()),
        EndedBy::Cpu => format!("{}, out of processor time", status.as_str()),
        EndedBy::Memory => format!("{}, out of memory", status.as_str()),
        EndedBy::Output => format!("{}, wrote too much", status.as_str()),
        EndedBy::Cancel => "cancelled".to_owned(),
        EndedBy::Unsupported => format!("{}, no interpreter for it", status.as_str()),
        EndedBy::Sandbox => format!("{}, the sandbox failed", status.as_str()),
    };
    format!("{how}{what}, {}", duration(duration_ms))
}

fn steps(count: usize) -> String {
    if count == 1 { "1 step".to_owned() } else { format!("{count} steps") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_with_what_caused_them() {
        let told = |status, code, by| ended(status, code, by, "", 5);
        assert_eq!(told(RunStatus::Success, 0, EndedBy::Exit), "success, 5 ms");
        assert_eq!(told(RunStatus::Error, 3, EndedBy::Exit), "error, exit code 3, 5 ms");
        assert_eq!(told(RunStatus::Timeout, 124, EndedBy::Wall), "timeout, 5 ms");
        assert_eq!(
            told(RunStatus::Error, 137, EndedBy::Signal),
            "error, ended by a signal (137), 5 ms"
        );
    }
}
