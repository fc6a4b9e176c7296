//! A session's workspace: its files by content hash, and the changes that its runs make.
//!
//! *Promises.* A manifest has one encoding, so one set of files has one hash. Events hold changed
//! paths only; contents are raw blobs under their hash.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    file::{FileLeftOut, check_name, check_names},
    limit::{
        TEXT_INLINE_BYTES_MAX, WORKSPACE_BYTES_MAX, WORKSPACE_FILE_BYTES_MAX, WORKSPACE_FILES_MAX,
    },
    text::{Blob, BlobHash},
};

/// Files and directories with these names never belong to a workspace, nor does what is below them:
/// the data of version control, caches, installed packages.
pub const EXCLUDED_NAMES: [&str; 7] =
    [".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__", "node_modules"];
/// Files whose names end so never belong to a workspace.
pub const EXCLUDED_ENDINGS: [&str; 1] = [".pyc"];
/// The file that marks a directory as a virtual environment: the whole directory does not belong to
/// a workspace.
pub const ENVIRONMENT_MARK: &str = "pyvenv.cfg";

/// Whether a path, with `/` between its parts, never belongs to a workspace because of its name. A
/// directory with an [`ENVIRONMENT_MARK`] is excluded, too, which only a look into it can tell.
pub fn is_excluded(path: &str) -> bool {
    path.split('/').any(|part| {
        part == ENVIRONMENT_MARK
            || EXCLUDED_NAMES.contains(&part)
            || EXCLUDED_ENDINGS.iter().any(|ending| part.ends_with(ending))
    })
}

/// Whether the path may be that of a file in a workspace: [allowed](check_name) and not
/// [excluded](is_excluded).
///
/// # Errors
/// The fault, as the end of a sentence that begins with the path.
pub fn check_path(path: &str) -> Result<(), String> {
    check_name(path)?;
    if is_excluded(path) {
        let rule = "does not belong to a workspace, like all data of version control, caches and installed packages: \
                    leave it out";
        return Err(rule.to_owned());
    }
    Ok(())
}

/// What a workspace may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceLimits {
    /// The most files.
    pub files_max: usize,
    /// The largest file, in bytes.
    pub file_bytes_max: u64,
    /// All files together, in bytes.
    pub bytes_max: u64,
}

impl Default for WorkspaceLimits {
    fn default() -> Self {
        Self {
            files_max: WORKSPACE_FILES_MAX,
            file_bytes_max: WORKSPACE_FILE_BYTES_MAX,
            bytes_max: WORKSPACE_BYTES_MAX,
        }
    }
}

/// One file of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceFile {
    /// The hash of its content, a raw blob.
    #[serde(rename = "hash")]
    pub blob: BlobHash,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it can be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// The files of a workspace by their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WorkspaceManifest {
    /// Paths as [`check_name`] allows them.
    pub files: BTreeMap<String, WorkspaceFile>,
}

impl WorkspaceManifest {
    /// The size of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    /// The manifest as a blob: JSON with the paths in byte order.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_blob(&self) -> Result<Blob, serde_json::Error> {
        Ok(Blob::new(serde_json::to_vec(self)?))
    }

    /// The manifest in a blob.
    ///
    /// # Errors
    /// If the bytes are no manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Whether all paths are allowed beside each other, none [is excluded](is_excluded), and the
    /// limits hold.
    ///
    /// # Errors
    /// The fault, as the end of a sentence that begins with the holder of the files.
    pub fn check(&self, limits: &WorkspaceLimits) -> Result<(), String> {
        let WorkspaceLimits { files_max, file_bytes_max, bytes_max } = *limits;
        if self.files.len() > files_max {
            return Err(format!("has {} files: at most {files_max}", self.files.len()));
        }
        for (path, file) in &self.files {
            check_path(path).map_err(|fault| format!("has the path {path:?}, which {fault}"))?;
            if file.bytes > file_bytes_max {
                let bytes = file.bytes;
                return Err(format!(
                    "has {path:?} of {bytes} bytes: at most {file_bytes_max} each"
                ));
            }
        }
        check_names(self.files.keys().map(String::as_str))?;
        match self.bytes() {
            bytes if bytes > bytes_max => {
                Err(format!("has {bytes} bytes in all: at most {bytes_max}"))
            }
            _ => Ok(()),
        }
    }

    /// Applies changes in their order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = FileChange>) {
        for FileChange { path, file } in changes {
            match file {
                Some(file) => self.files.insert(path, file),
                None => self.files.remove(&path),
            };
        }
    }

    /// The changes that make `after` of this, sorted by path.
    pub fn changes_to(&self, after: &Self) -> Vec<FileChange> {
        let gone = self.files.keys().filter(|path| !after.files.contains_key(*path));
        let gone = gone.map(|path| FileChange { path: path.clone(), file: None });
        let set = after.files.iter().filter(|(path, file)| self.files.get(*path) != Some(*file));
        let set = set.map(|(path, file)| FileChange { path: path.clone(), file: Some(*file) });
        let mut changes: Vec<_> = gone.chain(set).collect();
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        changes
    }
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileChange {
    /// The path.
    pub path: String,
    /// The file that is there now; absent if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<WorkspaceFile>,
}

/// Changed paths in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ChangeList {
    /// The changes themselves, at most [`TEXT_INLINE_BYTES_MAX`] as JSON.
    Inline(Vec<FileChange>),
    /// A longer list, stored as a blob of JSON.
    Blob {
        /// The hash of the list's JSON.
        blob: BlobHash,
        /// The number of changes.
        changed: u32,
    },
}

impl ChangeList {
    /// `changes` for a record; the second value is the blob to store with it, if one is needed.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn new(changes: Vec<FileChange>) -> Result<(Self, Option<Blob>), serde_json::Error> {
        let json = serde_json::to_vec(&changes)?;
        if json.len() <= TEXT_INLINE_BYTES_MAX {
            return Ok((Self::Inline(changes), None));
        }
        let (blob, count) = (Blob::new(json), u32::try_from(changes.len()).unwrap_or(u32::MAX));
        Ok((Self::Blob { blob: blob.hash(), changed: count }, Some(blob)))
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(changes) => changes.len(),
            Self::Blob { changed, .. } => *changed as usize,
        }
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A workspace in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceRef {
    /// The hash of the [`WorkspaceManifest`], a blob.
    pub blob: BlobHash,
    /// The number of files.
    pub files: u32,
    /// Their size together, in bytes.
    pub bytes: u64,
}

/// The workspace of a run, as a session asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunWorkspace {
    /// The files in the working directory at the start.
    pub files: WorkspaceManifest,
    /// Whether what the program changes is discarded, as for a check.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discard: bool,
}

/// The workspace of a run in its record: the session's stream tells the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunTree {
    /// The hash of the [`WorkspaceManifest`]; not stored as a blob.
    pub manifest: BlobHash,
    /// The number of files.
    pub files: u32,
    /// Their size together, in bytes.
    pub bytes: u64,
}

/// What a run made of its workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceEnd {
    /// The changes that were taken; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ChangeList>,
    /// Why no change was taken: one did not fit, or the listing was incomplete. The reason alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What never belongs to a workspace and stayed out: links, devices, names that are not UTF-8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<FileLeftOut>,
}

impl WorkspaceEnd {
    /// Whether there is nothing to record.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> WorkspaceFile {
        let (blob, bytes) = (BlobHash::of(content.as_bytes()), content.len() as u64);
        WorkspaceFile { blob, bytes, executable: false }
    }

    fn manifest<const N: usize>(files: [(&str, &str); N]) -> WorkspaceManifest {
        let files = files.map(|(path, content)| (path.to_owned(), file(content)));
        WorkspaceManifest { files: files.into() }
    }

    #[test]
    fn applying_the_changes_between_two_manifests_makes_the_second_of_the_first() {
        let before = manifest([("a", "1"), ("b/c", "2"), ("d", "3")]);
        let mut after = manifest([("a", "1"), ("b/c", "two"), ("e", "5")]);
        after.files.get_mut("a").unwrap().executable = true;
        let changes = before.changes_to(&after);
        let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["a", "b/c", "d", "e"]);
        let mut made = before.clone();
        made.apply(changes);
        assert_eq!(made, after);
        assert!(after.changes_to(&after).is_empty());
        let blob = after.to_blob().unwrap();
        assert_eq!(WorkspaceManifest::from_bytes(blob.bytes()).unwrap(), after);
    }

    #[test]
    fn caches_and_installed_packages_are_excluded_wherever_they_are() {
        for path in [".git", "a/.git/b", "__pycache__/m.pyc", "m.pyc", "a/node_modules/b/c.js"] {
            assert!(is_excluded(path), "{path}");
        }
        assert!(is_excluded("env/pyvenv.cfg"));
        for path in [".gitignore", "git", "m.py", "my_node_modules/a", "pyc", ".github/a.yml"] {
            assert!(!is_excluded(path), "{path}");
        }
    }

    #[test]
    fn what_is_too_much_or_no_path_is_named() {
        let limits = WorkspaceLimits { files_max: 2, file_bytes_max: 3, bytes_max: 5 };
        for (files, words) in [
            (manifest([("a", "123"), ("b", "12")]), ""),
            (manifest([("a", "123"), ("b", "123")]), "6 bytes in all: at most 5"),
            (manifest([("a", "1234"), ("b", "1")]), "\"a\" of 4 bytes: at most 3"),
            (manifest([("../a", ""), ("b", "")]), "\"../a\", which must be a path"),
            (manifest([("/a", ""), ("b", "")]), "\"/a\", which must be a path"),
            (manifest([("a", ""), ("a/b", "")]), "cannot be a file and a directory"),
            (manifest([("a/.git/x", "")]), "\"a/.git/x\", which does not belong"),
        ] {
            match files.check(&limits) {
                Ok(()) => assert_eq!(words, ""),
                Err(fault) => assert!(!words.is_empty() && fault.contains(words), "{fault}"),
            }
        }
        let three = WorkspaceManifest {
            files: ["a", "b", "c"].map(|path| (path.to_owned(), file(""))).into(),
        };
        assert!(three.check(&limits).unwrap_err().contains("3 files: at most 2"));
    }

    #[test]
    fn a_long_list_of_changes_becomes_a_blob() {
        let change = |n: u32| FileChange { path: format!("f{n}"), file: Some(file("x")) };
        let (short, none) = ChangeList::new(vec![change(0)]).unwrap();
        assert_eq!((short.len(), none), (1, None));
        let many: Vec<_> = (0..1000).map(change).collect();
        let (long, blob) = ChangeList::new(many.clone()).unwrap();
        assert_eq!(long.len(), 1000);
        let read: Vec<FileChange> = serde_json::from_slice(blob.unwrap().bytes()).unwrap();
        assert_eq!(read, many);
    }
}
