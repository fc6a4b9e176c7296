//! Failing tests, as test runners report them.

mod cargo;
mod failed_tests;
mod go;
mod jest;
mod mocha;
mod node;
mod pytest;
mod unittest;

use self::failed_tests::FailedTests;
use super::{finding::FailureFinding, place::OwnFiles};

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

/// The failing tests in one of the outputs, by the first runner that reports some.
pub(super) fn find(outputs: [&[String]; 2], files: OwnFiles<'_>) -> Option<FailureFinding> {
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
) -> Option<FailureFinding> {
    let mut outputs = outputs.into_iter();
    outputs
        .find_map(|lines| pytest::not_run(lines, exit_code, files).or_else(|| jest::not_run(lines)))
}
