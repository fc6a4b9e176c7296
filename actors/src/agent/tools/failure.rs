//! The name of a failure: equal for the same program that fails the same way on the same files.

use ai_factory_schemas::{
    run::{EndedBy, RunEnd},
    text::BlobHash,
    workspace::WorkspaceManifest,
};

/// What was run.
pub(super) struct RanCode<'a> {
    /// The language.
    pub(super) language: &'a str,
    /// The program.
    pub(super) code: &'a str,
    /// Its standard input.
    pub(super) stdin: Option<&'a str>,
    /// The files that it ran on: a program that a file is repaired for is not the same program.
    pub(super) files: &'a WorkspaceManifest,
}

/// The name of the failure that `end` is. `stderr` is the complete text; times, addresses and other
/// numbers in it do not count.
pub(super) fn name(ran: &RanCode<'_>, end: &RunEnd, stderr: &str) -> BlobHash {
    let told = match &end.diagnosis {
        Some(diagnosis) => {
            let tests = diagnosis.failing_tests.join(" ");
            format!("{:?} {} {tests}", diagnosis.kind, diagnosis.message)
        }
        None => stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("").into(),
    };
    let ended: EndedBy = end.ended_by;
    let files = ran.files.to_blob().map(|blob| blob.hash().to_string()).unwrap_or_default();
    let parts = [
        ran.language,
        ran.code,
        ran.stdin.unwrap_or_default(),
        &files,
        &format!("{ended:?} {}", end.exit_code),
        &without_numbers(&told),
    ];
    // Lengths keep the parts apart.
    let parts: Vec<_> = parts.iter().map(|part| format!("{} {part}", part.len())).collect();
    BlobHash::of(parts.concat().as_bytes())
}

/// A text with one sign for each number; letters behind a digit that are hexadecimal belong to it.
fn without_numbers(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut in_number = false;
    for c in text.chars() {
        let continues = in_number && (c.is_ascii_hexdigit() || matches!(c, 'x' | '.' | ':'));
        if !continues {
            in_number = c.is_ascii_digit();
            bare.push(if in_number { '#' } else { c });
        }
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::{
        super::{files::tests::manifest, run_report::tests::ended},
        *,
    };

    fn failed(code: &str, file: &str, exit_code: i32, stderr: &str) -> BlobHash {
        let files = manifest(&[("a", file)]);
        let ran = RanCode { language: "python", code, stdin: None, files: &files };
        name(&ran, &ended(EndedBy::Exit, exit_code), stderr)
    }

    #[test]
    fn the_same_code_on_the_same_files_that_fails_the_same_way_has_one_name() {
        let one = failed("c", "f", 1, "at 0x7f3a21 after 0.21s\nValueError: no 3 at 10:02:11 \n\n");
        assert_eq!(one, failed("c", "f", 1, "ValueError: no 55 at 11:59:03"));
        for other in [
            failed("d", "f", 1, "ValueError: no 3 at 10:02:11"),
            failed("c", "g", 1, "ValueError: no 3 at 10:02:11"),
            failed("c", "f", 2, "ValueError: no 3 at 10:02:11"),
            failed("c", "f", 1, "KeyError: no 3 at 10:02:11"),
            failed("c", "f", 1, ""),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn numbers_addresses_and_times_do_not_count() {
        for (text, bare) in [
            ("<A object at 0x7f00ab> in 1.5s", "<A object at #> in #s"),
            ("2026-12-01T10:00:00Z", "#-#-#T#Z"),
            ("a1b", "a#"),
            ("no", "no"),
        ] {
            assert_eq!(without_numbers(text), bare);
        }
    }
}
