//! Diagnoses and outcomes of checks in words.

use ai_factory_schemas::{
    answer::CheckOutcome,
    check::CheckMoment,
    diagnosis::{Diagnosis, FailureKind},
    id::SessionId,
    run::RunStatus,
};

use super::text::{first, one_line, short};

/// Quoted part of a message in one line, in characters.
const MESSAGE_CHARS_MAX: usize = 160;
/// Lines of a failed check's output that are shown.
const OUTPUT_LINES_MAX: usize = 20;
/// Failing tests of a check that a result shows.
const TESTS_SHOWN_MAX: usize = 10;

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
    placed(what, diagnosis)
}

/// The words with the place of the failure, if it is known.
fn placed(what: String, diagnosis: &Diagnosis) -> String {
    match place(diagnosis) {
        Some(place) => format!("{what} ({place})"),
        None => what,
    }
}

/// A diagnosis with all that is known, in lines.
pub(crate) fn in_full(diagnosis: &Diagnosis) -> Vec<String> {
    let mut lines = about(diagnosis);
    lines.extend(failing_tests(diagnosis));
    lines
}

/// The same without the failing tests.
fn about(diagnosis: &Diagnosis) -> Vec<String> {
    let mut lines = vec![headline(diagnosis)];
    if let Some(missing) = diagnosis.missing.as_deref().map(one_line)
        && !lines[0].contains(&missing)
    {
        lines.push(format!("missing: {missing}"));
    }
    let width = diagnosis.excerpt.last().map_or(1, |last| last.line.to_string().len());
    for source in &diagnosis.excerpt {
        let mark = if diagnosis.line == Some(source.line) { '>' } else { ' ' };
        // Indentation is part of the source.
        let text = super::text::lines(&source.text).replace('\n', " ");
        lines.push(format!("{mark} {:>width$} | {text}", source.line).trim_end().to_owned());
    }
    lines
}

fn failing_tests(diagnosis: &Diagnosis) -> impl Iterator<Item = String> {
    diagnosis.failing_tests.iter().map(|test| format!("failed: {}", one_line(test)))
}

/// The kind of a failure and what it is, each once.
fn headline(diagnosis: &Diagnosis) -> String {
    use FailureKind::{CommandNotFound, ExitCode, Memory, MissingModule, Output, Signal, Timeout};

    let (kind, what) = (kind_word(diagnosis.kind), brief(diagnosis));
    // The end of a message such as `No module named 'src'`.
    let named = diagnosis.message.trim_end_matches(|c: char| c.is_ascii_punctuation());
    match (diagnosis.kind, &diagnosis.missing) {
        // The message tells its kind.
        (ExitCode | Timeout | Memory | Output, _) => what,
        (Signal, _) if what.starts_with("ended by ") => what,
        (CommandNotFound, Some(missing)) => {
            format!("{kind}: {}", placed(one_line(missing), diagnosis))
        }
        (MissingModule, Some(missing)) if named.ends_with(missing.as_str()) => {
            format!("{kind}: {}", placed(one_line(missing), diagnosis))
        }
        _ if what.starts_with(kind) => what,
        _ => format!("{kind}: {what}"),
    }
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

/// The outcome of the last check of the session `id` in lines; of a failure with what is known
/// about it.
pub(crate) fn outcome(check: &CheckOutcome, id: SessionId) -> Vec<String> {
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
            let rest = |more| format!("and {more} more: `ai-factory show {id}`");
            let tests = first(failing_tests(diagnosis).collect(), TESTS_SHOWN_MAX, rest);
            lines.extend(about(diagnosis).iter().chain(&tests).map(|line| indented(line)));
        } else {
            let output = check.output.lines().take(OUTPUT_LINES_MAX);
            lines.extend(output.map(|line| indented(&super::text::lines(line))));
        }
    }
    if !check.changed_tests.is_empty() {
        lines.push(changed_tests(&check.changed_tests));
    }
    lines
}

/// The test files that the steps changed.
pub(crate) fn changed_tests(paths: &[String]) -> String {
    let tests: Vec<_> = paths.iter().map(|path| one_line(path)).collect();
    format!("the steps changed tests: {}", tests.join(", "))
}

fn indented(line: &str) -> String {
    format!("  {line}")
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::diagnosis::SourceLine;

    use super::*;

    const ID: SessionId = SessionId(uuid::Uuid::nil());

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
    fn a_failure_is_told_once() {
        use FailureKind as Kind;

        let told = |kind, message: &str, missing: Option<&str>| {
            let message = message.to_owned();
            let missing = missing.map(str::to_owned);
            let exception = (kind == FailureKind::MissingModule).then(|| "ImportError".to_owned());
            let (file, excerpt) = (None, Vec::new());
            in_full(&Diagnosis { kind, message, exception, missing, file, excerpt, ..diagnosis() })
        };
        for (kind, message, missing, line) in [
            (
                Kind::CommandNotFound,
                "pytest: command not found",
                Some("pytest"),
                "command not found: pytest",
            ),
            (
                Kind::MissingModule,
                "ModuleNotFoundError: No module named 'src'",
                Some("src"),
                "missing module: src",
            ),
            (
                Kind::MissingModule,
                "ImportError: cannot import name 'b' from 'a' (a.py)",
                Some("b"),
                "missing module: ImportError: cannot import name 'b' from 'a' (a.py)",
            ),
            (Kind::Signal, "ended by signal 9 (SIGKILL)", None, "ended by signal 9 (SIGKILL)"),
            (Kind::Signal, "Killed sleep 9", None, "ended by a signal: Killed sleep 9"),
            (
                Kind::Timeout,
                "did not end within its wall time limit",
                None,
                "did not end within its wall time limit",
            ),
            (Kind::ExitCode, "ERROR: no such file", None, "ERROR: no such file"),
        ] {
            assert_eq!(told(kind, message, missing), [line]);
        }
        let two = told(Kind::MissingModule, "cannot be imported here", Some("a.b"));
        assert_eq!(two[1], "missing: a.b");
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
        assert_eq!(outcome(&check, ID), ["check after the steps: passed"]);
        check.status = RunStatus::Error;
        check.exit_code = 1;
        check.output = "1 failed\n".to_owned();
        check.changed_tests = vec!["test_a.py".to_owned()];
        let expected = [
            "check after the steps: failed, exit code 1",
            "  1 failed",
            "the steps changed tests: test_a.py",
        ];
        assert_eq!(outcome(&check, ID), expected);
        check.diagnosis = Some(Diagnosis {
            kind: FailureKind::TestsFailed,
            message: "1 failed in 0.1 s".to_owned(),
            file: None,
            line: None,
            excerpt: Vec::new(),
            failing_tests: vec!["test_a.py::test_sum".to_owned()],
            ..diagnosis()
        });
        let lines = outcome(&check, ID);
        assert_eq!(lines[1], "  tests failed: 1 failed in 0.1 s");
        assert_eq!(lines[2], "  failed: test_a.py::test_sum");
        let tests = (0..12).map(|n| format!("test_{n}")).collect();
        check.diagnosis.as_mut().unwrap().failing_tests = tests;
        let lines = outcome(&check, ID);
        assert_eq!(lines[11], "  failed: test_9");
        assert_eq!(lines[12], format!("  and 2 more: `ai-factory show {ID}`"));
    }
}
