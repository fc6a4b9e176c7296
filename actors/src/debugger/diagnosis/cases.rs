//! The diagnoses of real outputs. `cases/` has one file for each: the facts of the end, the two
//! outputs, and the expected diagnosis. Paths of the machine that made them are replaced.

use std::{cell::Cell, fmt::Write as _, fs, path::Path};

use ai_factory_schemas::limit::DIAGNOSIS_MESSAGE_CHARS_MAX;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A file of `cases/`.
struct RealOutput {
    name: String,
    facts: Vec<(String, String)>,
    stdout: String,
    stderr: String,
    expected: String,
}

impl RealOutput {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (facts, rest) = text.split_once("=== stdout\n").unwrap();
        let (stdout, rest) = rest.split_once("=== stderr\n").unwrap();
        let (stderr, expected) = rest.split_once("=== diagnosis\n").unwrap();
        let facts = facts.lines().filter_map(|line| line.split_once(": "));
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            expected: expected.to_owned(),
        }
    }

    fn fact(&self, name: &str) -> &str {
        self.facts.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn diagnosed(&self) -> Option<Diagnosed> {
        let files: Vec<_> = self.fact("files").split(' ').collect();
        diagnose(&FailedProgram {
            language: self.fact("language"),
            ended_by: serde_json::from_value(Value::from(self.fact("ended_by"))).unwrap(),
            exit_code: self.fact("exit_code").parse().unwrap(),
            signal: self.fact("signal").parse().ok(),
            stdout: &self.stdout,
            stderr: &self.stderr,
            is_file: &|path| files.contains(&path),
            has_workspace: false,
        })
    }
}

fn real_outputs() -> Vec<RealOutput> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/debugger/diagnosis/cases");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut outputs: Vec<_> = entries.map(|path| RealOutput::read(&path)).collect();
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    outputs
}

#[test]
fn real_outputs_have_the_diagnoses_that_a_person_would_give() {
    let outputs = real_outputs();
    assert!(outputs.len() >= 90, "{} outputs", outputs.len());
    let mut wrong = String::new();
    for output in &outputs {
        let found = output.diagnosed().map(|found| found.diagnosis);
        let found = serde_json::to_string_pretty(&found).unwrap();
        if found != output.expected.trim_end() {
            let _ = writeln!(wrong, "{}: {found}", output.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_programs_own_text_is_told_from_other_files() {
    for output in real_outputs() {
        let Some(found) = output.diagnosed() else { continue };
        let extension = match output.fact("language") {
            "python" => "main.py",
            "javascript" => "main.js",
            _ => "main.sh",
        };
        let is_program = found.diagnosis.file.as_deref() == Some(extension);
        assert_eq!(found.is_program, is_program, "{}", output.name);
    }
}

#[test]
fn a_success_and_an_end_from_outside_have_no_diagnosis() {
    for ended_by in [EndedBy::Exit, EndedBy::Cancel, EndedBy::Unsupported, EndedBy::Sandbox] {
        let end = FailedProgram {
            language: "python",
            ended_by,
            exit_code: 0,
            signal: None,
            stdout: "1 failed in 0.1s\n",
            stderr: "Traceback (most recent call last):\nValueError: x\n",
            is_file: &|_| false,
            has_workspace: false,
        };
        assert_eq!(diagnose(&end), None, "{ended_by:?}");
    }
}

#[test]
fn every_limit_has_a_kind_and_a_sentence() {
    for (ended_by, signal, kind, words) in [
        (EndedBy::Wall, None, FailureKind::Timeout, "wall time"),
        (EndedBy::Cpu, Some(24), FailureKind::Timeout, "Ended at its limit of 3 s"),
        (EndedBy::Memory, Some(9), FailureKind::Memory, "Ended at its limit of 3 s"),
        (EndedBy::Output, Some(9), FailureKind::Output, "output"),
        (EndedBy::Signal, Some(11), FailureKind::Signal, "SIGSEGV"),
        (EndedBy::Signal, Some(40), FailureKind::Signal, "signal 40"),
    ] {
        let end = FailedProgram {
            language: "javascript",
            ended_by,
            exit_code: 137,
            signal,
            stdout: "",
            stderr: "Ended at its limit of 3 s\n",
            is_file: &|_| false,
            has_workspace: false,
        };
        let found = diagnose(&end).unwrap().diagnosis;
        assert_eq!(found.kind, kind, "{ended_by:?}");
        assert!(found.message.contains(words), "{}", found.message);
    }
}

#[test]
fn an_excerpt_has_two_lines_on_either_side() {
    let source = "a\nb\nc\td\ne\nf\ng\n";
    let numbers = |line| excerpt(source, line).iter().map(|it| it.line).collect::<Vec<_>>();
    assert_eq!(numbers(3), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(1), [1, 2, 3]);
    assert_eq!(numbers(6), [4, 5, 6]);
    assert!(numbers(7).is_empty() && numbers(u32::MAX).is_empty());
    assert_eq!(excerpt(source, 3)[2].text, "c    d");
}

/// Outputs that lead every reader to all of their lines: what stands once, and what comes again and
/// again.
const HOSTILE: [(&str, &str); 12] = [
    ("ℹ fail 1\n✖ failing tests:\n", "✖ \n    at /a/b.js:1:1\n"),
    ("TAP version 13\n", "not ok 1 -  \n  stack: |-\n  f (/a/b.js:1:1)\n"),
    ("TAP version 13\nnot ok 1 - a\n", "  stack: |-\n  f (/a/b.js:1:1)\n"),
    ("  1 failing\n  1) a:\nError:\n", "more:\n    at /a/b.js:1:1\n"),
    ("  1 failing\n  1) a\n", "more\n"),
    ("test result: FAILED. 1 failed\n", "----  stdout ----\nx panicked at /a/b.rs:1:1:\n"),
    ("1 failed in 0.1s\n= FAILURES =\n", "E File \"/a/b.py\", line 1\nERROR .py\nE AError: x\n"),
    ("FAILED (failures=1)\n", "=====\nFAIL:  \n  File \"/a/b.py\", line 1\n"),
    ("Tests: 1 failed\nTest Suites: 1 failed\n", "  ●  \nFAIL  \n    at /a/b.js:1:1\n"),
    ("panic: x\n", "--- FAIL:  \n    /a/b.go:1: x\n"),
    ("", "/a/b.js:1\nx\n^\nError: x\n    at /a/b.js:1:1\n- /a/b.js\n"),
    (
        "Traceback (most recent call last):\n",
        "  File \"/a/b.py\", line 1\n# x\n/a/b.go:1:1: x\nerror: x\n --> /a/b.rs:1:1\n",
    ),
];

/// A reader that begins again at each line would look at a file billions of times.
#[test]
fn the_steps_of_every_reader_are_linear_in_the_lines() {
    const REPEATED: usize = 20_000;
    let mixed: String = HOSTILE.iter().map(|(_, repeated)| *repeated).collect();
    for (once, again) in HOSTILE.iter().flat_map(|(once, again)| [(once, *again), (once, &mixed)]) {
        let text = format!("{once}{}", again.repeat(REPEATED / again.lines().count()));
        let read: Vec<_> = text.lines().map(str::to_owned).collect();
        let asked = Cell::new(0_usize);
        let is_file = |_: &str| {
            asked.set(asked.get() + 1);
            false
        };
        let files = OwnFiles { language: "bash", is_file: &is_file, has_workspace: true };
        let found = [
            runner::find([&read, &[]], files),
            runner::find_not_run([&read, &[]], 4, files),
            python::find(&read, files),
            javascript::find(&read, files),
            shell::find(&read, 1, files),
            compiler::find(&read, files),
        ];
        assert!(asked.get() <= 20 * read.len(), "{once:?}: {} for {}", asked.get(), read.len());
        for message in found.into_iter().flatten().map(|found| found.message) {
            assert!(message.len() < 8_000, "{once:?}: {}", message.len());
        }
    }
}

/// Lines that readers look for, among arbitrary ones.
fn odd_text() -> impl Strategy<Value = String> {
    let known: Vec<String> = real_outputs()
        .iter()
        .flat_map(|it| {
            it.stdout.lines().chain(it.stderr.lines()).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let line = prop_oneof![
        4 => proptest::sample::select(known.clone()),
        1 => (proptest::sample::select(known), 0_usize..60).prop_map(|(line, at)| {
            line[line.floor_char_boundary(at)..].to_owned()
        }),
        1 => any::<String>(),
    ];
    proptest::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_output_has_a_diagnosis_within_the_limits(
        stdout in odd_text(),
        stderr in odd_text(),
        language in proptest::sample::select(vec!["python", "javascript", "bash"]),
        exit_code in proptest::sample::select(vec![1, 2, 4, 5, 101, 126, 127, 139]),
    ) {
        let end = FailedProgram {
            language,
            ended_by: EndedBy::Exit,
            exit_code,
            signal: None,
            stdout: &stdout,
            stderr: &stderr,
            is_file: &|path| path.len() % 2 == 0,
            has_workspace: false,
        };
        let found = diagnose(&end).unwrap().diagnosis;
        prop_assert!(!found.message.is_empty());
        prop_assert!(found.message.chars().count() <= DIAGNOSIS_MESSAGE_CHARS_MAX);
        prop_assert!(found.failing_tests.len() <= 50);
        let texts = [found.exception, found.missing, found.file];
        let all = texts.into_iter().flatten().chain(found.failing_tests).chain([found.message]);
        for text in all {
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
}
