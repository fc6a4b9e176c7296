//! Reports of `cargo test`.

use super::{
    super::{lines::path_and_line, place::OwnFiles},
    failed_tests::{FailedTests, count_before},
};

/// The failing tests of all test programs.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let results = lines.iter().filter(|line| line.starts_with("test result: FAILED."));
    let count = results.filter_map(|line| count_before(line, " failed")).sum();
    let mut tests = FailedTests { count, ..FailedTests::default() };
    if count == 0 {
        return None;
    }
    for (at, line) in lines.iter().enumerate() {
        let name = line.strip_prefix("---- ").and_then(|it| it.strip_suffix(" stdout ----"));
        let Some(name) = name else { continue };
        if tests.add(name) {
            let details = &lines[at + 1..];
            let end = details.iter().position(|line| line.starts_with("---- "));
            read_panic(&details[..end.unwrap_or(details.len())], files, &mut tests);
        }
    }
    for line in lines {
        let name = line.strip_prefix("test ").and_then(|it| it.strip_suffix(" ... FAILED"));
        tests.add(name.unwrap_or_default());
    }
    Some(tests)
}

/// Place and message of `thread 'x' panicked at path:line:column:`.
fn read_panic(lines: &[String], files: OwnFiles<'_>, tests: &mut FailedTests) {
    let mut panics = lines.iter().enumerate();
    let panic = panics.find_map(|(at, line)| Some((at, line.split_once(" panicked at ")?.1)));
    let Some((at, position)) = panic else { return };
    let place = path_and_line(position.trim_end_matches(':'));
    tests.place = place.and_then(|(path, line)| files.place(path, Some(line)));
    let text: Vec<_> = lines
        .iter()
        .skip(at + 1)
        .take(3)
        .map(|line| line.trim())
        .take_while(|line| !line.is_empty() && !line.starts_with("note: "))
        .collect();
    tests.message = (!text.is_empty()).then(|| text.join(", "));
}
