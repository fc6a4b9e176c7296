//! Reports of `node --test` in both of its forms, and of other programs that print TAP.

use super::{
    super::{
        javascript::frame,
        lines::{exception, path_and_line},
        place::OwnFiles,
    },
    failed_tests::{FailedTests, count_before},
};

/// The directives of TAP for a test that may fail.
const DIRECTIVES: [&str; 2] = [" # SKIP", " # TODO"];
/// The most lines of a test's details; with more, none of them are read.
const DETAILS_LINES_MAX: usize = 200;

/// The failing tests of a TAP report.
pub(super) fn find_tap(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let is_tap =
        lines.iter().any(|line| line.starts_with("TAP version") || line.starts_with("1.."));
    let failed = lines.iter().enumerate().filter(|(_, line)| failed_name(line).is_some());
    let mut tests = FailedTests::default();
    for (at, line) in failed.filter(|_| is_tap) {
        let indent = line.len() - line.trim_start().len();
        let details = &lines[at + 1..];
        let end = details.iter().take(DETAILS_LINES_MAX).position(|line| is_end(line, indent));
        let details = &details[..end.unwrap_or(0)];
        if details.iter().any(|line| line.trim() == "failureType: 'subtestsFailed'") {
            continue;
        }
        tests.count += 1;
        if tests.add(failed_name(line).unwrap_or_default()) {
            read_details(details, files, &mut tests);
        }
    }
    (tests.count > 0).then_some(tests)
}

/// The name in `not ok 1 - name`; none for a test that may fail.
fn failed_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("not ok ")?;
    let name = rest.trim_start_matches(|char: char| char.is_ascii_digit()).trim_start();
    let name = name.strip_prefix("- ").unwrap_or(name);
    let may_fail = DIRECTIVES.iter().any(|directive| name.contains(directive));
    (!may_fail && !name.is_empty()).then_some(name)
}

/// Whether the details of a test with this indent are over.
fn is_end(line: &str, indent: usize) -> bool {
    let depth = line.len() - line.trim_start().len();
    let is_deeper = depth > indent || line.trim().is_empty();
    !is_deeper || (depth == indent + 2 && line.trim() == "...")
}

fn read_details(lines: &[String], files: OwnFiles<'_>, tests: &mut FailedTests) {
    let mut has_stack = false;
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("error: ") {
            let is_block = text.starts_with('|') || text.starts_with('>');
            let below = lines.iter().skip(at + 1).map(|line| line.trim());
            tests.message = if is_block { summary(below.take(8)) } else { Some(unquote(text)) };
        } else if let Some(name) = line.strip_prefix("name: ") {
            tests.exception = Some(unquote(name));
        } else if let Some(location) = line.strip_prefix("location: ") {
            let location = unquote(location);
            tests.place =
                path_and_line(&location).and_then(|(path, line)| files.place(path, Some(line)));
        } else if line.starts_with("stack: ") && !has_stack {
            has_stack = true;
            let own = lines.iter().skip(at + 1).find_map(|line| {
                frame(&format!("at {}", line.trim()))
                    .and_then(|(path, line)| files.place(path, Some(line)))
            });
            tests.place = own.or(tests.place.take());
        }
    }
}

/// The first two lines of a text that are not empty, up to the next key.
fn summary<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let is_key =
        |line: &&str| ["code: ", "name: ", "stack: "].iter().any(|key| line.starts_with(key));
    let texts: Vec<_> =
        lines.take_while(|line| !is_key(line)).filter(|line| !line.is_empty()).take(2).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

fn unquote(text: &str) -> String {
    text.trim_matches(['\'', '"']).to_owned()
}

/// The failing tests in the form for people.
pub(super) fn find_spec(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let count = lines.iter().rev().find_map(|line| line.strip_prefix("ℹ fail "))?;
    let count = count.trim().parse().ok().filter(|count| *count > 0)?;
    let mut tests = FailedTests { count, ..FailedTests::default() };
    let begin = lines.iter().rposition(|line| line == "✖ failing tests:")?;
    for (at, line) in lines.iter().enumerate().skip(begin + 1) {
        let Some(title) = line.strip_prefix("✖ ") else { continue };
        let is_timed = count_before(title, "ms)").is_some();
        let name = title.rsplit_once(" (").filter(|_| is_timed).map_or(title, |(name, _)| name);
        if tests.add(name) {
            let details = &lines[at + 1..];
            let end = details.iter().position(|line| line.starts_with("test at "));
            read_spec_details(&details[..end.unwrap_or(details.len())], files, &mut tests);
        }
    }
    Some(tests)
}

fn read_spec_details(lines: &[String], files: OwnFiles<'_>, tests: &mut FailedTests) {
    tests.message =
        summary(lines.iter().map(|line| line.trim()).take_while(|line| !line.starts_with("at ")));
    tests.exception = tests.message.as_deref().and_then(exception).map(|(name, _)| name.to_owned());
    let mut frames = lines.iter().filter_map(|line| frame(line));
    tests.place = frames.find_map(|(path, line)| files.place(path, Some(line)));
}
