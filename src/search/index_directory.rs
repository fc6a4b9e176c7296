//! The files of the keyword index: read, never memory-mapped. If another program truncates a mapped
//! file, the next access ends the process; a read that fails only fails a query.
//!
//! Posting lists and positions are in memory while their segment is in use, unless it is very
//! large. Dictionaries, columns and field norms are in memory while they are in use, shared among
//! their users. Texts are read on access, and so are posting lists and positions of very large
//! segments.

use std::{
    collections::HashMap,
    fs::File,
    hash::Hash,
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use ai_factory_fold::{Access, atomic_replace};
use parking_lot::Mutex;
use tantivy::{
    Directory, HasLen,
    directory::{
        DirectoryLock, FileHandle, Lock, MmapDirectory, OwnedBytes, WatchCallback, WatchHandle,
        WritePtr,
        error::{DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError},
    },
};

/// Size limit up to which the posting lists of a segment, and its positions, are each read into
/// memory whole.
const LISTS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A directory of such files.
#[derive(Clone, Debug)]
pub(super) struct IndexDirectory {
    path: PathBuf,
    access: Access,
    /// For writing, locks, and the file that is rewritten from time to time (metadata).
    plain: MmapDirectory,
    used: Arc<SharedFiles<PathBuf, OpenFile>>,
}

impl IndexDirectory {
    /// Opens an existing directory.
    pub(super) fn new(path: &Path, access: Access) -> Result<Self, OpenDirectoryError> {
        let plain = MmapDirectory::open(path)?;
        Ok(Self { path: path.to_owned(), access, plain, used: Arc::default() })
    }
}

impl Directory for IndexDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let open = || OpenFile::new(&self.path.join(path), LISTS_BYTES_MAX).map(Arc::new);
        let opened = self.used.get(path.to_owned(), open).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path.to_owned()),
            _ => OpenReadError::wrap_io_error(error, path.to_owned()),
        })?;
        // Each commit opens every file again.
        if let OpenFile::Parts { used: Some(used), .. } = &*opened {
            used.forget_unused();
        }
        Ok(opened)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.plain.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.plain.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.plain.open_write(path)
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.plain.atomic_read(path)
    }

    /// As the library does, but with the permissions of the other files.
    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut file = atomic_replace::temporary(&self.path)?;
        file.write_all(data)?;
        file.as_file().sync_data()?;
        file.persist(self.path.join(path))?;
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.plain.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        if self.access == Access::Write {
            return self.plain.acquire_lock(lock);
        }
        // A reader makes no file and needs no right to write one. Without a lock file to share,
        // opening fails if a commit is replaced meanwhile.
        let shared = File::open(self.path.join(&lock.filepath))
            .and_then(|file| file.lock_shared().map(|()| file))
            .ok();
        Ok(DirectoryLock::from(Box::new(shared)))
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.plain.watch(watch_callback)
    }
}

/// An immutable file that is in use.
#[derive(Debug)]
enum OpenFile {
    /// The whole file is in memory.
    Whole(OwnedBytes),
    /// The file is read in parts.
    Parts {
        file: File,
        bytes: usize,
        /// Parts in use, by their range; `None` if parts are not shared.
        used: Option<SharedFiles<Range<usize>, [u8]>>,
    },
}

impl OpenFile {
    fn new(path: &Path, lists_bytes_max: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Ok(match path.extension().and_then(|kind| kind.to_str()) {
            Some("idx" | "pos") if bytes <= lists_bytes_max => {
                Self::Whole(OwnedBytes::new(read(&file, &(0..bytes))?))
            }
            Some("idx" | "pos" | "store") => Self::Parts { file, bytes, used: None },
            _ => Self::Parts { file, bytes, used: Some(SharedFiles::default()) },
        })
    }
}

fn read(file: &File, range: &Range<usize>) -> io::Result<Arc<[u8]>> {
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, range.len()).collect();
    if let Some(bytes) = Arc::get_mut(&mut bytes) {
        file.read_exact_at(bytes, range.start as u64)?;
    }
    Ok(bytes)
}

impl FileHandle for OpenFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.end > self.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match self {
            Self::Whole(bytes) => Ok(bytes.slice(range)),
            Self::Parts { file, used: None, .. } => read(file, &range).map(OwnedBytes::new),
            Self::Parts { file, used: Some(used), .. } => {
                used.get(range.clone(), || read(file, &range)).map(OwnedBytes::new)
            }
        }
    }
}

impl HasLen for OpenFile {
    fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Parts { bytes, .. } => *bytes,
        }
    }
}

/// Weakly cached values, shared among their users.
#[derive(Debug)]
struct SharedFiles<Key, T: ?Sized>(Mutex<HashMap<Key, Weak<T>>>);

impl<Key, T: ?Sized> Default for SharedFiles<Key, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Key: Eq + Hash, T: ?Sized> SharedFiles<Key, T> {
    /// The value in use under this key, or a new one from `make`.
    fn get<E>(&self, key: Key, make: impl FnOnce() -> Result<Arc<T>, E>) -> Result<Arc<T>, E> {
        let mut used = self.0.lock();
        if let Some(used) = used.get(&key).and_then(Weak::upgrade) {
            return Ok(used);
        }
        // A value without users takes memory until its weak reference is dropped.
        used.retain(|_, used| used.strong_count() > 0);
        let new = make()?;
        used.insert(key, Arc::downgrade(&new));
        Ok(new)
    }

    fn forget_unused(&self) {
        let mut used = self.0.lock();
        used.retain(|_, used| used.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_short_fails_what_is_read_of_it_and_not_what_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let files = IndexDirectory::new(dir.path(), Access::Read).unwrap();
        let content: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for (kind, is_shared, is_whole) in
            [("term", true, false), ("store", false, false), ("idx", true, true)]
        {
            let name = PathBuf::from(format!("segment.{kind}"));
            std::fs::write(dir.path().join(&name), &content).unwrap();
            let file = files.get_file_handle(&name).unwrap();
            assert_eq!(file.len(), 1_000);
            let used = file.read_bytes(10..600).unwrap();
            assert_eq!(*used, content[10..600], "{kind}");
            let again = files.get_file_handle(&name).unwrap().read_bytes(10..600).unwrap();
            assert_eq!(used.as_ptr() == again.as_ptr(), is_shared, "{kind}");
            let cut = File::options().write(true).open(dir.path().join(&name)).unwrap();
            cut.set_len(500).unwrap();
            assert_eq!(*used, content[10..600], "{kind}");
            assert_eq!(file.read_bytes(400..500).unwrap().len(), 100);
            assert_eq!(file.read_bytes(400..501).is_ok(), is_whole, "{kind}");
            assert_eq!(file.read_bytes(500..500).unwrap().len(), 0);
        }
        let large = OpenFile::new(&dir.path().join("segment.idx"), 499).unwrap();
        assert_eq!(*large.read_bytes(100..500).unwrap(), content[100..500]);
        assert!(large.read_bytes(100..501).is_err());
        let missing = files.get_file_handle(Path::new("segment.pos"));
        assert!(matches!(missing, Err(OpenReadError::FileDoesNotExist(_))));
    }
}
