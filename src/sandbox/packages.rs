//! The packages that are installed for an interpreter, by name and version.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The most entries of one directory that are looked at.
const ENTRIES_MAX: usize = 10_000;
/// The largest `package.json` that is read, in bytes.
const DESCRIPTION_BYTES_MAX: u64 = 1024 * 1024;

/// The packages that come with every environment.
const INSTALLERS: [&str; 3] = ["pip", "setuptools", "wheel"];

/// A package, and its version.
pub type PackageVersion = (String, String);

/// The packages that a Python of this version can import beside the standard library: first those
/// that a user asked for, then what they need, each by name; installers last.
pub fn python_packages(interpreter: &Path, version: &str) -> Vec<PackageVersion> {
    let Some(prefix) = interpreter.parent().and_then(Path::parent) else {
        return Vec::new();
    };
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let library = format!("lib/python{major}.{minor}");
    let places = [
        prefix.join(&library).join("site-packages"),
        prefix.join("local").join(&library).join("dist-packages"),
        prefix.join(format!("lib/python{major}/dist-packages")),
    ];
    let mut packages = BTreeMap::new();
    for place in &places {
        for directory in names(place) {
            let described = directory.strip_suffix(".dist-info").and_then(|it| it.split_once('-'));
            let Some((name, version)) = described else { continue };
            // pip marks so what it was asked for by name.
            let is_asked_for = place.join(&directory).join("REQUESTED").exists();
            let rank = if INSTALLERS.contains(&name) {
                PackageRank::Installer
            } else if is_asked_for {
                PackageRank::Asked
            } else {
                PackageRank::Needed
            };
            packages.entry(name.to_owned()).or_insert_with(|| (rank, version.to_owned()));
        }
    }
    let mut packages: Vec<_> = packages.into_iter().collect();
    packages.sort_by_key(|(_, (rank, _))| *rank);
    packages.into_iter().map(|(name, (_, version))| (name, version)).collect()
}

/// Why a package is there, in the order of the list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PackageRank {
    Asked,
    Needed,
    Installer,
}

/// The packages of a `node_modules`, by name.
pub fn node_packages(directory: &Path) -> Vec<PackageVersion> {
    let mut packages = BTreeMap::new();
    for name in names(directory) {
        let inside = if name.starts_with('@') {
            names(&directory.join(&name)).into_iter().map(|it| format!("{name}/{it}")).collect()
        } else {
            vec![name]
        };
        for name in inside {
            if let Some(version) = node_version(&directory.join(&name)) {
                packages.insert(name, version);
            }
        }
    }
    packages.into_iter().collect()
}

fn node_version(package: &Path) -> Option<String> {
    let path: PathBuf = package.join("package.json");
    if fs::metadata(&path).ok()?.len() > DESCRIPTION_BYTES_MAX {
        return None;
    }
    let described: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(described.get("version").and_then(|it| it.as_str()).unwrap_or("no version").to_owned())
}

/// The names in a directory, as far as they are text.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(ENTRIES_MAX);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_listed_with_their_versions() {
        let tmp = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tmp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("venv/lib/python3.11/site-packages/tiny_kit-1.2.dist-info/METADATA", "");
        write("venv/lib/python3.11/site-packages/tiny_kit/__init__.py", "");
        write("venv/lib/python3.12/site-packages/other-1.dist-info/METADATA", "");
        let python = python_packages(&tmp.path().join("venv/bin/python"), "3.11.7");
        assert_eq!(python, [("tiny_kit".into(), "1.2".into())]);

        write("node_modules/tiny/package.json", r#"{"version": "0.1.0"}"#);
        write("node_modules/@team/kit/package.json", "{}");
        write("node_modules/broken/package.json", "{");
        write("node_modules/.bin/tool", "");
        let node = node_packages(&tmp.path().join("node_modules"));
        let expected = [("@team/kit".into(), "no version".into()), ("tiny".into(), "0.1.0".into())];
        assert_eq!(node, expected);
    }

    #[test]
    fn what_a_user_installed_comes_first_and_installers_last() {
        let tmp = tempfile::tempdir().unwrap();
        let library = tmp.path().join("lib/python3.11/site-packages");
        for (name, is_asked_for) in
            [("attrs", false), ("pip", true), ("pytest", true), ("numpy", true), ("wheel", false)]
        {
            let described = library.join(format!("{name}-1.dist-info"));
            fs::create_dir_all(&described).unwrap();
            if is_asked_for {
                fs::write(described.join("REQUESTED"), "").unwrap();
            }
        }
        let found = python_packages(&tmp.path().join("bin/python"), "3.11.7");
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["numpy", "pytest", "attrs", "pip", "wheel"]);
    }
}
