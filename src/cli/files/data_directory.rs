//! The factory's own data directory: it goes into no workspace, and nothing is written into it.

use std::path::{Component, Path, PathBuf};

use crate::journal;

/// A data directory, which need not be there.
#[derive(Clone, Debug)]
pub(crate) struct DataDirectory {
    /// Without links, as far as it is there.
    path: PathBuf,
}

impl DataDirectory {
    /// The data directory at a path.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: resolved(path) }
    }

    /// Whether a path, which need not be there, is this directory or below it. A directory without
    /// a journal is nobody's, and holds nothing.
    pub(super) fn holds(&self, path: &Path) -> bool {
        resolved(path).starts_with(&self.path) && journal::require(&self.path).is_ok()
    }

    /// Its path below a folder, if it is there.
    pub(super) fn below(&self, folder: &Path) -> Option<PathBuf> {
        let relative = self.path.strip_prefix(resolved(folder)).ok()?.to_owned();
        journal::require(&self.path).is_ok().then_some(relative)
    }
}

/// The path without links, as far as it is there.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = full.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, mut resolved)) = there else { return full };
    for part in full.strip_prefix(above).unwrap_or(Path::new("")).components() {
        if part == Component::ParentDir {
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_told_without_links_and_without_being_there() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        let at = |path: &str| resolved(&dir.path().join(path));
        assert_eq!(at("link"), real);
        assert_eq!(at("link/a/b"), real.join("a/b"));
        assert_eq!(at("link/absent/../a"), real.join("a"));
    }

    #[test]
    fn a_directory_without_a_journal_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::new(dir.path());
        assert!(!data.holds(&dir.path().join("a")));
        assert_eq!(data.below(dir.path().parent().unwrap()), None);
    }
}
