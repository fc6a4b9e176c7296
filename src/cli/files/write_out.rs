//! Files of a session, written below a directory.

use std::{collections::BTreeMap, io::ErrorKind, path::Path};

use ai_factory_actors::workspace::patterns::ProtectedPaths;
use ai_factory_schemas::{
    session_files::SessionFiles,
    text::BlobHash,
    workspace::{FileChange, WorkspaceFile},
};

use super::{
    data_directory::DataDirectory,
    ignored::ignored,
    out_directory::{Applied, OutDirectory},
};
use crate::cli::{
    context::CommandContext,
    exit::{CommandError, Exit},
    output::Output,
    text::{self, first},
};

/// Protected files that are named in one sentence.
const PROTECTED_NAMED_MAX: usize = 20;

/// What was done below a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenOut {
    written: usize,
    removed: usize,
    /// Files that the session added and that ignore rules name.
    ignored: usize,
    /// Protected files that the session changed.
    protected: Vec<String>,
    /// The files that stay as they are, with the reason.
    kept: Vec<String>,
    /// Whether the disk refused one.
    has_failed: bool,
}

/// Opens a directory for files of a session.
pub(crate) fn open(path: &Path, context: &CommandContext) -> Result<OutDirectory, CommandError> {
    let data = DataDirectory::new(&context.settings().data_dir);
    OutDirectory::open(path, context.umask, data).map_err(|error| {
        let shown = text::path(path);
        match error.kind() {
            ErrorKind::NotADirectory => {
                CommandError::usage(format_args!("{shown} is not a folder"))
            }
            _ => CommandError::usage(format_args!("{shown} cannot be used for files: {error}")),
        }
    })
}

/// Carries out the changes of a session, but for those of files that `protect` covers, and writes
/// its other files that are not there.
pub(crate) async fn all(
    out: &OutDirectory,
    files: &SessionFiles,
    protect: &[String],
    content: impl AsyncFnMut(&str, WorkspaceFile) -> Result<Vec<u8>, CommandError>,
) -> Result<WrittenOut, CommandError> {
    let deleted = files.changes.iter().filter(|change| change.file.is_none()).cloned();
    let present = files.files.files.iter();
    let present = present.map(|(path, file)| FileChange { path: path.clone(), file: Some(*file) });
    let mut all: Vec<_> = deleted.chain(present).collect();
    let protected = protected_changes(&files.changes, protect)?;
    all.retain(|change| !protected.contains(&change.path));
    // What is not among the changes is as it came in.
    let mut came_in = files.files.clone();
    for change in &files.changes {
        came_in.files.remove(&change.path);
    }
    came_in.files.extend(files.before.files.iter().map(|(path, file)| (path.clone(), *file)));
    let came_in = came_in.files.into_iter().map(|(path, file)| (path, file.blob)).collect();
    let done = carry_out(out, &all, &came_in, content).await?;
    Ok(WrittenOut { protected, ..done })
}

/// Carries out the changes of a session, but for those of files that `protect` covers: a session
/// that ended before its check after the steps has not restored them.
pub(crate) async fn write_out(
    out: &OutDirectory,
    mut changes: Vec<FileChange>,
    protect: &[String],
    came_in: &BTreeMap<String, BlobHash>,
    content: impl AsyncFnMut(&str, WorkspaceFile) -> Result<Vec<u8>, CommandError>,
) -> Result<WrittenOut, CommandError> {
    let protected = protected_changes(&changes, protect)?;
    changes.retain(|change| !protected.contains(&change.path));
    let done = carry_out(out, &changes, came_in, content).await?;
    Ok(WrittenOut { protected, ..done })
}

/// The paths of changes that a pattern covers.
fn protected_changes(
    changes: &[FileChange],
    protect: &[String],
) -> Result<Vec<String>, CommandError> {
    let paths = ProtectedPaths::new(protect).map_err(CommandError::failed)?;
    let named = changes.iter().map(|change| &change.path);
    Ok(named.filter(|path| paths.covers(path)).cloned().collect())
}

/// Carries out changes, the deletions last and only if all else could be written; but those first
/// that make room, so that a folder can take the place of a file and the other way round. Files
/// that did not come in and that ignore rules of the directory name, such as build artefacts, are
/// not written. `content` gives the bytes of a file.
async fn carry_out(
    out: &OutDirectory,
    changes: &[FileChange],
    came_in: &BTreeMap<String, BlobHash>,
    mut content: impl AsyncFnMut(&str, WorkspaceFile) -> Result<Vec<u8>, CommandError>,
) -> Result<WrittenOut, CommandError> {
    let is_added =
        |change: &&FileChange| change.file.is_some() && !came_in.contains_key(&change.path);
    let added = changes.iter().filter(is_added).map(|change| change.path.as_str());
    let ignored = ignored(out.path(), added);
    let mut done = WrittenOut { ignored: ignored.len(), ..WrittenOut::default() };
    let changes = changes.iter().filter(|change| !ignored.contains(change.path.as_str()));
    let (deleted, set): (Vec<_>, Vec<_>) = changes.partition(|change| change.file.is_none());
    let is_in_the_way = |gone: &&FileChange| set.iter().any(|new| exclude(&gone.path, &new.path));
    let (in_the_way, deleted): (Vec<_>, Vec<_>) = deleted.into_iter().partition(is_in_the_way);
    for change in in_the_way.into_iter().chain(set.iter().copied()).chain(deleted) {
        let path = change.path.as_str();
        let bytes = async || match change.file {
            Some(file) => content(path, file).await.map_err(WriteFailure::Content),
            None => Ok(Vec::new()),
        };
        let is_deletion = change.file.is_none();
        let applied = if is_deletion && done.has_failed {
            Ok(Applied::Kept("it is not removed, since others could not be written".to_owned()))
        } else {
            out.apply(change, came_in.get(path).copied(), bytes).await
        };
        match applied {
            Ok(Applied::Written) => done.written += 1,
            Ok(Applied::Removed) => done.removed += 1,
            Ok(Applied::Same) => {}
            Ok(Applied::Kept(why)) => done.kept.push(format!("{}: {why}", out.shown(path))),
            Err(WriteFailure::Disk(error)) => {
                done.has_failed = true;
                done.kept.push(format!("{}: {error}", out.shown(path)));
            }
            Err(WriteFailure::Content(error)) => return Err(error),
        }
    }
    Ok(done)
}

/// Whether not both paths can be files at the same time.
fn exclude(a: &str, b: &str) -> bool {
    let is_above = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.starts_with('/'));
    is_above(a, b) || is_above(b, a)
}

/// Why a file could not be written.
enum WriteFailure {
    Content(CommandError),
    Disk(std::io::Error),
}

impl From<std::io::Error> for WriteFailure {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

impl WrittenOut {
    /// Says what was done and what was not; the exit code is that of a failure if something was
    /// not.
    pub(crate) fn report(&self, output: &Output, directory: &Path) -> Exit {
        let files = |count: usize| match count {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        };
        let removed = match self.removed {
            0 => String::new(),
            n => format!(", {} removed", files(n)),
        };
        let written = files(self.written);
        output.note(&format!("{written} written to {}{removed}", text::path(directory)));
        match self.ignored {
            0 => {}
            1 => output.note("1 ignored file is not written"),
            n => output.note(&format!("{n} ignored files are not written")),
        }
        if !self.protected.is_empty() {
            output.note(&protected_words(&self.protected));
        }
        for kept in &self.kept {
            output.error(&format!("not written: {kept}"));
        }
        if self.kept.is_empty() { Exit::DONE } else { Exit::FAILED }
    }
}

/// The protected files that stay as they are, in a sentence.
fn protected_words(paths: &[String]) -> String {
    let rest = |more| format!("{more} more");
    let named =
        first(paths.iter().map(|path| text::one_line(path)).collect(), PROTECTED_NAMED_MAX, rest);
    format!("protected files that the session changed are not written: {}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ai_factory_schemas::{id::SessionId, workspace::WorkspaceManifest};

    use super::*;

    fn file(content: &str) -> WorkspaceFile {
        let (blob, bytes) = (BlobHash::of(content.as_bytes()), content.len() as u64);
        WorkspaceFile { blob, bytes, executable: false }
    }

    fn change(path: &str, content: Option<&str>) -> FileChange {
        FileChange { path: path.to_owned(), file: content.map(file) }
    }

    fn out(dir: &Path) -> OutDirectory {
        let data = DataDirectory::new(Path::new("/nonexistent"));
        OutDirectory::open(dir, 0o022, data).unwrap()
    }

    fn waited<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn what_can_be_written_is_and_the_rest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for (path, content) in [("a", "mine"), ("b", "b"), ("d", "d"), ("e", "e")] {
            fs::write(at(path), content).unwrap();
        }
        let came_in =
            ["a", "b", "d", "e"].map(|name| (name.to_owned(), BlobHash::of(name.as_bytes())));
        let contents = [("a", "A"), ("b", "B"), ("c", "C"), ("d/x", "X")];
        let mut changes: Vec<_> =
            contents.iter().map(|(path, content)| change(path, Some(content))).collect();
        changes.insert(3, change("d", None));
        changes.push(change("e", None));
        let out = out(dir.path());
        let content = async |path: &str, _| {
            let (_, content) = contents.iter().find(|(known, _)| *known == path).unwrap();
            Ok(content.as_bytes().to_vec())
        };
        let done = waited(write_out(&out, changes, &[], &came_in.into(), content)).unwrap();
        assert_eq!((done.written, done.removed, done.kept.len()), (3, 2, 1));
        assert!(done.kept[0].ends_with("/a: it differs from what went in"), "{:?}", done.kept);
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        assert_eq!(
            (read("a"), read("b"), read("c"), read("d/x")),
            ("mine".into(), "B".into(), "C".into(), "X".into())
        );
        assert!(!at("e").exists());
    }

    #[test]
    fn ignored_files_are_written_only_if_they_came_in() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".gitignore"), "*.o\n").unwrap();
        fs::write(dir.path().join("in.o"), "in").unwrap();
        let changes = ["a", "b.o", "in.o", "x/c.o"].map(|path| change(path, Some("new"))).to_vec();
        let came_in = [("in.o".to_owned(), BlobHash::of(b"in"))].into();
        let content = async |_: &str, _| Ok(b"new".to_vec());
        let done = waited(write_out(&out(dir.path()), changes, &[], &came_in, content)).unwrap();
        assert_eq!((done.written, done.ignored, done.kept.len()), (2, 2, 0));
        assert!(!dir.path().join("b.o").exists() && !dir.path().join("x").exists());
    }

    #[test]
    fn protected_files_that_a_session_changed_never_come_out() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = |files: &[(&str, &str)]| WorkspaceManifest {
            files: files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect(),
        };
        let came_in = manifest(&[("a", "1"), ("tests/a", "1"), ("tests/b", "1"), ("tests/c", "c")]);
        let now = manifest(&[("a", "new"), ("tests/a", "new"), ("tests/c", "c"), ("tests/x", "x")]);
        fs::create_dir(dir.path().join("tests")).unwrap();
        for path in ["a", "tests/a", "tests/b"] {
            fs::write(dir.path().join(path), "1").unwrap();
        }
        let protect = ["tests/**".to_owned()];
        let content = async |path: &str, _| Ok(if path == "tests/c" { "c" } else { "new" }.into());
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).ok();
        let told = ["tests/a", "tests/b", "tests/x"];

        let hashes = came_in.files.iter().map(|(path, file)| (path.clone(), file.blob)).collect();
        let changes = came_in.changes_to(&now);
        let out = out(dir.path());
        let done = waited(write_out(&out, changes, &protect, &hashes, content)).unwrap();
        assert_eq!((done.written, done.removed, done.kept.len()), (1, 0, 0), "{done:?}");
        assert_eq!(done.protected, told);
        assert!(protected_words(&done.protected).ends_with("written: tests/a, tests/b, tests/x"));

        let files = SessionFiles::new(SessionId(uuid::Uuid::nil()), &came_in, now);
        let done = waited(all(&out, &files, &protect, content)).unwrap();
        assert_eq!((done.written, done.removed, done.kept.len()), (1, 0, 0), "{done:?}");
        assert_eq!(done.protected, told);
        assert_eq!((read("a"), read("tests/a")), (Some("new".into()), Some("1".into())));
        assert_eq!((read("tests/b"), read("tests/c")), (Some("1".into()), Some("c".into())));
        assert_eq!(read("tests/x"), None);
    }

    #[test]
    fn all_files_of_a_session_take_the_place_of_what_came_in() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = |files: &[(&str, &str)]| WorkspaceManifest {
            files: files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect(),
        };
        let came_in = manifest(&[("changed", "1"), ("gone", "2"), ("same", "3"), ("mine", "4")]);
        let now = manifest(&[("changed", "new"), ("same", "3"), ("mine", "4"), ("added", "new")]);
        for (path, text) in [("changed", "1"), ("gone", "2"), ("mine", "other")] {
            fs::write(dir.path().join(path), text).unwrap();
        }
        let files = SessionFiles::new(SessionId(uuid::Uuid::nil()), &came_in, now);
        let content = async |path: &str, _| Ok(if path == "same" { "3" } else { "new" }.into());
        let done = waited(all(&out(dir.path()), &files, &[], content)).unwrap();
        assert_eq!((done.written, done.removed, done.kept.len()), (3, 1, 1), "{done:?}");
        assert!(done.kept[0].contains("/mine: it differs"), "{done:?}");
        assert!(!dir.path().join("gone").exists());
        assert_eq!(fs::read_to_string(dir.path().join("changed")).unwrap(), "new");
    }

    #[test]
    fn a_file_that_the_disk_refuses_stops_no_other_and_nothing_is_removed_then() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "old").unwrap();
        // A name that is too long for the file system.
        let (first, long) = (change("a", Some("new")), change(&"x".repeat(256), Some("new")));
        let changes = vec![change("old", None), first, long, change("y", Some("new"))];
        let came_in = [("old".to_owned(), BlobHash::of(b"old"))].into();
        let content = async |_: &str, _| Ok(b"new".to_vec());
        let done = waited(write_out(&out(dir.path()), changes, &[], &came_in, content)).unwrap();
        assert_eq!((done.written, done.removed, done.kept.len()), (2, 0, 2), "{done:?}");
        assert!(done.kept[0].contains("xxx: File name too long"), "{done:?}");
        assert!(done.kept[1].contains("old: it is not removed"), "{done:?}");
        assert!(dir.path().join("old").exists() && dir.path().join("y").exists());
    }
}
