//! Reports of Jest.

use ai_factory_schemas::diagnosis::FailureKind;

use super::{
    super::{
        finding::FailureFinding,
        javascript::frame,
        lines::{exception, quoted},
        place::OwnFiles,
    },
    failed_tests::{FailedTests, count_before},
};

/// The title of a file whose tests could not begin.
const UNLOADED: &str = "Test suite failed to run";

/// The failing tests, if the summary counts some.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let count = |begin: &str| {
        let line = lines.iter().rev().find(|line| line.starts_with(begin))?;
        count_before(line, " failed")
    };
    let (failed, suites) = (count("Tests: "), count("Test Suites: ")?);
    let mut tests = FailedTests { count: failed.unwrap_or(suites), ..FailedTests::default() };
    let mut suite = "";
    let mut first = None;
    for (at, line) in lines.iter().enumerate() {
        if let Some(path) = line.strip_prefix("FAIL ") {
            suite = path.trim().trim_start_matches("./");
        }
        let Some(title) = line.strip_prefix("  ● ") else { continue };
        tests.add(if title == UNLOADED { suite } else { title });
        first = first.or(Some(at + 1));
    }
    let details = &lines[first?..];
    let end = details.iter().position(|line| line.starts_with("  ● ") || line.starts_with("Test "));
    read_details(&details[..end.unwrap_or(details.len())], files, &mut tests);
    if failed.is_none() {
        let missing =
            tests.message.as_deref().filter(|text| text.starts_with("Cannot find module"));
        tests.broken =
            missing.map(|text| (FailureKind::MissingModule, quoted(text).map(str::to_owned)));
    }
    Some(tests)
}

/// Jest without a test file.
pub(super) fn not_run(lines: &[String]) -> Option<FailureFinding> {
    let at = lines.iter().position(|line| line.starts_with("No tests found, exiting"))?;
    Some(FailureFinding::new(at, FailureKind::ExitCode, "no tests were found"))
}

fn read_details(lines: &[String], files: OwnFiles<'_>, tests: &mut FailedTests) {
    let mut shown = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let Some(first) = shown.next() else { return };
    let mut message = first.to_owned();
    for text in
        shown.filter(|text| text.starts_with("Expected") || text.starts_with("Received")).take(2)
    {
        message = format!("{message}, {text}");
    }
    tests.exception =
        exception(first).map(|(name, _)| name.to_owned()).filter(|it| it.ends_with("Error"));
    tests.message = Some(message);
    let mut frames = lines.iter().filter_map(|line| frame(line));
    tests.place = frames.find_map(|(path, line)| files.place(path, Some(line)));
}
