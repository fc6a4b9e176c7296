//! Checks that the files of an open journal are still in place: a deleted file accepts writes and
//! syncs like any other, and its data would be lost.
//!
//! *Promises.* Detected are files deleted, moved, replaced by a copy, or hidden by another mount or
//! link, also through a parent directory; by [`Presence::check_each`] a read-only file system too.
//!
//! *Limits.* A sealed segment changed in place keeps its name and inode: `verify` finds that.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{
    error::StorageError,
    layout::{self, Identity, WriteLock, identity_of},
};

/// The files of an open journal.
pub(super) struct Presence {
    /// Absolute, so that a moved working directory is detected. Links are not resolved, so that a
    /// changed link is detected.
    dir: PathBuf,
    files: Mutex<WatchedFiles>,
}

struct WatchedFiles {
    lock: Identity,
    active: Identity,
    segments: Identity,
    /// When the directory of sealed segments last changed: while it has not, all of them are there.
    segments_changed: (i64, i64),
    sealed: Vec<(u64, Identity)>,
}

impl Presence {
    /// The files of a journal that was just opened.
    pub(super) fn new(dir: &Path, lock: &WriteLock, firsts: &[u64]) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        // Before the segments themselves: one that is removed meanwhile changes it.
        let segments = fs::metadata(layout::segments(&dir))?;
        let identity = |path: PathBuf| Ok::<_, io::Error>(identity_of(&fs::metadata(path)?));
        let sealed = |first: &u64| Ok((*first, identity(layout::sealed(&dir, *first))?));
        let files = WatchedFiles {
            lock: lock.identity()?,
            active: identity(layout::active(&dir))?,
            segments: identity_of(&segments),
            segments_changed: changed(&segments),
            sealed: firsts.iter().map(sealed).collect::<io::Result<_>>()?,
        };
        Ok(Self { dir, files: Mutex::new(files) })
    }

    /// Records that the active segment was sealed as the one that begins at `first`, and a new one
    /// created.
    pub(super) fn turned_over(&self, first: u64) -> Result<(), StorageError> {
        let mut files = self.files.lock();
        let sealed = self.stat(&layout::sealed(&self.dir, first), Some(files.active))?;
        files.sealed.push((first, identity_of(&sealed)));
        files.active = identity_of(&self.stat(&layout::active(&self.dir), None)?);
        Ok(())
    }

    /// Whether the active segment is still in place.
    pub(super) fn has_active(&self) -> bool {
        self.stat(&layout::active(&self.dir), Some(self.files.lock().active)).is_ok()
    }

    /// Fails unless all segments are still in place. Two system calls, unless the set of segments
    /// changed.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.look(false)
    }

    /// [`Self::check`], and in addition each sealed segment, the lock (without it a second writer
    /// could start) and the file system.
    pub(super) fn check_each(&self) -> Result<(), StorageError> {
        self.look(true)?;
        self.stat(&layout::lock(&self.dir), Some(self.files.lock().lock))?;
        match statvfs(&self.dir) {
            Ok(disk) if disk.f_flag.contains(StatVfsMountFlags::RDONLY) => Err(StorageError::io(
                &self.dir.display().to_string(),
                &io::ErrorKind::ReadOnlyFilesystem.into(),
            )),
            // If the file system does not report its flags, the next write finds out.
            _ => Ok(()),
        }
    }

    fn look(&self, each: bool) -> Result<(), StorageError> {
        let mut files = self.files.lock();
        self.stat(&layout::active(&self.dir), Some(files.active))?;
        let segments = self.stat(&layout::segments(&self.dir), Some(files.segments))?;
        if each || changed(&segments) != files.segments_changed {
            for (first, identity) in &files.sealed {
                self.stat(&layout::sealed(&self.dir, *first), Some(*identity))?;
            }
            files.segments_changed = changed(&segments);
        }
        Ok(())
    }

    /// The metadata of the file at `path`; an error if it is not the expected file.
    fn stat(&self, path: &Path, identity: Option<Identity>) -> Result<Metadata, StorageError> {
        let what = match fs::metadata(path) {
            Ok(file) if identity.is_none_or(|identity| identity_of(&file) == identity) => {
                return Ok(file);
            }
            Ok(_) => "is another file than the one in use".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone".to_owned(),
            Err(error) => format!("cannot be checked ({error})"),
        };
        Err(StorageError::files_taken(format!(
            "the data directory {} was removed or changed while in use: {} {what}; put it back, or restore \
             a backup",
            self.dir.display(),
            path.display(),
        )))
    }
}

/// When a directory's entries last changed.
fn changed(directory: &Metadata) -> (i64, i64) {
    (directory.mtime(), directory.mtime_nsec())
}
