//! Files in a run's working directory, by name.
//!
//! *Promises.* A name resolves to a path below the directory only; links are not followed.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
};

use ai_factory_schemas::file::check_name;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, statat},
    io::Errno,
    path::Arg,
};

/// Writes a new file below `root` and creates its directories. The file is executable: a sender of
/// scripts need not change the mode, which not every program is allowed to do.
pub(super) fn write(root: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
    check_name(name).map_err(|wrong| io::Error::other(format!("its name {wrong}")))?;
    let (directories, file) = name.rsplit_once('/').unwrap_or(("", name));
    let mut at = root.try_clone()?;
    for directory in directories.split('/').filter(|part| !part.is_empty()) {
        match mkdirat(&at, directory, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_directory(&at, directory)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&at, file, flags, Mode::RWXU)?;
    File::from(file).write_all(content)
}

/// Opens the directory at `path`.
pub(super) fn open_root(path: &str) -> io::Result<OwnedFd> {
    open_directory(&rustix::fs::CWD, path)
}

pub(super) fn open_directory(at: &impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Opens a file by its name below `root`; with its length if it is a regular file.
pub(super) fn open_plain(root: &OwnedFd, name: &str) -> io::Result<(File, Option<u64>)> {
    let (directories, file) = name.rsplit_once('/').unwrap_or(("", name));
    let mut at = root.try_clone()?;
    for directory in directories.split('/').filter(|part| !part.is_empty()) {
        at = open_directory(&at, directory)?;
    }
    let is_regular = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    if !is_regular(statat(&at, file, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
        return Ok((File::from(at), None));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&at, file, flags, Mode::empty())?;
    let metadata = fstat(&file)?;
    let bytes = is_regular(metadata.st_mode).then_some(metadata.st_size);
    Ok((File::from(file), bytes.and_then(|bytes| u64::try_from(bytes).ok())))
}
