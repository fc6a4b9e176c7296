//! Opens files in the current directory safely: nothing here waits for another process.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// What a path refers to.
#[derive(Debug)]
pub(super) enum FileKind {
    /// Nothing.
    Nothing,
    /// A file with this content.
    Content(Vec<u8>),
    /// A directory.
    Directory,
    /// Something that cannot be read as a file, and why.
    Unreadable(String),
}

/// Reads a regular file of at most `bytes_max` bytes. A named pipe is neither waited for nor read:
/// its writer may intend it for another reader.
pub(super) fn regular(path: &Path, bytes_max: u64) -> FileKind {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return FileKind::Nothing,
        // The error of opening a socket.
        Err(Errno::NXIO) => return FileKind::Unreadable("it is not a regular file".to_owned()),
        Err(error) => return FileKind::Unreadable(io::Error::from(error).to_string()),
    };
    match read(file, bytes_max) {
        Ok(found) => found,
        Err(error) => FileKind::Unreadable(error.to_string()),
    }
}

fn read(file: File, bytes_max: u64) -> io::Result<FileKind> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Ok(FileKind::Directory);
    }
    if !kind.is_file() {
        let what = if kind.is_fifo() { "it is a named pipe" } else { "it is not a regular file" };
        return Ok(FileKind::Unreadable(what.to_owned()));
    }
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Ok(FileKind::Unreadable(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(FileKind::Content(content))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("directory")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        fs::write(at("file"), "12345").unwrap();

        let found = |name: &str| regular(&at(name), 5);
        assert!(matches!(found("nothing"), FileKind::Nothing));
        assert!(matches!(found("dangling"), FileKind::Nothing));
        assert!(matches!(found("file/below"), FileKind::Nothing));
        assert!(matches!(found("directory"), FileKind::Directory));
        assert!(matches!(found("file"), FileKind::Content(content) if content == b"12345"));
        for name in ["pipe", "socket", "loop"] {
            assert!(matches!(found(name), FileKind::Unreadable(_)), "{name}");
        }
        assert!(
            matches!(regular(&at("file"), 4), FileKind::Unreadable(why) if why.contains("4 bytes"))
        );
    }
}
