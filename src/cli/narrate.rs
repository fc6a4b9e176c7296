//! Events as short phrases.

use ai_factory_schemas::{
    event::Event,
    file::FileLeftOut,
    goal::GoalEvent,
    memory::MemoryEvent,
    plan::PlanEvent,
    run::{EndedBy, RunEvent, RunStatus},
    session::{Resolution, SessionEnd, SessionEvent},
    workspace::{ChangeList, WorkspaceEnd},
};

use super::{
    diagnosis_words::{brief, moment_word},
    text::{first, one_line, short},
    turn_words::{narrate_call, narrate_turn},
};

/// Quoted part of an external text in a line, in characters.
const QUOTE_CHARS_MAX: usize = 80;
/// Quoted part of a reason for which no change was taken, in characters.
const REFUSAL_CHARS_MAX: usize = 400;
/// Left out files that are named.
const LEFT_OUT_SHOWN_MAX: usize = 20;

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

/// What a run made of its workspace.
pub(super) fn changed(end: Option<&WorkspaceEnd>) -> String {
    let Some(end) = end else { return String::new() };
    let changed = end.changes.as_ref().map(|list| format!(", {} changed", files(list)));
    let refused = end.refused.as_ref().map(|why| {
        // The reason ends with what the line begins with.
        let why = why.strip_suffix(": no change is taken").unwrap_or(why);
        format!("; no change was taken: {}", short(why, REFUSAL_CHARS_MAX))
    });
    let left_out = match end.left_out.len() {
        0 => String::new(),
        n => format!("; {n} left out"),
    };
    format!("{}{}{left_out}", changed.unwrap_or_default(), refused.unwrap_or_default())
}

/// What a run left behind that never belongs to a workspace, in lines; of much the first names.
pub(crate) fn left_out(end: Option<&WorkspaceEnd>) -> Vec<String> {
    let left_out = end.map(|end| end.left_out.as_slice()).unwrap_or_default();
    let line = |file: &FileLeftOut| {
        let reason = short(&file.reason, QUOTE_CHARS_MAX);
        format!("left out: {}, {reason}", one_line(&file.name))
    };
    let lines = left_out.iter().map(line).collect();
    first(lines, LEFT_OUT_SHOWN_MAX, |more| format!("left out: {more} more"))
}

fn files(list: &ChangeList) -> String {
    match list.len() {
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
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

/// A duration for people.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

fn steps(count: usize) -> String {
    if count == 1 { "1 step".to_owned() } else { format!("{count} steps") }
}

/// A text in quotes, shortened.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", short(text, QUOTE_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::workspace::FileChange;

    use super::*;

    #[test]
    fn durations_have_a_unit_that_fits() {
        for (ms, text) in [(0, "0 ms"), (999, "999 ms"), (1_250, "1.2 s"), (61_000, "1 min 1 s")] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn what_a_run_made_of_its_workspace_is_told() {
        assert_eq!(changed(None), "");
        let change = FileChange { path: "a".to_owned(), file: None };
        let mut end = WorkspaceEnd {
            changes: Some(ChangeList::Inline(vec![change])),
            ..WorkspaceEnd::default()
        };
        assert_eq!(changed(Some(&end)), ", 1 file changed");
        end = WorkspaceEnd { refused: Some("too large".to_owned()), ..WorkspaceEnd::default() };
        assert_eq!(changed(Some(&end)), "; no change was taken: too large");
        end.refused = Some("\"a\" has 9 bytes: no change is taken".to_owned());
        assert_eq!(changed(Some(&end)), "; no change was taken: \"a\" has 9 bytes");
        let file = |n| FileLeftOut { name: format!("f{n}"), reason: "it is a link".to_owned() };
        end.left_out = (0..22).map(file).collect();
        let lines = left_out(Some(&end));
        assert_eq!((lines.len(), lines[0].as_str()), (21, "left out: f0, it is a link"));
        assert_eq!(lines[20], "left out: 2 more");
    }

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
