//! The files of a workspace after the program: which of them are what went in.
//!
//! *Promises.* Contents are compared byte by byte. Directories are opened part by part: no link is
//! followed.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use ai_factory_schemas::{
    text::BlobHash,
    workspace::{WorkspaceFile, WorkspaceManifest},
};
use rustix::fs::{AtFlags, Mode, OFlags, RawMode, chmodat, openat};

use super::{
    files::open_directory,
    sealed_contents::{SealedContents, StepBuffers},
};

/// Permissions for any execution.
const EXECUTE: RawMode = 0o111;
/// What the owner of a file needs to read it.
const READ: RawMode = 0o400;

/// A file that is there, as the listing found it.
pub(super) struct ListedFile {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) mode: RawMode,
}

/// A file that was looked into.
pub(super) struct LookedAt {
    pub(super) path: String,
    pub(super) file: WorkspaceFile,
    /// If it is not what went in.
    pub(super) content: Option<Vec<u8>>,
}

/// Looks into files below `root`. No other process may be active there.
///
/// # Errors
/// A sentence that names the file.
pub(super) fn look(
    root: &OwnedFd,
    before: &SealedContents,
    given: &WorkspaceManifest,
    found: &[ListedFile],
) -> Result<Vec<LookedAt>, String> {
    let mut buffers = StepBuffers::new();
    let mut last = None;
    let mut looked = Vec::with_capacity(found.len());
    for found in found {
        let given = given.files.get(&found.path).copied();
        let at = look_at(root, before, given, found, &mut last, &mut buffers);
        let (file, content) = at.map_err(|error| unreadable(&found.path, &error))?;
        looked.push(LookedAt { path: found.path.clone(), file, content });
    }
    Ok(looked)
}

/// Looks into one file. `last` is the directory of the previous one: neighbours share it.
fn look_at<'a>(
    root: &OwnedFd,
    before: &SealedContents,
    given: Option<WorkspaceFile>,
    ListedFile { path, bytes, mode }: &'a ListedFile,
    last: &mut Option<(&'a str, OwnedFd)>,
    buffers: &mut StepBuffers,
) -> io::Result<(WorkspaceFile, Option<Vec<u8>>)> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let kept = last.take().filter(|(kept, _)| *kept == directory);
    let (_, at) = last.insert(match kept {
        Some(kept) => kept,
        None => (directory, open_below(root, directory)?),
    });
    permit(at, name, *mode, READ)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(&*at, name, flags, Mode::empty())?);
    let (bytes, executable) = (*bytes, mode & EXECUTE != 0);
    let is_like = |given: &WorkspaceFile| given.bytes == bytes && given.executable == executable;
    if let Some(given) = given.filter(is_like)
        && before.is_in(path, bytes, &file, buffers)?
    {
        return Ok((given, None));
    }
    let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    Ok((WorkspaceFile { blob: BlobHash::of(&content), bytes, executable }, Some(content)))
}

/// Opens a directory below `root`, part by part.
fn open_below(root: &OwnedFd, directory: &str) -> io::Result<OwnedFd> {
    let mut parts = directory.split('/').filter(|part| !part.is_empty());
    parts.try_fold(root.try_clone()?, |at, part| open_directory(&at, part))
}

/// Gives the owner what it `needs` of something that is no link.
pub(super) fn permit(at: &OwnedFd, part: &str, mode: RawMode, needs: RawMode) -> io::Result<()> {
    if mode & needs == needs {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(mode | needs);
    Ok(chmodat(at, part, mode, AtFlags::empty())?)
}

/// The sentence of a path that cannot be read.
pub(super) fn unreadable(path: &str, error: &io::Error) -> String {
    format!("{path:?} cannot be read: {error}")
}
