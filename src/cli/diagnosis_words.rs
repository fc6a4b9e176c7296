//! Diagnoses and outcomes of checks in words.

use ai_factory_schemas::{
    answer::CheckOutcome,
    check::CheckMoment,
    diagnosis::{Diagnosis, FailureKind},
    run::RunStatus,
};

use super::text::{one_line, short};

/// Quoted part of a message in one line, in characters.
const MESSAGE_CHARS_MAX: usize = 160;
/// Lines of a failed check's output that are shown.
const OUTPUT_LINES_MAX: usize = 20;

/// A diagnosis in one line: `ValueError: no such colour (app/paint.py:12)`.
pub(crate) fn brief(diagnosis: &Diagnosis) -> String {
    let message = short(&diagnosis.message, MESSAGE_CHARS_MAX);
    // What a test runner says of several tests is about more than the exception of one.
    let of_tests = diagnosis.kind == FailureKind::TestsFailed;
    let what = match &diagnosis.exception {
        Some(exception) if !of_tests && !message.starts_with(exception.as_str()) => {
            format!("{}: {message}", one_line(exception))
        }
        _ if message.is_empty() => kind_word(diagnosis.kind).to_owned(),
        _ => message,
    };
    match place(diagnosis) {
        Some(place) => format!("{what} ({place})"),
        None => what,
    }
}

/// A diagnosis with all that is known, in lines.
pub(crate) fn in_full(diagnosis: &Diagnosis) -> Vec<String> {
    let (kind, what) = (kind_word(diagnosis.kind), brief(diagnosis));
    let says_so = what.starts_with(kind);
    let mut lines = vec![if says_so { what } else { format!("{kind}: {what}") }];
    if let Some(missing) = &diagnosis.missing {
        lines.push(format!("missing: {}", one_line(missing)));
    }
    let width = diagnosis.excerpt.last().map_or(1, |last| last.line.to_string().len());
    for source in &diagnosis.excerpt {
        let mark = if diagnosis.line == Some(source.line) { '>' } else { ' ' };
        // Indentation is part of the source.
        let text = super::text::lines(&source.text).replace('\n', " ");
        lines.push(format!("{mark} {:>width$} | {text}", source.line).trim_end().to_owned());
    }
    lines.extend(diagnosis.failing_tests.iter().map(|test| format!("failed: {}", one_line(test))));
    lines
}

fn place(diagnosis: &Diagnosis) -> Option<String> {
    let file = one_line(diagnosis.file.as_ref()?);
    Some(diagnosis.line.map_or(file.clone(), |line| format!("{file}:{line}")))
}

fn kind_word(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Exception => "exception",
        FailureKind::SyntaxError => "syntax error",
        FailureKind::MissingModule => "missing module",
        FailureKind::CommandNotFound => "command not found",
        FailureKind::TestsFailed => "tests failed",
        FailureKind::Timeout => "out of time",
        FailureKind::Memory => "out of memory",
        FailureKind::Output => "wrote too much",
        FailureKind::Signal => "ended by a signal",
        FailureKind::ExitCode => "exit code",
    }
}

/// When a check runs, in words.
pub(crate) fn moment_word(moment: CheckMoment) -> &'static str {
    match moment {
        CheckMoment::Before => "before the steps",
        CheckMoment::After => "after the steps",
    }
}

/// The outcome of a session's last check in lines; of a failure with what is known about it.
pub(crate) fn outcome(check: &CheckOutcome) -> Vec<String> {
    let moment = moment_word(check.moment);
    let mut lines = match check.status {
        RunStatus::Success => vec![format!("check {moment}: passed")],
        RunStatus::Error => {
            vec![format!("check {moment}: failed, exit code {}", check.exit_code)]
        }
        RunStatus::Timeout => vec![format!("check {moment}: failed, out of time")],
    };
    if check.status != RunStatus::Success {
        if let Some(diagnosis) = &check.diagnosis {
            lines.extend(in_full(diagnosis).iter().map(|line| indented(line)));
        } else {
            let output = check.output.lines().take(OUTPUT_LINES_MAX);
            lines.extend(output.map(|line| indented(&super::text::lines(line))));
        }
    }
    if !check.changed_tests.is_empty() {
        let tests: Vec<_> = check.changed_tests.iter().map(|path| one_line(path)).collect();
        lines.push(format!("the steps changed tests: {}", tests.join(", ")));
    }
    lines
}

fn indented(line: &str) -> String {
    format!("  {line}")
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::diagnosis::SourceLine;

    use super::*;

    fn diagnosis() -> Diagnosis {
        let line = |line, text: &str| SourceLine { line, text: text.to_owned() };
        Diagnosis {
            kind: FailureKind::Exception,
            message: "no such \u{1b}[31mcolour".to_owned(),
            exception: Some("ValueError".to_owned()),
            missing: None,
            file: Some("paint.py".to_owned()),
            line: Some(10),
            excerpt: vec![line(9, "def f():"), line(10, "    raise ValueError(c)")],
            failing_tests: Vec::new(),
        }
    }

    #[test]
    fn a_diagnosis_names_what_failed_where_and_the_lines_around_it() {
        assert_eq!(brief(&diagnosis()), "ValueError: no such colour (paint.py:10)");
        let lines = in_full(&diagnosis());
        let expected = [
            "exception: ValueError: no such colour (paint.py:10)",
            "   9 | def f():",
            "> 10 |     raise ValueError(c)",
        ];
        assert_eq!(lines, expected);
        let plain = Diagnosis {
            kind: FailureKind::ExitCode,
            message: "exit code 3, without any output".to_owned(),
            exception: None,
            file: None,
            excerpt: Vec::new(),
            ..diagnosis()
        };
        assert_eq!(in_full(&plain), ["exit code 3, without any output"]);
    }

    #[test]
    fn a_check_is_told_with_what_it_found() {
        let mut check = CheckOutcome {
            moment: CheckMoment::After,
            status: RunStatus::Success,
            exit_code: 0,
            output: "1 passed\n".to_owned(),
            changed_tests: Vec::new(),
            diagnosis: None,
        };
        assert_eq!(outcome(&check), ["check after the steps: passed"]);
        check.status = RunStatus::Error;
        check.exit_code = 1;
        check.output = "1 failed\n".to_owned();
        check.changed_tests = vec!["test_a.py".to_owned()];
        let expected = [
            "check after the steps: failed, exit code 1",
            "  1 failed",
            "the steps changed tests: test_a.py",
        ];
        assert_eq!(outcome(&check), expected);
        check.diagnosis = Some(Diagnosis {
            kind: FailureKind::TestsFailed,
            message: "1 failed in 0.1 s".to_owned(),
            file: None,
            line: None,
            excerpt: Vec::new(),
            failing_tests: vec!["test_a.py::test_sum".to_owned()],
            ..diagnosis()
        });
        let lines = outcome(&check);
        assert_eq!(lines[1], "  tests failed: 1 failed in 0.1 s");
        assert_eq!(lines[2], "  failed: test_a.py::test_sum");
    }
}
