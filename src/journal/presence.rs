//! Whether the files of an open journal are still where they were opened: a deleted file takes writes and syncs like
//! any other, and nobody would ever find them again.
//!
//! *Promises.* Asked before each acknowledgement ([`Presence::check`]) and every [`PERIOD`] by a thread of its own, which
//! also looks for a file system that has become read-only. Deleted, moved, replaced by a copy, or behind another mount
//! or link: whatever leads the path to another file is noticed, also in a directory above.
//!
//! *Limits.* A sealed segment that is changed in place has the same name and number: `verify` finds that.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{
    Shared,
    error::Fault,
    layout::{self, Identity, WriteLock, identity_of},
};

/// How often the files are looked for while nothing is appended: twice in the second in which it has to be noticed.
const PERIOD: Duration = Duration::from_millis(500);

/// The files of an open journal.
pub(super) struct Presence {
    /// From the root on, so that it is noticed when the working directory itself is moved. Links are not resolved, so
    /// that it is noticed when they lead elsewhere.
    dir: PathBuf,
    files: Mutex<Files>,
}

struct Files {
    lock: Identity,
    active: Identity,
    segments: Identity,
    /// When an entry of the directory of sealed segments came or went: until then they are all there.
    segments_changed: (i64, i64),
    sealed: Vec<(u64, Identity)>,
}

impl Presence {
    /// Of a journal that was just opened.
    pub(super) fn new(dir: &Path, lock: &WriteLock, firsts: &[u64]) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        // Before the segments themselves: one that goes meanwhile changes it.
        let segments = fs::metadata(layout::segments(&dir))?;
        let identity = |path: PathBuf| Ok::<_, io::Error>(identity_of(&fs::metadata(path)?));
        let sealed = |first: &u64| Ok((*first, identity(layout::sealed(&dir, *first))?));
        let files = Files {
            lock: lock.identity()?,
            active: identity(layout::active(&dir))?,
            segments: identity_of(&segments),
            segments_changed: changed(&segments),
            sealed: firsts.iter().map(sealed).collect::<io::Result<_>>()?,
        };
        Ok(Self { dir, files: Mutex::new(files) })
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The active segment was sealed as the one that begins at `first`, and another one made.
    pub(super) fn turned_over(&self, first: u64) -> Result<(), Fault> {
        let mut files = self.files();
        let sealed = self.stat(&layout::sealed(&self.dir, first), Some(files.active))?;
        files.sealed.push((first, identity_of(&sealed)));
        files.active = identity_of(&self.stat(&layout::active(&self.dir), None)?);
        Ok(())
    }

    /// Whether the active segment is where it was opened.
    pub(super) fn has_active(&self) -> bool {
        self.stat(&layout::active(&self.dir), Some(self.files().active)).is_ok()
    }

    /// Fails unless all segments are where they were opened. Two calls to the system, unless segments come or go.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.look(false)
    }

    /// [`Self::check`] of each sealed segment too, of the lock, without which a second writer may come, and of the
    /// file system.
    fn check_each(&self) -> Result<(), Fault> {
        self.look(true)?;
        self.stat(&layout::lock(&self.dir), Some(self.files().lock))?;
        match statvfs(&self.dir) {
            Ok(disk) if disk.f_flag.contains(StatVfsMountFlags::RDONLY) => Err(Fault::io(
                &self.dir.display().to_string(),
                &io::ErrorKind::ReadOnlyFilesystem.into(),
            )),
            // A file system that does not say is asked by the next write.
            _ => Ok(()),
        }
    }

    fn look(&self, each: bool) -> Result<(), Fault> {
        let mut files = self.files();
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

    /// The file at `path`, which has to be this one.
    fn stat(&self, path: &Path, identity: Option<Identity>) -> Result<Metadata, Fault> {
        let what = match fs::metadata(path) {
            Ok(file) if identity.is_none_or(|identity| identity_of(&file) == identity) => {
                return Ok(file);
            }
            Ok(_) => "is another file than the one in use".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone".to_owned(),
            Err(error) => format!("cannot be looked at ({error})"),
        };
        Err(Fault::new(format!(
            "the data directory {} was taken away or changed under the factory: {} {what}; put it back, or restore \
             a backup",
            self.dir.display(),
            path.display(),
        )))
    }
}

/// When the entries of a directory last changed.
fn changed(directory: &Metadata) -> (i64, i64) {
    (directory.mtime(), directory.mtime_nsec())
}

/// Ends the thread that looks for the files.
#[derive(Default)]
pub(super) struct Watch {
    is_over: Mutex<bool>,
    ended: Condvar,
}

impl Watch {
    /// Ends it at once.
    pub(super) fn stop(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }

    /// Waits for the next look; `false` when there is none.
    fn wait(&self) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.wait_timeout_while(is_over, PERIOD, |is_over| !*is_over);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Starts the thread that looks for the files.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("journal-presence".to_owned()).spawn(move || {
        while shared.watch.wait() && shared.failure().is_none() {
            // Held, so that no segment is turned over meanwhile.
            let active = shared.active();
            if active.is_some()
                && let Err(fault) = shared.presence.check_each()
            {
                drop(active);
                shared.fail(&fault);
            }
        }
    })
}
