//! The files beneath the segments, which a test can replace.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use redb::{StorageBackend, backends::FileBackend};

use super::layout;

/// Opens the files of segments. Tests substitute a failing disk.
pub trait Disk: Send + Sync + 'static {
    /// Opens `path` for reading and writing; creates it if `create` is set.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn StorageBackend>>;
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn StorageBackend>> {
        let file: File = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(layout::FILE_MODE_MAX)
            .open(path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }
}
