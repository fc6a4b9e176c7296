//! What a test runner reports of tests that failed.

use ai_factory_schemas::{diagnosis::FailureKind, limit::DIAGNOSIS_TESTS_MAX};

use super::super::{finding::FailureFinding, lines::cut, place::SourcePlace};

/// The longest name of a test, in characters.
const NAME_CHARS_MAX: usize = 200;

/// The failing tests of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FailedTests {
    /// Their names; none twice.
    pub(super) names: Vec<String>,
    /// Their number, which may be larger than that of the names.
    pub(super) count: usize,
    /// What the first one says.
    pub(super) message: Option<String>,
    /// Why no test of a file could begin: the failure of the file as a whole.
    pub(super) broken: Option<(FailureKind, Option<String>)>,
    /// The exception's type.
    pub(super) exception: Option<String>,
    /// Where the first one failed.
    pub(super) place: Option<SourcePlace>,
}

impl FailedTests {
    /// Adds a name that is neither blank nor there already. Returns whether it is the first, which
    /// one name at most is.
    pub(super) fn add(&mut self, name: &str) -> bool {
        if self.names.len() >= DIAGNOSIS_TESTS_MAX {
            return false;
        }
        let name = cut(name.trim(), NAME_CHARS_MAX);
        if name.is_empty() || self.names.contains(&name) {
            return false;
        }
        self.names.push(name);
        self.names.len() == 1
    }

    /// The finding for them.
    pub(super) fn finding(self, at: usize) -> FailureFinding {
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
        let mut finding = FailureFinding::new(at, kind, message);
        finding.missing = missing;
        finding.exception = self.exception;
        finding.place = self.place;
        finding.tests = self.names;
        finding
    }
}

/// The number before a word: `2` of `2 failed`.
pub(super) fn count_before(text: &str, word: &str) -> Option<usize> {
    let before = text.split_once(word)?.0.trim_end();
    let begin = before
        .rfind(|char: char| !char.is_ascii_digit())
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    before[begin..].parse().ok()
}
