//! Private directories of runs: made for one run, locked while its guardian lives, removed whatever is in them.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::processes;

/// How the names of private directories begin.
const NAME_PREFIX: &str = "run-";
/// Its owner alone.
const PRIVATE: u32 = 0o700;

/// Where such directories are made by root for users that nobody else is: the ways to the factory's own directories are
/// closed to them.
const SHARED_NAME: &str = "ai-factory-runs";
/// Others may pass through, and neither list nor write.
const PASSABLE: u32 = 0o711;
/// What only the owner may have.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The directory for the runs of users that nobody else is. [`make_shared`] makes it.
pub(super) fn shared() -> PathBuf {
    std::env::temp_dir().join(SHARED_NAME)
}

/// Makes it, unless it is there; one that somebody else has made, or may change, is refused.
pub(super) fn make_shared(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(PASSABLE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_dir() || !is_own || found.mode() & WRITABLE_BY_OTHERS != 0 {
        let message = format!("{} belongs to somebody else: remove it", path.display());
        return Err(io::Error::other(message));
    }
    Ok(())
}

/// Gives a process of the sandbox the usual umask: what programs make is theirs, and the factory's own is for what it
/// keeps.
pub(super) fn reset_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(WRITABLE_BY_OTHERS));
}

/// The name of a directory that no run ever had.
pub(super) fn new_name() -> String {
    format!("{NAME_PREFIX}{}", Uuid::now_v7())
}

/// A private directory, held by its guardian. The lock says to everybody else that the guardian lives; it
/// ends with the guardian, however that ends.
pub(super) struct PrivateDirectory {
    path: PathBuf,
    _lock: File,
}

impl PrivateDirectory {
    /// Makes it, and what it stands in; not what that stands in, which somebody has taken away if it is not there.
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

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    pub(super) fn remove(self) -> io::Result<()> {
        remove_tree(&self.path)
    }
}

/// Ends and removes what runs left whose guardian is gone, too: killed by somebody, or by a crash of the
/// machine. Answers how many there were. Blocks.
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

/// Ends the processes of a run and removes its directory, unless its guardian lives and will do so. Answers
/// whether there was something to remove. Blocks.
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

/// Lets its owner read and change a directory again.
fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(PRIVATE))
}

/// Removes a directory with all that is in it, be it unreadable or too deep for a path: directories further
/// down are opened up and moved to the top, so that no path is longer than two names below `root`.
fn remove_tree(root: &Path) -> io::Result<()> {
    // A name that the program cannot have taken.
    let moved = Uuid::now_v7();
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
                    // To move a directory is to change its `..`: that needs the right to write to it.
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
