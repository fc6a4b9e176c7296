//! Protected files: their restoration before the deciding check, and the test files that nobody
//! protected.

use ai_factory_schemas::workspace::{FileChange, WorkspaceManifest};

use super::{patterns::ProtectedPaths, tree::SessionTree};

/// The most test files that a record names; one more entry counts the rest.
const CHANGED_TESTS_MAX: usize = 100;

/// The files for a check, and what was done to get there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckedTree {
    /// The files, protected ones as they came in.
    pub(crate) files: WorkspaceManifest,
    /// The changes that restored them, sorted by path.
    pub(crate) restored: Vec<FileChange>,
    /// Test files that differ from what came in, sorted; the last entry counts what is left out.
    pub(crate) changed_tests: Vec<String>,
}

/// Restores the protected files: each is as it came in, and those that came later are gone.
pub(crate) fn restore(tree: &SessionTree, protected: &ProtectedPaths) -> CheckedTree {
    let mut files = tree.now.clone();
    files.files.retain(|path, _| tree.before.files.contains_key(path) || !protected.covers(path));
    for (path, file) in tree.before.files.iter().filter(|(path, _)| protected.covers(path)) {
        if files.files.get(path) == Some(file) {
            continue;
        }
        // What took its place: a file where its directory was, or a directory where it was.
        let below = format!("{path}/");
        files.files.retain(|other, _| {
            !other.starts_with(&below)
                && !path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
        files.files.insert(path.clone(), *file);
    }
    let restored = tree.now.changes_to(&files);
    let changed = tree.before.changes_to(&files);
    let changed_tests = changed.into_iter().map(|change| change.path).filter(|path| is_test(path));
    CheckedTree { restored, changed_tests: bounded(changed_tests.collect()), files }
}

fn bounded(mut paths: Vec<String>) -> Vec<String> {
    let more = paths.len().saturating_sub(CHANGED_TESTS_MAX);
    if more > 0 {
        paths.truncate(CHANGED_TESTS_MAX);
        paths.push(format!("… and {more} more"));
    }
    paths
}

/// Whether the usual test runners take the file for a test, or for a part of one.
fn is_test(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    name == "conftest.py"
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || name.contains(".test.")
        || name.contains(".spec.")
        || parts.any(|part| matches!(part, "test" | "tests" | "__tests__"))
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{text::BlobHash, workspace::WorkspaceFile};

    use super::*;

    fn manifest(files: &[(&str, &str)]) -> WorkspaceManifest {
        let file = |content: &str| WorkspaceFile {
            blob: BlobHash::of(content.as_bytes()),
            bytes: content.len() as u64,
            executable: false,
        };
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), file(content)));
        WorkspaceManifest { files: files.collect() }
    }

    fn checked(before: &[(&str, &str)], now: &[(&str, &str)], protect: &[&str]) -> CheckedTree {
        let tree = SessionTree { before: manifest(before), now: manifest(now) };
        let protect: Vec<_> = protect.iter().map(|pattern| (*pattern).to_owned()).collect();
        restore(&tree, &ProtectedPaths::new(&protect).unwrap())
    }

    fn restored(checked: &CheckedTree) -> Vec<&str> {
        checked.restored.iter().map(|change| change.path.as_str()).collect()
    }

    #[test]
    fn protected_files_are_as_they_came_in_and_new_ones_are_gone() {
        let before = [("src.py", "1"), ("tests/a.py", "a"), ("tests/b.py", "b")];
        let now = [("src.py", "2"), ("tests/a.py", "cheat"), ("tests/conftest.py", "new")];
        let checked = checked(&before, &now, &["tests/**"]);
        assert_eq!(
            checked.files,
            manifest(&[("src.py", "2"), ("tests/a.py", "a"), ("tests/b.py", "b")])
        );
        assert_eq!(restored(&checked), ["tests/a.py", "tests/b.py", "tests/conftest.py"]);
        assert!(checked.changed_tests.is_empty());
    }

    #[test]
    fn what_took_the_place_of_a_protected_file_goes() {
        let above = checked(&[("t/a", "1")], &[("t", "file")], &["t/*"]);
        assert_eq!(above.files, manifest(&[("t/a", "1")]));
        let below = checked(&[("t", "1"), ("t.x", "2")], &[("t/a/b", ""), ("t.x", "2")], &["t"]);
        assert_eq!(below.files, manifest(&[("t", "1"), ("t.x", "2")]));
        assert_eq!(restored(&below), ["t", "t/a/b"]);
    }

    #[test]
    fn test_files_that_changed_without_protection_are_named() {
        let before = [("test_a.py", "1"), ("src/app.spec.ts", "1"), ("kept/tests/x", "1")];
        let now = [
            ("test_a.py", "2"),
            ("conftest.py", ""),
            ("kept/tests/x", "1"),
            ("contest.py", ""),
            ("pkg/shop_test.go", ""),
        ];
        let unprotected = checked(&before, &now, &[]);
        assert!(unprotected.restored.is_empty());
        assert_eq!(
            unprotected.changed_tests,
            ["conftest.py", "pkg/shop_test.go", "src/app.spec.ts", "test_a.py"]
        );
        let many: Vec<_> = (0..150).map(|n| format!("tests/{n}")).collect();
        let many: Vec<_> = many.iter().map(|path| (path.as_str(), "")).collect();
        let named = checked(&[], &many, &[]).changed_tests;
        assert_eq!((named.len(), named[100].as_str()), (101, "… and 50 more"));
    }
}
