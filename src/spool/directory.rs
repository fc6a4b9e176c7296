//! The directory of a spool: one file per content.
//!
//! *Promises.* A name is a hash, with `.SIZE.part` while the content is incomplete: SIZE is that of
//! the whole, in bytes. A complete file appears under its name at once. A file's time of
//! modification is when its content was last asked for. Only regular files with such a name are
//! seen or removed.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
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

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpoolName {
    /// The hash of the complete content.
    pub(crate) hash: BlobHash,
    /// The bytes of the complete content, as long as the file is a part of it.
    pub(crate) part_of: Option<u64>,
}

/// A file found when a spool is opened.
pub(crate) struct FoundFile {
    /// What its name says.
    pub(crate) name: SpoolName,
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
            let Some(name) = entry.file_name().to_str().and_then(SpoolName::parse) else {
                continue;
            };
            if metadata.is_file() {
                let (bytes, asked) = (metadata.len(), timestamp(metadata.modified()?));
                found.push(FoundFile { name, bytes, asked });
            }
        }
        Ok(found)
    }

    /// Appends to an incomplete content, at the end of the `received` bytes of it.
    pub(crate) fn append(&self, name: SpoolName, received: u64, part: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(self.path(name))?;
        file.seek(SeekFrom::Start(received))?;
        let written = file.write_all(part);
        if written.is_err() {
            // What was written of the part is cut off again, so that the length stays true.
            file.set_len(received)?;
        }
        written
    }

    /// Whether an incomplete content has these bytes at `offset`; one that is gone has none.
    pub(crate) fn has_at(&self, name: SpoolName, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let mut stored = vec![0; bytes.len()];
        let file = File::open(self.path(name));
        match file.and_then(|file| file.read_exact_at(&mut stored, offset)) {
            Ok(()) => Ok(stored == bytes),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The hash of what was received of a content.
    pub(crate) fn hash_of(&self, name: SpoolName) -> io::Result<BlobHash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(self.path(name))?)?;
        Ok(BlobHash(*hasher.finalize().as_bytes()))
    }

    /// Gives a content whose last byte has arrived its final name.
    pub(crate) fn complete(&self, name: SpoolName) -> io::Result<()> {
        fs::rename(self.path(name), self.path(SpoolName { part_of: None, ..name }))
    }

    /// A content.
    pub(crate) fn read(&self, name: SpoolName) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    /// Notes when a content was last asked for.
    pub(crate) fn note(&self, name: SpoolName, asked: Timestamp) -> io::Result<()> {
        let micros = u64::try_from(asked.as_micros()).unwrap_or_default();
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.set_modified(UNIX_EPOCH + Duration::from_micros(micros))
    }

    /// Removes a content; one that is gone already is no error.
    pub(crate) fn remove(&self, name: SpoolName) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, name: SpoolName) -> PathBuf {
        self.0.join(name.to_string())
    }
}

impl SpoolName {
    fn parse(text: &str) -> Option<Self> {
        let name = match text.strip_suffix(PART) {
            Some(rest) => {
                let (hash, bytes) = rest.split_once('.')?;
                Self { hash: hash.parse().ok()?, part_of: Some(bytes.parse().ok()?) }
            }
            None => Self { hash: text.parse().ok()?, part_of: None },
        };
        // Hexadecimal digits have two cases and numbers many forms, the spool's names only one.
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for SpoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part_of {
            Some(bytes) => write!(f, "{}.{bytes}{PART}", self.hash),
            None => write!(f, "{}", self.hash),
        }
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
