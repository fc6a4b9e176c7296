//! Files of a session, written below a directory.

use std::{collections::BTreeMap, path::Path};

use ai_factory_schemas::{
    answer::SessionFiles,
    text::BlobHash,
    workspace::{FileChange, WorkspaceFile},
};

use super::out_directory::{Applied, OutDirectory};
use crate::cli::{
    exit::{CommandError, Exit},
    output::Output,
    text::one_line,
};

/// What was done below a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenOut {
    written: usize,
    removed: usize,
    /// The files that stay as they are, with the reason.
    kept: Vec<String>,
}

/// Opens a directory for files of a session, and makes it if it is not there.
pub(crate) fn open(path: &Path, umask: u32) -> Result<OutDirectory, CommandError> {
    OutDirectory::open(path, umask).map_err(|error| {
        let shown = path.display();
        CommandError::usage(format_args!("{shown} cannot be used for files: {error}"))
    })
}

/// Writes all files of a session that are not there yet.
pub(crate) async fn all(
    out: &OutDirectory,
    files: &SessionFiles,
    content: impl AsyncFnMut(&str, WorkspaceFile) -> Result<Vec<u8>, CommandError>,
) -> Result<WrittenOut, CommandError> {
    let files = files.files.files.iter();
    let all: Vec<_> =
        files.map(|(path, file)| FileChange { path: path.clone(), file: Some(*file) }).collect();
    write_out(out, &all, &BTreeMap::new(), content).await
}

/// Carries out changes, the deletions first, so that a folder can take the place of a file and the
/// other way round. `content` gives the bytes of a file.
pub(crate) async fn write_out(
    out: &OutDirectory,
    changes: &[FileChange],
    came_in: &BTreeMap<String, BlobHash>,
    mut content: impl AsyncFnMut(&str, WorkspaceFile) -> Result<Vec<u8>, CommandError>,
) -> Result<WrittenOut, CommandError> {
    let mut done = WrittenOut::default();
    let (deleted, set): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.file.is_none());
    for change in deleted.into_iter().chain(set) {
        let path = change.path.as_str();
        let bytes = async || match change.file {
            Some(file) => content(path, file).await.map_err(WriteFailure::Content),
            None => Ok(Vec::new()),
        };
        let applied = out.apply(change, came_in.get(path).copied(), bytes).await;
        match applied.map_err(|failure| failure.told(out, path))? {
            Applied::Written => done.written += 1,
            Applied::Removed => done.removed += 1,
            Applied::Same => {}
            Applied::Kept(why) => done.kept.push(format!("{}: {why}", one_line(&out.shown(path)))),
        }
    }
    Ok(done)
}

/// Why a file could not be written.
enum WriteFailure {
    Content(CommandError),
    Disk(std::io::Error),
}

impl WriteFailure {
    fn told(self, out: &OutDirectory, path: &str) -> CommandError {
        match self {
            Self::Content(error) => error,
            Self::Disk(error) => {
                CommandError::failed(format_args!("{} cannot be written: {error}", out.shown(path)))
            }
        }
    }
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
        output.note(&format!("{written} written to {}{removed}", directory.display()));
        for kept in &self.kept {
            output.error(&format!("not written: {kept}"));
        }
        if self.kept.is_empty() { Exit::DONE } else { Exit::FAILED }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn change(path: &str, content: Option<&str>) -> FileChange {
        let file = |content: &str| WorkspaceFile {
            blob: BlobHash::of(content.as_bytes()),
            bytes: content.len() as u64,
            executable: false,
        };
        FileChange { path: path.to_owned(), file: content.map(file) }
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
        let out = open(dir.path(), 0o022).unwrap();
        let content = async |path: &str, _| {
            let (_, content) = contents.iter().find(|(known, _)| *known == path).unwrap();
            Ok(content.as_bytes().to_vec())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let done = runtime.block_on(write_out(&out, &changes, &came_in.into(), content)).unwrap();
        assert_eq!((done.written, done.removed, done.kept.len()), (3, 2, 1));
        assert!(done.kept[0].ends_with("/a: it differs from what went in"), "{:?}", done.kept);
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        assert_eq!(
            (read("a"), read("b"), read("c"), read("d/x")),
            ("mine".into(), "B".into(), "C".into(), "X".into())
        );
        assert!(!at("e").exists());
    }
}
