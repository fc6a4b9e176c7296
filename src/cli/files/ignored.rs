//! Files that the ignore rules of a folder name, which need not be there yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use ai_factory_schemas::file::directories;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::data_directory::resolved;

/// The rules that a folder holds.
struct FolderRules {
    /// Of `.ignore`.
    ignore: Gitignore,
    /// Of `.gitignore`.
    git: Gitignore,
}

impl FolderRules {
    fn read(folder: &Path) -> Self {
        Self { ignore: rules(folder, ".ignore"), git: rules(folder, ".gitignore") }
    }
}

/// The rules of a file in a folder. A rule that cannot be read names nothing.
fn rules(folder: &Path, name: &str) -> Gitignore {
    let file = folder.join(name);
    let mut builder = GitignoreBuilder::new(folder);
    if file.is_file() {
        let _ = builder.add(file);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// Which of these paths below a folder its rules name, those of the folders between, and inside a
/// git repository those further up to its root.
pub(super) fn ignored<'a>(
    folder: &Path,
    paths: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<&'a str> {
    let top = resolved(folder);
    let root = top.ancestors().find(|above| above.join(".git").exists());
    let above = root
        .into_iter()
        .flat_map(|root| top.ancestors().skip(1).take_while(move |above| above.starts_with(root)));
    let above: Vec<_> = above.map(FolderRules::read).collect();
    let exclude = root.map_or_else(Gitignore::empty, |root| rules(root, ".git/info/exclude"));
    let mut below: BTreeMap<&str, FolderRules> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for path in paths {
        for inner in [""].into_iter().chain(directories(path)) {
            below.entry(inner).or_insert_with(|| FolderRules::read(&top.join(inner)));
        }
        let parts = directories(path).map(|inner| (inner, true)).chain([(path, false)]);
        let is_named = |(part, is_folder): (&str, bool)| {
            let at = top.join(part);
            let own: Vec<_> = [""].into_iter().chain(directories(part)).collect();
            let levels = || own.iter().rev().filter_map(|inner| below.get(inner)).chain(&above);
            let ignore = levels().map(|level| &level.ignore);
            let rules = ignore.chain(levels().map(|level| &level.git)).chain([&exclude]);
            let mut matches = rules.map(|rules| rules.matched(&at, is_folder));
            matches.find(|matched| !matched.is_none()).is_some_and(|matched| matched.is_ignore())
        };
        if parts.into_iter().any(is_named) {
            found.insert(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rules_name_paths_that_are_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(".gitignore", "elsewhere\n*.tmp\n");
        write("repo/.gitignore", "*.log\nbuild/\n!keep.log\n");
        write("repo/top/.ignore", "/big\n!wanted.log\n");
        write("repo/top/sub/.gitignore", "z\n");
        let top = dir.path().join("repo/top");
        let paths = [
            "a.log",
            "build/x/y",
            "keep.log",
            "wanted.log",
            "big",
            "sub/big",
            "sub/z",
            "z",
            "a.tmp",
        ];
        let named = |expected: &[&str]| {
            let found: Vec<_> = ignored(&top, paths).into_iter().collect();
            assert_eq!(found, expected);
        };
        named(&["big", "sub/z"]);
        write("repo/.git/info/exclude", "z\n");
        named(&["a.log", "big", "build/x/y", "sub/z", "z"]);
        assert!(ignored(&dir.path().join("absent"), paths).is_empty());
    }
}
