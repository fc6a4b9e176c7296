//! The check of a session: its state, and what its outcome means.

use ai_factory_schemas::{
    answer::CheckOutcome,
    check::{CheckFinished, CheckMoment},
    diagnosis::FailureKind,
    id::RunId,
    limit::TEXT_HEAD_BYTES_MAX,
    run::{EndedBy, RunStatus},
};

/// Exit codes of a command that could not be run, as shells and container engines use them.
const EXIT_NOT_RUN: std::ops::RangeInclusive<i32> = 125..=127;
/// The longest line of a check's output in a reason, in characters.
const REASON_LINE_CHARS_MAX: usize = 200;
/// Modules and commands that run tests: a check that lacks one says nothing about the goal. Other
/// missing modules may be what the steps are to make.
const TEST_RUNNERS: [&str; 13] = [
    "ava", "bats", "jasmine", "jest", "mocha", "nose", "nose2", "nox", "pytest", "tap", "tox",
    "unittest", "vitest",
];

/// The state of one of the two runs of a check.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CheckState {
    /// Not reached.
    #[default]
    Planned,
    /// Handed to the debugger, or about to be.
    Dispatched {
        /// The run.
        run_id: RunId,
        /// From 1.
        attempt: u32,
    },
    /// The run ended.
    Finished(Box<CheckFinished>),
}

impl CheckState {
    /// The run under way.
    pub(super) fn dispatched(&self) -> Option<(RunId, u32)> {
        match self {
            Self::Dispatched { run_id, attempt } => Some((*run_id, *attempt)),
            Self::Planned | Self::Finished(_) => None,
        }
    }

    /// The end of the run.
    pub(super) fn finished(&self) -> Option<&CheckFinished> {
        match self {
            Self::Finished(finished) => Some(finished),
            Self::Planned | Self::Dispatched { .. } => None,
        }
    }
}

/// The two runs of a session's check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionChecks {
    /// Before the first step.
    pub(super) before: CheckState,
    /// After the last step; with a model the last of its ends.
    pub(super) after: CheckState,
}

impl SessionChecks {
    pub(super) fn of_mut(&mut self, moment: CheckMoment) -> &mut CheckState {
        match moment {
            CheckMoment::Before => &mut self.before,
            CheckMoment::After => &mut self.after,
        }
    }

    /// The run under way, if one is.
    pub(super) fn dispatched(&self) -> Option<(CheckMoment, RunId, u32)> {
        let under_way = |moment, state: &CheckState| {
            state.dispatched().map(|(run_id, attempt)| (moment, run_id, attempt))
        };
        under_way(CheckMoment::Before, &self.before)
            .or_else(|| under_way(CheckMoment::After, &self.after))
    }

    /// Whether a turn has to wait: the check before the work did not end, or one is under way.
    pub(super) fn hold_turns(&self) -> bool {
        self.before.finished().is_none() || self.dispatched().is_some()
    }

    /// The last run that ended.
    pub(super) fn last(&self) -> Option<&CheckFinished> {
        self.after.finished().or_else(|| self.before.finished())
    }

    /// Whether the goal is done: the check after the steps exited with 0.
    pub(super) fn is_passed(&self) -> bool {
        self.after.finished().is_some_and(|end| end.status == RunStatus::Success)
    }

    /// Why the check says nothing about the goal: it cannot be run at all.
    pub(super) fn obstacle(&self) -> Option<String> {
        let end = self.before.finished()?;
        let is_unable = match end.ended_by {
            EndedBy::Wall | EndedBy::Cpu | EndedBy::Unsupported | EndedBy::Sandbox => true,
            EndedBy::Exit if EXIT_NOT_RUN.contains(&end.exit_code) => true,
            EndedBy::Exit => lacks_test_runner(end),
            EndedBy::Signal | EndedBy::Memory | EndedBy::Output | EndedBy::Cancel => false,
        };
        is_unable.then(|| format!("the check cannot be run: {}", cause(end)))
    }

    /// Why the check after the steps failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        let end = self.after.finished().filter(|end| end.status != RunStatus::Success)?;
        Some(format!("the check after the steps failed: {}", cause(end)))
    }
}

/// Whether the check failed because a test runner is not installed.
fn lacks_test_runner(end: &CheckFinished) -> bool {
    end.diagnosis.as_ref().is_some_and(|diagnosis| {
        matches!(diagnosis.kind, FailureKind::MissingModule | FailureKind::CommandNotFound)
            && diagnosis.missing.as_deref().is_some_and(|missing| TEST_RUNNERS.contains(&missing))
    })
}

/// What ended a check that failed, with what it said about it.
fn cause(end: &CheckFinished) -> String {
    let told = match &end.diagnosis {
        Some(diagnosis) => diagnosis.message.as_str(),
        None => last_line(end.stderr.head()).or(last_line(end.stdout.head())).unwrap_or_default(),
    };
    let told: String = told.chars().take(REASON_LINE_CHARS_MAX).collect();
    let ended = match end.ended_by {
        EndedBy::Exit | EndedBy::Signal => format!("exit code {}", end.exit_code),
        EndedBy::Wall => "it took longer than `check_wall_ms_max`".to_owned(),
        EndedBy::Cpu => "it used more processor time than `check_wall_ms_max`".to_owned(),
        EndedBy::Memory => "it used more memory than `run_memory_bytes_max`".to_owned(),
        EndedBy::Output => "it wrote far too much".to_owned(),
        EndedBy::Cancel => "it was cancelled".to_owned(),
        EndedBy::Unsupported => "its language is not there".to_owned(),
        EndedBy::Sandbox => "the sandbox failed".to_owned(),
    };
    if told.is_empty() { ended } else { format!("{ended}: {told}") }
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

/// The outcome of a check for an answer.
pub(super) fn outcome(end: &CheckFinished) -> CheckOutcome {
    let mut output = end.stdout.head().trim_end().to_owned();
    let stderr = end.stderr.head().trim_end();
    if !output.is_empty() && !stderr.is_empty() {
        output.push('\n');
    }
    output.push_str(stderr);
    output.truncate(output.floor_char_boundary(TEXT_HEAD_BYTES_MAX));
    CheckOutcome {
        moment: end.moment,
        status: end.status,
        exit_code: end.exit_code,
        output,
        changed_tests: end.changed_tests.clone(),
        diagnosis: end.diagnosis.clone(),
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{diagnosis::Diagnosis, text::Text};
    use uuid::Uuid;

    use super::*;

    fn ended(ended_by: EndedBy, exit_code: i32, stderr: &str) -> CheckFinished {
        CheckFinished {
            moment: CheckMoment::Before,
            run_id: RunId(Uuid::nil()),
            status: match (ended_by, exit_code) {
                (EndedBy::Exit, 0) => RunStatus::Success,
                (EndedBy::Wall, _) => RunStatus::Timeout,
                _ => RunStatus::Error,
            },
            exit_code,
            ended_by,
            stdout: Text::from("out\n"),
            stderr: Text::from(stderr),
            duration_ms: 1,
            restored: None,
            changed_tests: Vec::new(),
            diagnosis: None,
            turn: None,
        }
    }

    fn lacking(kind: FailureKind, missing: &str) -> CheckFinished {
        let diagnosis = Diagnosis {
            kind,
            message: format!("No module named {missing}"),
            exception: None,
            missing: Some(missing.to_owned()),
            file: None,
            line: None,
            excerpt: Vec::new(),
            failing_tests: Vec::new(),
        };
        CheckFinished { diagnosis: Some(diagnosis), ..ended(EndedBy::Exit, 1, "") }
    }

    fn obstacle(before: CheckFinished) -> Option<String> {
        let before = CheckState::Finished(Box::new(before));
        SessionChecks { before, ..SessionChecks::default() }.obstacle()
    }

    #[test]
    fn a_check_that_cannot_be_run_says_why_and_one_that_fails_only_informs() {
        for (end, words) in [
            (
                ended(EndedBy::Exit, 127, "x\nbash: pytest: command not found\n"),
                "command not found",
            ),
            (ended(EndedBy::Exit, 126, ""), "exit code 126: out"),
            (ended(EndedBy::Exit, 125, ""), "exit code 125"),
            (ended(EndedBy::Wall, 124, ""), "`check_wall_ms_max`"),
            (ended(EndedBy::Unsupported, 2, "Unsupported language: cobol"), "cobol"),
            (lacking(FailureKind::MissingModule, "pytest"), "No module named pytest"),
        ] {
            let told = obstacle(end).unwrap();
            assert!(told.contains("cannot be run") && told.contains(words), "{told}");
        }
        for end in [
            ended(EndedBy::Exit, 0, ""),
            ended(EndedBy::Exit, 1, "no"),
            ended(EndedBy::Exit, 124, ""),
            ended(EndedBy::Exit, 128, ""),
            ended(EndedBy::Memory, 137, ""),
            // The steps may be there to make it.
            lacking(FailureKind::MissingModule, "shop"),
            lacking(FailureKind::Exception, "pytest"),
        ] {
            assert_eq!(obstacle(end), None);
        }
    }

    #[test]
    fn an_outcome_has_the_beginning_of_both_outputs() {
        let told = outcome(&ended(EndedBy::Exit, 1, &"ä".repeat(TEXT_HEAD_BYTES_MAX)));
        assert!(told.output.starts_with("out\nä") && told.output.len() <= TEXT_HEAD_BYTES_MAX);
        assert_eq!(outcome(&ended(EndedBy::Exit, 1, "")).output, "out");
    }
}
