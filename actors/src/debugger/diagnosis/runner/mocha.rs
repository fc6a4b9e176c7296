//! Reports of Mocha.

use super::{
    super::{
        javascript::frame,
        lines::{exception, extend_message},
        place::OwnFiles,
    },
    failed_tests::FailedTests,
};

/// The failing tests after `2 failing`.
pub(super) fn find(lines: &[String], files: OwnFiles<'_>) -> Option<FailedTests> {
    let (begin, count) = lines.iter().enumerate().rev().find_map(|(at, line)| {
        let count = line.strip_prefix("  ")?.strip_suffix(" failing")?;
        Some((at + 1, count.parse::<usize>().ok()?))
    })?;
    let mut tests = FailedTests { count, ..FailedTests::default() };
    let mut title: Option<String> = None;
    for line in &lines[begin..] {
        let text = line.trim();
        if is_numbered(line) {
            title = Some(String::new());
        }
        let Some(words) = &mut title else {
            read_detail(text, line, files, &mut tests);
            continue;
        };
        if text.is_empty() {
            title = None;
            continue;
        }
        let part =
            if is_numbered(line) { text.split_once(") ").map_or("", |it| it.1) } else { text };
        let part = part.trim_end_matches(':');
        if words.is_empty() {
            words.push_str(part);
        } else {
            extend_message(words, &format!("› {part}"));
        }
        if text.ends_with(':') {
            tests.add(words);
            title = None;
        }
    }
    Some(tests)
}

/// `  1) title`.
fn is_numbered(line: &str) -> bool {
    let number =
        line.strip_prefix("  ").and_then(|it| it.split_once(") ")).map(|(number, _)| number);
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Message and place of the first failure.
fn read_detail(text: &str, line: &str, files: OwnFiles<'_>, tests: &mut FailedTests) {
    if tests.names.len() != 1 {
        return;
    }
    if let Some(message) = &mut tests.message
        && message.ends_with(':')
        && !text.is_empty()
    {
        extend_message(message, text);
    }
    if tests.message.is_none() && !text.is_empty() {
        tests.message = Some(text.to_owned());
        tests.exception = exception(text).map(|(name, _)| name.to_owned());
    }
    if tests.place.is_none()
        && let Some((path, line)) = frame(line)
    {
        tests.place = files.place(path, Some(line));
    }
}
