//! Result, status and summary of a session, computed from the outputs of its steps.

use ai_factory_schemas::{
    limit::SUMMARY_CHARS_MAX,
    run::RunStatus,
    session::{SessionEnd, SessionStatus, StepFinished},
};

use super::state::StepState;

/// What one step left to tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepStreams<'a> {
    /// The step.
    pub index: usize,
    /// Its standard output.
    pub stdout: &'a str,
    /// Its standard error; the reason, if it could not be run.
    pub stderr: &'a str,
    /// Why none of its changes to the workspace was taken.
    pub refused: Option<&'a str>,
}

/// Why none of the step's changes to the workspace was taken, if that is so.
pub fn refused(step: &StepFinished) -> Option<&str> {
    step.workspace.as_ref()?.refused.as_deref()
}

/// The outputs as far as the records hold them inline.
pub fn heads(steps: &[StepState]) -> impl Iterator<Item = StepStreams<'_>> {
    steps.iter().enumerate().filter_map(|(index, step)| match step {
        StepState::Finished(finished) => Some(StepStreams {
            index,
            stdout: finished.stdout.head(),
            stderr: finished.stderr.head(),
            refused: refused(finished),
        }),
        StepState::Failed(reason) => {
            Some(StepStreams { index, stderr: reason, ..StepStreams::default() })
        }
        _ => None,
    })
}

/// The outputs as `[step N] stdout:`, `[step N] stderr:` and `[step N] workspace:` blocks; `no-op`
/// if there are none.
pub fn result<'a>(outputs: impl Iterator<Item = StepStreams<'a>>) -> String {
    let mut blocks = Vec::new();
    for StepStreams { index, stdout, stderr, refused } in outputs {
        let refused = refused.map(|why| format!("no change was taken: {why}"));
        let workspace = refused.as_deref().unwrap_or_default();
        for (stream, text) in [("stdout", stdout), ("stderr", stderr), ("workspace", workspace)] {
            let text = text.trim_end();
            if !text.is_empty() {
                blocks.push(format!("[step {index}] {stream}:\n{text}"));
            }
        }
    }
    if blocks.is_empty() { "no-op".to_owned() } else { blocks.join("\n") }
}

/// How a session went. Only steps that ran count; a step that could not be run counts as a failure,
/// and a session that could not continue is never a success.
pub fn status(end: SessionEnd, steps: &[StepState]) -> SessionStatus {
    let succeeded = steps
        .iter()
        .any(|step| matches!(step, StepState::Finished(run) if run.status == RunStatus::Success));
    let failed = steps.iter().any(|step| match step {
        StepState::Finished(run) => run.status != RunStatus::Success,
        StepState::Failed(_) => true,
        _ => false,
    });
    match (succeeded, failed || end != SessionEnd::Completed) {
        (_, false) => SessionStatus::Success,
        (true, true) => SessionStatus::Partial,
        (false, true) => SessionStatus::Error,
    }
}

/// Summary of a result: its first characters, then `...` if there are more.
pub fn summary(result: &str) -> String {
    match result.char_indices().nth(SUMMARY_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &result[..end]),
        None => result.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_name_step_and_stream_and_nothing_is_a_no_op() {
        let of = |index, stdout, stderr| StepStreams { index, stdout, stderr, refused: None };
        let refused = StepStreams { refused: Some("\"a\" is too large"), ..of(3, "c\n", "") };
        let outputs = [of(0, "", ""), of(1, "6765\n", ""), of(2, "a\nb\n", "oops\n"), refused];
        assert_eq!(
            result(outputs.into_iter()),
            "[step 1] stdout:\n6765\n[step 2] stdout:\na\nb\n[step 2] stderr:\noops\n\
             [step 3] stdout:\nc\n[step 3] workspace:\nno change was taken: \"a\" is too large"
        );
        assert_eq!(result([of(0, " \n", "")].into_iter()), "no-op");
    }

    #[test]
    fn a_summary_is_cut_at_characters_not_bytes() {
        assert_eq!(summary("short"), "short");
        let long = "ü".repeat(SUMMARY_CHARS_MAX + 1);
        assert_eq!(summary(&long), format!("{}...", "ü".repeat(SUMMARY_CHARS_MAX)));
    }
}
