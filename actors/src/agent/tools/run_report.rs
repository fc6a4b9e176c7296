//! What a run did, in words for a model: its end, what went wrong, the files that it changed, and
//! its outputs.

use ai_factory_ports::journal::{Journal, ReadError};
use ai_factory_schemas::{
    diagnosis::{Diagnosis, FailureKind},
    run::{EndedBy, RunEnd},
    text::Text,
    workspace::{ChangeList, FileChange, WorkspaceEnd, WorkspaceManifest},
};

use crate::{agent::fences::FencedWriter, blobs::load_text};

/// The most changed files that are named.
const CHANGED_MAX: usize = 50;
/// The most names of what stayed out.
const LEFT_OUT_MAX: usize = 10;
/// The longest reason that is quoted, in characters.
const REASON_CHARS_MAX: usize = 500;

/// The complete outputs of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOutputs {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl RunOutputs {
    /// The outputs of a record, with those that are blobs loaded.
    pub async fn load(
        journal: &dyn Journal,
        stdout: &Text,
        stderr: &Text,
    ) -> Result<Self, ReadError> {
        let stdout = load_text(journal, stdout).await?;
        let stderr = load_text(journal, stderr).await?;
        Ok(Self { stdout, stderr })
    }
}

/// Writes the report of a run on `files` with this time limit.
pub(super) fn write(
    text: &mut FencedWriter<'_>,
    end: &RunEnd,
    outputs: &RunOutputs,
    files: &WorkspaceManifest,
    wall_ms_max: u64,
) {
    let reason = end.reason.as_ref().map(|reason| text.name(reason, REASON_CHARS_MAX));
    text.say(ended(end.ended_by, end.exit_code, wall_ms_max, reason.as_deref()));
    if let Some(diagnosis) = &end.diagnosis {
        write_diagnosis(text, diagnosis);
    }
    if let Some(workspace) = &end.workspace {
        write_changes(text, workspace, files);
    }
    write_outputs(text, outputs);
}

/// How a program ended, in one sentence.
pub fn ended(ended_by: EndedBy, exit_code: i32, wall_ms_max: u64, reason: Option<&str>) -> String {
    let seconds = wall_ms_max.div_ceil(1_000);
    match ended_by {
        EndedBy::Exit => format!("Exit code {exit_code}."),
        EndedBy::Signal => format!("A signal ended it: exit code {exit_code}."),
        EndedBy::Wall => format!("Stopped: it ran longer than {seconds} s."),
        EndedBy::Cpu => format!("Stopped: it used more than {seconds} s of processor time."),
        EndedBy::Memory => "Stopped: it used more memory than there is for it.".to_owned(),
        EndedBy::Output => "Stopped: it wrote far more output than is kept.".to_owned(),
        EndedBy::Cancel => "Cancelled before it ended.".to_owned(),
        EndedBy::Unsupported => {
            format!("Not run: the language is not installed here. {}", reason.unwrap_or_default())
        }
        EndedBy::Sandbox => format!(
            "Not run to its end: the sandbox of the factory failed, not your code. {}",
            reason.unwrap_or_default()
        ),
    }
}

fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Exception => "an exception that nothing caught",
        FailureKind::SyntaxError => "the program is not valid in its language",
        FailureKind::MissingModule => "a module is missing",
        FailureKind::CommandNotFound => "a command is missing",
        FailureKind::TestsFailed => "tests failed",
        FailureKind::Timeout => "the time limit",
        FailureKind::Memory => "the memory limit",
        FailureKind::Output => "the output limit",
        FailureKind::Signal => "a signal",
        FailureKind::ExitCode => "the exit code",
    }
}

/// Writes what went wrong.
pub fn write_diagnosis(text: &mut FencedWriter<'_>, diagnosis: &Diagnosis) {
    let Diagnosis { message, file, line, excerpt, failing_tests, .. } = diagnosis;
    text.say(format!("What went wrong: {}.", kind(diagnosis.kind)));
    let mut told = message.clone();
    match (file, line) {
        (Some(file), Some(line)) => told.push_str(&format!("\nin {file}, line {line}")),
        (Some(file), None) => told.push_str(&format!("\nin {file}")),
        (None, _) => {}
    }
    for around in excerpt {
        let mark = if Some(around.line) == *line { '>' } else { ' ' };
        told.push_str(&format!("\n{mark} {:>4} {}", around.line, around.text));
    }
    if !failing_tests.is_empty() {
        told.push_str(&format!("\nfailing tests:\n{}", failing_tests.join("\n")));
    }
    text.data(&told);
}

fn write_changes(text: &mut FencedWriter<'_>, end: &WorkspaceEnd, before: &WorkspaceManifest) {
    match &end.changes {
        Some(ChangeList::Inline(changes)) => {
            let lines = changes.iter().take(CHANGED_MAX).map(|change| changed(change, before));
            let lines: Vec<_> = lines.collect();
            let more = match changes.len().saturating_sub(CHANGED_MAX) {
                0 => String::new(),
                more => format!("; {more} more are not named"),
            };
            text.say(format!("Files that it changed{more}:"));
            text.data(&lines.join("\n"));
        }
        Some(list) => text.say(format!("It changed {} files.", list.len())),
        None => {}
    }
    if let Some(refused) = &end.refused {
        let reason = text.name(refused, REASON_CHARS_MAX);
        text.say(format!("None of its changes to files was taken: {reason}."));
    }
    if !end.left_out.is_empty() {
        let names = end.left_out.iter().take(LEFT_OUT_MAX);
        let names: Vec<_> = names.map(|left| format!("{}: {}", left.name, left.reason)).collect();
        text.say("What it made and cannot be kept:");
        text.data(&names.join("\n"));
    }
}

fn changed(FileChange { path, file }: &FileChange, before: &WorkspaceManifest) -> String {
    let was_there = before.files.contains_key(path);
    match file {
        None => format!("deleted {path}"),
        Some(file) if was_there => format!("changed {path} ({} bytes)", file.bytes),
        Some(file) => format!("new {path} ({} bytes)", file.bytes),
    }
}

/// Writes both outputs.
pub fn write_outputs(text: &mut FencedWriter<'_>, outputs: &RunOutputs) {
    let RunOutputs { stdout, stderr } = outputs;
    if stdout.is_empty() && stderr.is_empty() {
        text.say("It wrote nothing.");
    }
    for (name, output) in [("Standard output", stdout), ("Standard error", stderr)] {
        if !output.is_empty() {
            text.say(format!("{name}:"));
            text.output(output);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ai_factory_schemas::{
        diagnosis::SourceLine,
        run::{FileLeftOut, RunStatus},
    };

    use super::{super::files::tests::manifest, *};
    use crate::mask::Mask;

    /// A run that ended so, without outputs.
    pub(in super::super) fn ended(ended_by: EndedBy, exit_code: i32) -> RunEnd {
        RunEnd {
            status: if exit_code == 0 { RunStatus::Success } else { RunStatus::Error },
            exit_code,
            signal: None,
            ended_by,
            stdout: Text::default(),
            stderr: Text::default(),
            stdout_bytes: 0,
            stderr_bytes: 0,
            duration_ms: 1,
            isolation: None,
            files: Vec::new(),
            files_left_out: Vec::new(),
            reason: None,
            workspace: None,
            diagnosis: None,
        }
    }

    fn report(end: &RunEnd, stdout: &str, stderr: &str) -> String {
        let mask = Mask::default();
        let mut text = FencedWriter::new(&mask);
        let outputs = RunOutputs { stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        write(&mut text, end, &outputs, &manifest(&[("a", "1"), ("b", "2")]), 60_000);
        let text = text.finish().into_string();
        // The code of the fences, which follows from the text.
        let code = text.find("[data ").map(|at| text[at + 6..at + 14].to_owned());
        code.map_or_else(|| text.clone(), |code| text.replace(&code, "#"))
    }

    #[test]
    fn a_report_has_what_happened_and_nothing_else() {
        assert_eq!(report(&ended(EndedBy::Exit, 0), "", ""), "Exit code 0.\nIt wrote nothing.\n");
        let diagnosis = Diagnosis {
            kind: FailureKind::TestsFailed,
            message: "assert 3 == 4".to_owned(),
            exception: None,
            missing: None,
            file: Some("t.py".to_owned()),
            line: Some(2),
            excerpt: vec![
                SourceLine { line: 1, text: "def test():".to_owned() },
                SourceLine { line: 2, text: "    assert f() == 4".to_owned() },
            ],
            failing_tests: vec!["t.py::test".to_owned()],
        };
        let changes =
            manifest(&[("a", "1"), ("b", "2")]).changes_to(&manifest(&[("b", "3"), ("c", "")]));
        let workspace = WorkspaceEnd {
            changes: Some(ChangeList::Inline(changes)),
            refused: None,
            left_out: vec![FileLeftOut { name: "l".to_owned(), reason: "a link".to_owned() }],
        };
        let end = RunEnd {
            diagnosis: Some(Box::new(diagnosis)),
            workspace: Some(workspace),
            ..ended(EndedBy::Exit, 1)
        };
        let expected = "Exit code 1.\n\
            What went wrong: tests failed.\n\
            [data #]\nassert 3 == 4\nin t.py, line 2\n     1 def test():\n>    2     assert f() == 4\n\
            failing tests:\nt.py::test\n[end #]\n\
            Files that it changed:\n\
            [data #]\ndeleted a\nchanged b (1 bytes)\nnew c (0 bytes)\n[end #]\n\
            What it made and cannot be kept:\n[data #]\nl: a link\n[end #]\n\
            Standard output:\n[data #]\n1 failed\n[end #]\n\
            Standard error:\n[data #]\noh\n[end #]\n";
        assert_eq!(report(&end, "\u{1b}[31m1 failed\u{1b}[0m\n", "oh"), expected);
    }

    #[test]
    fn every_end_is_told_in_words_and_a_failure_of_the_factory_as_such() {
        for (end, words) in [
            (ended(EndedBy::Signal, 139), "A signal ended it: exit code 139."),
            (ended(EndedBy::Wall, 124), "it ran longer than 60 s"),
            (ended(EndedBy::Cpu, 137), "more than 60 s of processor time"),
            (ended(EndedBy::Memory, 137), "more memory"),
            (ended(EndedBy::Output, 1), "far more output"),
            (ended(EndedBy::Cancel, 1), "Cancelled"),
            (
                RunEnd {
                    reason: Some("these do: bash\n\u{1b}".to_owned()),
                    ..ended(EndedBy::Unsupported, 2)
                },
                "is not installed here. `these do: bash\\n\\\\u{1b}`",
            ),
            (ended(EndedBy::Sandbox, 1), "the sandbox of the factory failed, not your code"),
        ] {
            let text = report(&end, "", "");
            assert!(text.contains(words), "{text}");
        }
        let refused = WorkspaceEnd { refused: Some("too many".to_owned()), ..Default::default() };
        let end = RunEnd { workspace: Some(refused), ..ended(EndedBy::Exit, 0) };
        assert!(
            report(&end, "", "").contains("None of its changes to files was taken: `too many`.")
        );
    }

    #[test]
    fn many_changes_are_counted() {
        let files: Vec<_> = (0..60).map(|n| format!("f{n:02}")).collect();
        let files: Vec<_> = files.iter().map(|path| (path.as_str(), "")).collect();
        let changes = manifest(&[]).changes_to(&manifest(&files));
        let end = |changes| RunEnd {
            workspace: Some(WorkspaceEnd { changes: Some(changes), ..WorkspaceEnd::default() }),
            ..ended(EndedBy::Exit, 0)
        };
        let text = report(&end(ChangeList::Inline(changes)), "", "");
        assert!(
            text.contains("changed; 10 more are not named:") && text.contains("new f49"),
            "{text}"
        );
        let blob = ai_factory_schemas::text::BlobHash::of(b"");
        let text = report(&end(ChangeList::Blob { blob, changed: 700 }), "", "");
        assert!(text.contains("It changed 700 files."), "{text}");
    }
}
