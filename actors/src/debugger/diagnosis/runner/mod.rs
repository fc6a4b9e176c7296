//! Failing tests, as test runners report them.

mod cargo;
mod go;
mod jest;
mod mocha;
mod node;
mod pytest;
mod unittest;

use ai_factory_schemas::{diagnosis::FailureKind, limit::DIAGNOSIS_TESTS_MAX};

use super::{
    finding::Finding,
    lines::cut,
    place::{OwnFiles, SourcePlace},
};

/// The longest name of a test, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Finds the report of one runner in an output.
type RunnerReader = fn(&[String], OwnFiles<'_>) -> Option<FailedTests>;

const READERS: [RunnerReader; 8] = [
    pytest::find,
    unittest::find,
    jest::find,
    mocha::find,
    node::find_tap,
    node::find_spec,
    cargo::find,
    go::find,
];

/// The failing tests of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct FailedTests {
    /// Their names; none twice.
    names: Vec<String>,
    /// Their number, which may be larger than that of the names.
    count: usize,
    /// What the first one says.
    message: Option<String>,
    /// Why no test of a file could begin: the failure of the file as a whole.
    broken: Option<(FailureKind, Option<String>)>,
    /// The exception's type.
    exception: Option<String>,
    /// Where the first one failed.
    place: Option<SourcePlace>,
}

impl FailedTests {
    /// Adds a name that is not there yet.
    fn add(&mut self, name: &str) {
        let name = cut(name.trim(), NAME_CHARS_MAX);
        if self.names.len() < DIAGNOSIS_TESTS_MAX && !name.is_empty() && !self.names.contains(&name)
        {
            self.names.push(name);
        }
    }

    fn finding(self, at: usize) -> Finding {
        let count = self.count.max(self.names.len());
        let failed = match count {
            1 => "1 test failed".to_owned(),
            count => format!("{count} tests failed"),
        };
        let first = self.names.first();
        let message = match (&self.broken, self.message, first) {
            (Some(_), Some(message), _) => message,
            (_, Some(message), Some(first)) => format!("{failed}; {first}: {message}"),
            (_, Some(message), None) => format!("{failed}: {message}"),
            (_, None, Some(first)) => format!("{failed}; the first is {first}"),
            (_, None, None) => failed,
        };
        let (kind, missing) = self.broken.unwrap_or((FailureKind::TestsFailed, None));
        let mut finding = Finding::new(at, kind, message);
        finding.missing = missing;
        finding.exception = self.exception;
        finding.place = self.place;
        finding.tests = self.names;
        finding
    }
}

/// The failing tests in one of the outputs, by the first runner that reports some.
pub(super) fn find(outputs: [&[String]; 2], files: OwnFiles<'_>) -> Option<Finding> {
    READERS.iter().find_map(|read| {
        let found = outputs.iter().find_map(|lines| read(lines, files));
        found.map(|tests| tests.finding(0))
    })
}

/// Why a test runner ran no test.
pub(super) fn find_not_run(
    outputs: [&[String]; 2],
    exit_code: i32,
    files: OwnFiles<'_>,
) -> Option<Finding> {
    let mut outputs = outputs.into_iter();
    outputs
        .find_map(|lines| pytest::not_run(lines, exit_code, files).or_else(|| jest::not_run(lines)))
}

/// The number before a word: `2` of `2 failed`.
fn count_before(text: &str, word: &str) -> Option<usize> {
    let before = text.split_once(word)?.0.trim_end();
    let begin = before
        .rfind(|char: char| !char.is_ascii_digit())
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    before[begin..].parse().ok()
}
