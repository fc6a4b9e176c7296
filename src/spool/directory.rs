//! The directory of a spool: one file per content.
//!
//! *Promises.* A name is a hash, with `.part` while the content is incomplete; a complete file
//! appears under its name at once. A file's time of modification is when its content was last asked
//! for. Only regular files with such a name are seen or removed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ai_factory_schemas::{text::BlobHash, time::Timestamp};

/// The mode of the directory.
const DIRECTORY_MODE: u32 = 0o700;
/// The mode of each file.
const FILE_MODE: u32 = 0o600;
/// The end of the name of an incomplete content.
const PART: &str = ".part";

/// A file found when a spool is opened.
pub(crate) struct FoundFile {
    /// The hash of its complete content.
    pub(crate) hash: BlobHash,
    /// Whether it is complete.
    pub(crate) is_complete: bool,
    /// Its length.
    pub(crate) bytes: u64,
    /// When its content was last asked for.
    pub(crate) asked: Timestamp,
}

/// The directory.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Opens the directory; makes it if it is missing.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !fs::symlink_metadata(&path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        fs::set_permissions(&path, Permissions::from_mode(DIRECTORY_MODE))?;
        Ok(Self(path))
    }

    /// Every file that the spool named.
    pub(crate) fn files(&self) -> io::Result<Vec<FoundFile>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let Some((hash, is_complete)) = entry.file_name().to_str().and_then(parse_name) else {
                continue;
            };
            if metadata.is_file() {
                let (bytes, asked) = (metadata.len(), timestamp(metadata.modified()?));
                found.push(FoundFile { hash, is_complete, bytes, asked });
            }
        }
        Ok(found)
    }

    /// Appends to an incomplete content, at the end of the `received` bytes of it.
    pub(crate) fn append(&self, hash: BlobHash, received: u64, part: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(self.path(hash, false))?;
        file.seek(SeekFrom::Start(received))?;
        let written = file.write_all(part);
        if written.is_err() {
            // What was written of the part is cut off again, so that the length stays true.
            file.set_len(received)?;
        }
        written
    }

    /// The hash of what was received of a content.
    pub(crate) fn hash_of_part(&self, hash: BlobHash) -> io::Result<BlobHash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(self.path(hash, false))?)?;
        Ok(BlobHash(*hasher.finalize().as_bytes()))
    }

    /// Gives a content whose last byte has arrived its final name.
    pub(crate) fn complete(&self, hash: BlobHash) -> io::Result<()> {
        fs::rename(self.path(hash, false), self.path(hash, true))
    }

    /// A complete content.
    pub(crate) fn read(&self, hash: BlobHash) -> io::Result<Vec<u8>> {
        fs::read(self.path(hash, true))
    }

    /// Notes when a content was last asked for.
    pub(crate) fn note(
        &self,
        hash: BlobHash,
        is_complete: bool,
        asked: Timestamp,
    ) -> io::Result<()> {
        let micros = u64::try_from(asked.as_micros()).unwrap_or_default();
        let file = OpenOptions::new().write(true).open(self.path(hash, is_complete))?;
        file.set_modified(UNIX_EPOCH + Duration::from_micros(micros))
    }

    /// Removes a content; one that is gone already is no error.
    pub(crate) fn remove(&self, hash: BlobHash, is_complete: bool) -> io::Result<()> {
        match fs::remove_file(self.path(hash, is_complete)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, hash: BlobHash, is_complete: bool) -> PathBuf {
        self.0.join(format!("{hash}{}", if is_complete { "" } else { PART }))
    }
}

/// The hash in a file's name, and whether the content is complete.
fn parse_name(name: &str) -> Option<(BlobHash, bool)> {
    let (text, is_complete) = match name.strip_suffix(PART) {
        Some(text) => (text, false),
        None => (name, true),
    };
    let hash: BlobHash = text.parse().ok()?;
    // Hexadecimal digits have two cases, the spool's names only one.
    (hash.to_string() == text).then_some((hash, is_complete))
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
