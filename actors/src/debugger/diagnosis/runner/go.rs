//! Reports of `go test`.

use std::collections::BTreeSet;

use super::{
    super::{
        lines::{has_extension, path_and_line},
        place::OwnFiles,
    },
    failed_tests::FailedTests,
};

/// The failing tests; a test with a failing part is named by the part.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let failed: Vec<_> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, name(line)?))).collect();
    let parents: BTreeSet<_> =
        failed.iter().filter_map(|(_, name)| name.rsplit_once('/').map(|it| it.0)).collect();
    let mut tests = FailedTests::default();
    for (at, name) in failed.iter().filter(|(_, name)| !parents.contains(name)) {
        if tests.count == 0 {
            let log = lines.iter().skip(at + 1).take_while(|line| line.starts_with("    "));
            let mut log = log.filter_map(|line| line.trim().split_once(": "));
            let first = log.find_map(|(at, text)| Some((path_and_line(at)?, text)));
            if let Some(((path, line), text)) = first {
                tests.message = Some(text.to_owned());
                tests.place = files.place(path, Some(line));
            }
        }
        tests.count += 1;
        tests.add(name);
    }
    if tests.message.is_none() {
        read_panic(lines, files, &mut tests);
    }
    (tests.count > 0).then_some(tests)
}

/// The name in `--- FAIL: TestName (0.00s)`.
fn name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("--- FAIL: ")?;
    Some(rest.rsplit_once(" (").map_or(rest, |(name, _)| name))
}

fn read_panic(lines: &[String], files: OwnFiles<'_>, tests: &mut FailedTests) {
    let Some(at) = lines.iter().position(|line| line.starts_with("panic: ")) else { return };
    let text = lines[at].trim_end_matches(" [recovered]");
    tests.message = Some(text.to_owned());
    let frames = lines.iter().skip(at).filter(|line| line.starts_with("    "));
    let frames = frames.filter_map(|line| path_and_line(line.trim().split(' ').next()?));
    tests.place = frames
        .filter(|(path, _)| has_extension(path, "go"))
        .find_map(|(path, line)| files.place(path, Some(line)));
}
