//! Private directories of runs: created for one run, locked while its guardian lives, removed with
//! any content.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::processes;

/// Prefix of private directory names.
const NAME_PREFIX: &str = "run-";
/// Access for the owner only.
const PRIVATE: u32 = 0o700;

/// Where root creates the directories of runs whose user is used by nothing else: such users cannot
/// traverse the paths to the factory's own directories.
const SHARED_NAME: &str = "ai-factory-runs";
/// Others may traverse it, but neither list nor write.
const PASSABLE: u32 = 0o711;
/// Write permission for group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The directory for runs under a user of their own. Created by [`make_shared`].
pub(super) fn shared() -> PathBuf {
    std::env::temp_dir().join(SHARED_NAME)
}

/// Creates it if it is missing; refuses one that another user owns or can change.
pub(super) fn make_shared(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(PASSABLE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_dir() || !is_own || found.mode() & WRITABLE_BY_OTHERS != 0 {
        let message = format!("{} belongs to another user: remove it", path.display());
        return Err(io::Error::other(message));
    }
    Ok(())
}

/// Restores the usual umask in a process of the sandbox: the factory's own umask protects its data,
/// files of programs belong to the programs.
pub(super) fn reset_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(WRITABLE_BY_OTHERS));
}

/// A directory name that no run has had.
pub(super) fn new_name() -> String {
    format!("{NAME_PREFIX}{}", unique())
}

/// A number that no run has had: names and users of runs are not recorded.
#[expect(
    clippy::disallowed_methods,
    reason = "what separates two runs on one machine is no fact of a session"
)]
pub(super) fn unique() -> Uuid {
    Uuid::now_v7()
}

/// A private directory, held by its guardian. The lock tells other processes that the guardian
/// lives; the kernel releases it at the guardian's end, whatever the cause.
pub(super) struct PrivateDirectory {
    path: PathBuf,
    _lock: File,
}

impl PrivateDirectory {
    /// Creates it, and its parent if necessary; not its grandparent: a missing grandparent has been
    /// removed by somebody.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(PRIVATE);
        match path.parent().map(|parent| builder.create(parent)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        builder.create(path)?;
        let lock = File::open(path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with its content.
    pub(super) fn remove(self) -> io::Result<()> {
        remove_tree(&self.path)
    }
}

/// Ends the processes and removes the directories of runs whose guardian is gone, also if the
/// guardian was killed or the machine crashed. Returns the number of such runs. Blocks.
pub(super) fn sweep(tmp_dir: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(tmp_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let is_run = entry.file_name().to_string_lossy().starts_with(NAME_PREFIX);
        if is_run && entry.file_type()?.is_dir() {
            removed += usize::from(clear(&entry.path())?);
        }
    }
    Ok(removed)
}

/// Ends the processes of a run and removes its directory, unless a living guardian holds it.
/// Returns whether there was anything to remove. Blocks.
pub(super) fn clear(directory: &Path) -> io::Result<bool> {
    match is_left_over(directory) {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    processes::end_marked(directory);
    remove_tree(directory)?;
    Ok(true)
}

fn is_left_over(directory: &Path) -> io::Result<bool> {
    open_up(directory)?;
    match flock(&File::open(directory)?, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Restores the owner's permissions on a directory.
fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(PRIVATE))
}

/// Removes a directory with its content, including unreadable directories and those too deep for a
/// path: nested directories get their permissions back and are moved to the top, so that no path is
/// longer than two names below `root`.
fn remove_tree(root: &Path) -> io::Result<()> {
    // A name that the program cannot have used.
    let moved = unique();
    let mut moved_count = 0_u64;
    open_up(root)?;
    loop {
        let mut is_empty = true;
        for entry in fs::read_dir(root)? {
            is_empty = false;
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            open_up(&entry.path())?;
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    // Moving a directory changes its `..`, which requires write permission on it.
                    open_up(&inner.path())?;
                    fs::rename(inner.path(), root.join(format!("{moved}-{moved_count}")))?;
                    moved_count += 1;
                } else {
                    fs::remove_file(inner.path())?;
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if is_empty {
            return fs::remove_dir(root);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn whatever_is_in_a_directory_it_is_removed_and_nothing_else() {
        let tmp = tempfile::tempdir().unwrap();
        let outside = tmp.path().join("outside");
        fs::write(&outside, "stays").unwrap();
        let directory = PrivateDirectory::create(&tmp.path().join("tmp/run-1")).unwrap();
        let root = directory.path().to_owned();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, PRIVATE);
        symlink(tmp.path(), root.join("link")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        symlink(tmp.path(), root.join("a/b/link")).unwrap();
        fs::write(root.join("a/b/c/file"), "x").unwrap();
        for name in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(root.join(name), Permissions::from_mode(0o000)).unwrap();
        }
        directory.remove().unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_to_string(outside).unwrap(), "stays");
    }

    #[test]
    fn sweeping_removes_what_nobody_guards() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(sweep(&tmp.path().join("missing")).unwrap(), 0);
        let guarded = PrivateDirectory::create(&tmp.path().join("run-guarded")).unwrap();
        for name in ["run-left", "other"] {
            fs::create_dir_all(tmp.path().join(name).join("inner")).unwrap();
        }
        assert_eq!(sweep(tmp.path()).unwrap(), 1);
        assert!(!tmp.path().join("run-left").exists());
        assert!(guarded.path().exists() && tmp.path().join("other/inner").exists());
    }
}
