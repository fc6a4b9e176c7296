//! Reports of Python's `unittest`.

use ai_factory_schemas::diagnosis::FailureKind;

use super::{
    super::{place::OwnFiles, python},
    failed_tests::FailedTests,
};

/// The class that stands in for a module that cannot be imported.
const UNLOADED: &str = "unittest.loader._FailedTest.";

/// The failing tests of the last summary.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let summary = lines.iter().rev().find(|line| line.starts_with("FAILED ("))?;
    let counts = summary["FAILED (".len()..].split(", ").filter_map(|part| {
        let (name, count) = part.split_once('=')?;
        let is_failure = matches!(name, "failures" | "errors");
        count.trim_end_matches(')').parse::<usize>().ok().filter(|_| is_failure)
    });
    let mut tests = FailedTests { count: counts.sum(), ..FailedTests::default() };
    let mut is_unloaded = true;
    let mut first: Option<&[String]> = None;
    for (at, line) in lines.iter().enumerate() {
        let is_header = at > 0 && lines[at - 1].starts_with("=====");
        let title = line.strip_prefix("FAIL: ").or_else(|| line.strip_prefix("ERROR: "));
        let Some(title) = title.filter(|_| is_header) else { continue };
        is_unloaded &= title.contains(UNLOADED);
        tests.add(&name(title));
        if first.is_none() {
            let rest = &lines[at + 1..];
            let end =
                rest.iter().position(|line| line.starts_with("=====") || line.starts_with("Ran "));
            first = rest.get(..end.unwrap_or(rest.len()));
        }
    }
    if let Some(found) = first.and_then(|section| python::find(section, files)) {
        let is_broken = is_unloaded
            && matches!(found.kind, FailureKind::MissingModule | FailureKind::SyntaxError);
        tests.broken = is_broken.then_some((found.kind, found.missing));
        (tests.message, tests.exception) = (Some(found.message), found.exception);
        tests.place = found.place;
    }
    Some(tests)
}

/// The dotted name in `test_a (module.Class.test_a)`; before Python 3.11 the method's is outside.
fn name(title: &str) -> String {
    let Some((method, class)) = title.split_once(" (") else { return title.to_owned() };
    let class = class.trim_end_matches(')');
    let class = class.strip_prefix(UNLOADED).unwrap_or(class);
    match class.rsplit('.').next() {
        Some(last) if last == method => class.to_owned(),
        _ => format!("{class}.{method}"),
    }
}
