//! Reports of pytest.

use ai_factory_schemas::diagnosis::FailureKind;

use super::{
    super::{
        finding::FailureFinding,
        lines::{exception, has_extension, number, path_and_line},
        place::{OwnFiles, SourcePlace},
        python::missing,
    },
    failed_tests::{FailedTests, count_before},
};

/// pytest's exit code for a wrong command line or a broken `conftest.py`.
const USAGE: i32 = 4;
/// Its exit code if there was no test.
const NO_TESTS: i32 = 5;

/// The failing tests of the last summary.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let summary = lines.iter().rev().find_map(|line| counts(line))?;
    let (failed, errors) = summary;
    let mut tests = FailedTests { count: failed + errors, ..FailedTests::default() };
    if tests.count == 0 {
        return None;
    }
    for line in lines {
        let named = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "));
        let Some(named) = named.filter(|named| named.contains(".py")) else { continue };
        let (name, message) = split_summary(named);
        if tests.names.is_empty() {
            tests.message = message.map(str::to_owned);
        }
        tests.add(name);
    }
    let is_collected = failed > 0;
    read_first_section(lines, files, &mut tests, is_collected);
    Some(tests)
}

/// Why pytest ran no test: its command line, `conftest.py`, or nothing to run.
pub(super) fn not_run(
    lines: &[String],
    exit_code: i32,
    files: OwnFiles<'_>,
) -> Option<FailureFinding> {
    let conftest = lines.iter().position(|line| line.contains("while loading conftest"));
    if let Some(at) = conftest {
        let mut tests = FailedTests::default();
        read_first_section(&lines[at..], files, &mut tests, false);
        return tests.message.is_some().then(|| tests.finding(at));
    }
    let (at, message) = lines.iter().enumerate().find_map(|(at, line)| match exit_code {
        USAGE if line.contains(": error: ") => Some((at, line.as_str())),
        USAGE if line.starts_with("ERROR: ") && !line.contains("usage:") => {
            Some((at, line.as_str()))
        }
        NO_TESTS if line.contains("no tests ran") || line.contains("NO TESTS RAN") => {
            Some((at, "no tests were found"))
        }
        _ => None,
    })?;
    Some(FailureFinding::new(at, FailureKind::ExitCode, message))
}

/// The numbers of failures and errors in `== 2 failed, 1 passed in 0.03s ==`.
fn counts(line: &str) -> Option<(usize, usize)> {
    let text = line.trim_matches(['=', ' ']);
    let (outcomes, seconds) = text.rsplit_once(" in ")?;
    let is_summary = seconds.ends_with(['s', ')'])
        && seconds.starts_with(|char: char| char.is_ascii_digit())
        && text.starts_with(|char: char| char.is_ascii_digit());
    if !is_summary {
        return None;
    }
    let failed = count_before(outcomes, " failed");
    let errors = count_before(outcomes, " error");
    let passed = count_before(outcomes, " passed").or(count_before(outcomes, " skipped"));
    failed.or(errors).or(passed)?;
    Some((failed.unwrap_or_default(), errors.unwrap_or_default()))
}

/// Name and message of `path::test[a - b] - message`.
fn split_summary(text: &str) -> (&str, Option<&str>) {
    let bracket = text.find('[').filter(|at| text.find(" - ").is_none_or(|dash| *at < dash));
    let begin = bracket.and_then(|_| text.find("] - ")).map(|at| at + 1);
    match begin.or_else(|| text.find(" - ").filter(|_| bracket.is_none())) {
        Some(at) => (&text[..at], text.get(at + 3..)),
        None => (text, None),
    }
}

/// Place and message of the first failure. Of a file that could not be loaded, also why.
fn read_first_section(
    lines: &[String],
    files: OwnFiles<'_>,
    tests: &mut FailedTests,
    is_collected: bool,
) {
    let header = |line: &&String| {
        let title = line.trim_matches(['=', ' ']);
        line.starts_with('=') && matches!(title, "FAILURES" | "ERRORS")
    };
    let begin = lines.iter().position(|line| header(&line)).map_or(0, |at| at + 1);
    let mut sections = 0;
    let mut unloaded = None;
    for line in &lines[begin..] {
        let is_section = line.starts_with("____");
        sections += usize::from(is_section);
        // With `--tb=line` there are no sections: the first failure ends with its place.
        let is_next = sections == 0 && is_collected && tests.place.is_some();
        if sections > 1 || is_next || line.starts_with("====") {
            break;
        }
        if is_section && tests.names.is_empty() {
            tests.add(line.trim_matches(['_', ' ']));
        }
        let is_first = sections == 1 || tests.place.is_none();
        if let Some(place) = place(line, files).filter(|_| is_first) {
            tests.place = Some(place);
        }
        let Some(text) = line.strip_prefix("E ").map(str::trim) else { continue };
        let is_exception = exception(text)
            .filter(|(name, _)| name.ends_with("Error") || name.ends_with("Exception"));
        if let Some((name, rest)) = is_exception {
            unloaded = Some((name.to_owned(), missing(name, rest)));
            tests.exception = tests.exception.take().or(Some(name.to_owned()));
            if !is_collected {
                tests.message = Some(text.to_owned());
            }
        }
        tests.message = tests.message.take().or_else(|| Some(text.to_owned()));
    }
    if let Some((name, missing)) = unloaded.filter(|_| !is_collected) {
        tests.broken = match name.as_str() {
            "ModuleNotFoundError" | "ImportError" => Some((FailureKind::MissingModule, missing)),
            "SyntaxError" | "IndentationError" | "TabError" => {
                Some((FailureKind::SyntaxError, None))
            }
            _ => None,
        };
    }
}

/// The place in `path:5: AssertionError`, `E File "path", line 5` and `file path, line 5`.
fn place(line: &str, files: OwnFiles<'_>) -> Option<SourcePlace> {
    if let Some(quoted) = line.strip_prefix('E').map(str::trim_start) {
        let (path, rest) = quoted.strip_prefix("File \"")?.split_once("\", line ")?;
        return files.place(path, number(rest));
    }
    if let Some((path, rest)) = line.strip_prefix("file ").and_then(|it| it.split_once(", line ")) {
        return files.place(path, number(rest));
    }
    let position = line.split_once(": ").map_or(line, |(position, _)| position);
    let (path, line) = path_and_line(position).filter(|(path, _)| has_extension(path, "py"))?;
    files.place(path, Some(line)).filter(|_| !path.contains(' '))
}
