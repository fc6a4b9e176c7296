//! Atomic replacement of files and directories by versions prepared beside them.
//!
//! *Promises.* After a crash at any point, and a call of [`recover`], one of the two versions
//! is in place, complete.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Path at which the replacement of `path` is prepared.
pub fn shadow_path(path: &Path) -> PathBuf {
    path.with_extension("next")
}

/// Path of the replaced version until it is removed.
fn outgoing_path(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Replaces a directory by the one at its [`shadow_path`] and removes the old version.
pub fn replace_directory(path: &Path) -> io::Result<()> {
    let outgoing = outgoing_path(path);
    remove(&outgoing)?;
    match std::fs::rename(path, &outgoing) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(shadow_path(path), path)?;
    sync_parent(path)?;
    remove(&outgoing)
}

/// Replaces a file by the one at its [`shadow_path`].
pub fn replace_file(path: &Path) -> io::Result<()> {
    std::fs::rename(shadow_path(path), path)?;
    sync_parent(path)
}

/// Completes a [`replace_directory`] that a crash interrupted.
pub fn recover(path: &Path) -> io::Result<()> {
    let (shadow, outgoing) = (shadow_path(path), outgoing_path(path));
    if !outgoing.exists() {
        return Ok(());
    }
    if !path.exists() {
        std::fs::rename(if shadow.exists() { &shadow } else { &outgoing }, path)?;
        sync_parent(path)?;
    }
    remove(&outgoing)
}

/// A temporary file. Its mode follows the umask, as for files made under their final name.
pub fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    const MODE_MAX: u32 = 0o640;
    tempfile::Builder::new().permissions(Permissions::from_mode(MODE_MAX)).tempfile_in(directory)
}

/// Makes a directory and its parent if they are missing; ancestors above were taken away by someone
/// and are not made.
pub fn make_directory(path: &Path) -> io::Result<()> {
    for path in path.parent().into_iter().chain([path]) {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes a file or a directory if it exists.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(path: &Path, content: &str) {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("content"), content).unwrap();
    }

    #[test]
    fn a_shadow_replaces_what_was_there_and_leaves_nothing_else() {
        for is_first in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("words");
            if !is_first {
                make(&path, "old");
            }
            make(&shadow_path(&path), "new");
            replace_directory(&path).unwrap();
            assert_eq!(std::fs::read_to_string(path.join("content")).unwrap(), "new");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn after_a_crash_anywhere_one_of_the_two_serves() {
        // Files after the crash; content in place after `recover`.
        let states: [(&[&str], Option<&str>); 6] = [
            (&["words", "next"], Some("words")),
            (&["words", "next", "old"], Some("words")),
            (&["next", "old"], Some("next")),
            (&["words", "old"], Some("words")),
            (&["old"], Some("old")),
            (&[], None),
        ];
        for (there, expected) in states {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("words");
            for name in there {
                let place = match *name {
                    "next" => shadow_path(&path),
                    "old" => outgoing_path(&path),
                    _ => path.clone(),
                };
                make(&place, name);
            }
            recover(&path).unwrap();
            let found = std::fs::read_to_string(path.join("content")).ok();
            assert_eq!(found.as_deref(), expected, "{there:?}");
            assert!(!outgoing_path(&path).exists(), "{there:?}");
            let is_under_way = there.contains(&"next") && expected != Some("next");
            assert_eq!(shadow_path(&path).exists(), is_under_way, "{there:?}");
        }
    }
}
