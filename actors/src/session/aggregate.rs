//! Result, status and summary of a session, computed from the outputs of its steps.

use ai_factory_schemas::{
    limit::SUMMARY_CHARS_MAX,
    run::RunStatus,
    session::{SessionEnd, SessionStatus},
};

use super::state::StepState;

/// Output of one step: its index, its stdout, its stderr.
pub type StepStreams<'a> = (usize, &'a str, &'a str);

/// The outputs as far as the records hold them inline.
pub fn heads(steps: &[StepState]) -> impl Iterator<Item = StepStreams<'_>> {
    steps.iter().enumerate().filter_map(|(index, step)| match step {
        StepState::Finished(finished) => {
            Some((index, finished.stdout.head(), finished.stderr.head()))
        }
        StepState::Failed(reason) => Some((index, "", reason.as_str())),
        _ => None,
    })
}

/// The outputs as `[step N] stdout:` and `[step N] stderr:` blocks; `no-op` if there are none.
pub fn result<'a>(outputs: impl Iterator<Item = StepStreams<'a>>) -> String {
    let mut blocks = Vec::new();
    for (index, stdout, stderr) in outputs {
        for (stream, text) in [("stdout", stdout), ("stderr", stderr)] {
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
        let outputs = [(0, "", ""), (1, "6765\n", ""), (2, "a\nb\n", "oops\n")];
        assert_eq!(
            result(outputs.into_iter()),
            "[step 1] stdout:\n6765\n[step 2] stdout:\na\nb\n[step 2] stderr:\noops"
        );
        assert_eq!(result([(0, " \n", "")].into_iter()), "no-op");
    }

    #[test]
    fn a_summary_is_cut_at_characters_not_bytes() {
        assert_eq!(summary("short"), "short");
        let long = "ü".repeat(SUMMARY_CHARS_MAX + 1);
        assert_eq!(summary(&long), format!("{}...", "ü".repeat(SUMMARY_CHARS_MAX)));
    }
}
