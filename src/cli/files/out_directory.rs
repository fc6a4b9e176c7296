//! The directory in which a command writes files of a session.
//!
//! *Promises.* A file is replaced or removed only if its content is what went into the session; any
//! other stays as it is, also one that changes while its new content is fetched. A file is there in
//! full or not at all. No link below the directory is
//! followed, so nothing outside of it is touched. Nothing is written into the factory's own data
//! directory. The directory is made only when something is written.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ai_factory_schemas::{
    limit::WORKSPACE_FILE_BYTES_MAX,
    text::BlobHash,
    workspace::{FileChange, WorkspaceFile},
};
use rustix::{
    fs::{
        AtFlags, Mode, OFlags, RenameFlags, fchmod, mkdirat, open, openat, renameat_with, unlinkat,
    },
    io::Errno,
};

use super::data_directory::DataDirectory;
use crate::cli::text;

/// As much of a file as is read: one that is longer is not from a workspace.
const READ_BYTES_MAX: u64 = WORKSPACE_FILE_BYTES_MAX + 1;

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The file was written.
    Written,
    /// The file was removed.
    Removed,
    /// It was so already.
    Same,
    /// What is there stays, and why.
    Kept(String),
}

/// What is at a path.
enum Present {
    Nothing,
    File {
        hash: BlobHash,
        mode: u32,
    },
    /// Something that is no file, for people.
    Other(&'static str),
}

/// A directory for files of a session.
pub(crate) struct OutDirectory {
    path: PathBuf,
    /// Absent as long as the directory is not there.
    top: OnceLock<OwnedFd>,
    data: DataDirectory,
    /// The bits that the modes of new files lack.
    umask: u32,
}

impl OutDirectory {
    /// Opens the directory if it is there; it is made with the first file. New files and
    /// directories lack the bits of `umask`. Nothing is written into `data`.
    ///
    /// # Errors
    /// It is no directory or cannot be opened.
    pub(crate) fn open(path: &Path, umask: u32, data: DataDirectory) -> io::Result<Self> {
        let out = Self { path: path.to_owned(), top: OnceLock::new(), data, umask };
        match fs::metadata(path) {
            Ok(_) => drop(out.top.set(open_top(path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != Path::new("") => {}
            Err(error) => return Err(error),
        }
        Ok(out)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself; made if `create`. `None` if it is not there.
    fn top(&self, create: bool) -> io::Result<Option<&OwnedFd>> {
        if self.top.get().is_none() && create {
            make_directories(&self.path, self.umask)?;
            // Nobody else sets it: what is written is written one after another.
            let _ = self.top.set(open_top(&self.path)?);
        }
        Ok(self.top.get())
    }

    /// The path of a file in it, for people.
    pub(crate) fn shown(&self, path: &str) -> String {
        text::path(&self.path.join(path))
    }

    /// Carries out a change, if the path has what went in: `came_in`, or nothing. `content` gives
    /// the new bytes if they are needed.
    pub(crate) async fn apply<E: From<io::Error>>(
        &self,
        change: &FileChange,
        came_in: Option<BlobHash>,
        content: impl AsyncFnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Applied, E> {
        let path = change.path.as_str();
        if self.data.holds(&self.path.join(path)) {
            let why = "it would be in the factory's own data directory";
            return Ok(Applied::Kept(why.to_owned()));
        }
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(file) = &change.file else {
            let applied = match self.enter(parents, false)? {
                Ok(Some(parent)) => remove(&parent, name, came_in)?,
                Ok(None) => Applied::Same,
                Err(in_the_way) => Applied::Kept(in_the_way),
            };
            if applied == Applied::Removed {
                self.remove_empty(parents);
            }
            return Ok(applied);
        };
        // What is there is looked at before anything is fetched or made.
        let there = match self.enter(parents, false)? {
            Ok(Some(parent)) => present(&parent, name)?,
            Ok(None) => Present::Nothing,
            Err(in_the_way) => return Ok(Applied::Kept(in_the_way)),
        };
        let mode = match decide(&there, file, came_in) {
            // Looked at again when the file takes its place.
            OutDecision::Write(mode) => mode,
            OutDecision::Leave(applied) => return Ok(applied),
        };
        let content = content().await?;
        match self.enter(parents, true)? {
            Ok(Some(parent)) => {
                let mode = mode.unwrap_or_else(|| self.new_mode(file));
                let beside = write_beside(&parent, &content, mode)?;
                let placed = match there {
                    Present::File { hash, .. } => beside.replace(name, hash)?,
                    _ => beside.add(name)?,
                };
                Ok(placed.map_or_else(Applied::Kept, |()| Applied::Written))
            }
            Ok(None) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
            Err(in_the_way) => Ok(Applied::Kept(in_the_way)),
        }
    }

    fn new_mode(&self, file: &WorkspaceFile) -> u32 {
        let mode = if file.executable { 0o777 } else { 0o666 };
        mode & !self.umask
    }

    /// The directory of a file, step by step without following links; made if `create`. `None` if
    /// it is not there.
    ///
    /// # Errors
    /// The inner one says what stands in the way.
    fn enter(&self, parents: &str, create: bool) -> io::Result<Result<Option<OwnedFd>, String>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Some(top) = self.top(create)? else { return Ok(Ok(None)) };
        let mut at = top.try_clone()?;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            if create {
                match mkdirat(&at, part, Mode::from_raw_mode(0o700)) {
                    Ok(()) => {
                        let made = openat(&at, part, flags, Mode::empty())?;
                        fchmod(&made, Mode::from_raw_mode(0o777 & !self.umask))?;
                    }
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            at = match openat(&at, part, flags, Mode::empty()) {
                Ok(inner) => inner,
                Err(Errno::NOENT) => return Ok(Ok(None)),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Ok(Err(format!("`{part}` on its way is a file or a link")));
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Ok(Some(at)))
    }

    /// Removes directories that are empty now, from the inside out.
    fn remove_empty(&self, parents: &str) {
        let mut rest = parents;
        while !rest.is_empty() {
            let (above, name) = rest.rsplit_once('/').unwrap_or(("", rest));
            let Ok(Ok(Some(parent))) = self.enter(above, false) else { return };
            // One that is not empty stays.
            if unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
            rest = above;
        }
    }
}

/// What is to be done with a file.
enum OutDecision {
    /// Write it, with this mode or that of a new file.
    Write(Option<u32>),
    Leave(Applied),
}

fn decide(there: &Present, file: &WorkspaceFile, came_in: Option<BlobHash>) -> OutDecision {
    match there {
        Present::Nothing => OutDecision::Write(None),
        Present::Other(what) => OutDecision::Leave(Applied::Kept(format!("{what} is there"))),
        Present::File { hash, mode } => {
            let is_new = *hash == file.blob;
            if is_new && (mode & 0o111 != 0) == file.executable {
                return OutDecision::Leave(Applied::Same);
            }
            if !is_new && came_in != Some(*hash) {
                return OutDecision::Leave(Applied::Kept(differs(came_in)));
            }
            // Who may read it may execute it, too.
            let readable = (mode & 0o444) >> 2;
            let mode = if file.executable { mode | readable } else { mode & !0o111 };
            OutDecision::Write(Some(mode & 0o777))
        }
    }
}

fn differs(came_in: Option<BlobHash>) -> String {
    match came_in {
        Some(_) => "it differs from what went in".to_owned(),
        None => "another file is there".to_owned(),
    }
}

fn remove(parent: &OwnedFd, name: &str, came_in: Option<BlobHash>) -> io::Result<Applied> {
    Ok(match present(parent, name)? {
        Present::Nothing => Applied::Same,
        Present::Other(what) => Applied::Kept(format!("{what} is there")),
        Present::File { hash, .. } if came_in == Some(hash) => {
            unlinkat(parent, name, AtFlags::empty())?;
            Applied::Removed
        }
        Present::File { .. } => Applied::Kept(differs(came_in)),
    })
}

/// A complete file under a name of its own, beside the place where it belongs; removed when
/// dropped.
struct FileBeside<'a> {
    parent: &'a OwnedFd,
    name: String,
}

fn write_beside<'a>(parent: &'a OwnedFd, content: &[u8], mode: u32) -> io::Result<FileBeside<'a>> {
    let name = format!(".ai-factory-{}.tmp", std::process::id());
    // Left by a process with the same id that was killed.
    let _ = unlinkat(parent, &*name, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(parent, &*name, flags, Mode::from_raw_mode(0o600))?;
    let beside = FileBeside { parent, name };
    let mut file = File::from(file);
    file.write_all(content)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(beside)
}

/// Whether a file has taken its place, or why not.
type Placed = Result<(), String>;

impl FileBeside<'_> {
    /// Gives it the name, if nothing has that.
    fn add(&self, name: &str) -> io::Result<Placed> {
        match self.rename(name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Ok(())),
            Err(Errno::EXIST) => Ok(Err("another file came there meanwhile".to_owned())),
            Err(error) if is_unsupported(error) => match present(self.parent, name)? {
                Present::Nothing => Ok(Ok(self.rename(name, RenameFlags::empty())?)),
                _ => Ok(Err("another file came there meanwhile".to_owned())),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Puts it in the place of the file with this content. Both change places, so that what is
    /// compared is what is replaced; another content goes back.
    fn replace(&self, name: &str, expected: BlobHash) -> io::Result<Placed> {
        let is_expected = |name: &str| {
            let found = present(self.parent, name)?;
            Ok::<_, io::Error>(matches!(found, Present::File { hash, .. } if hash == expected))
        };
        let changed = || "it changed meanwhile".to_owned();
        match self.rename(name, RenameFlags::EXCHANGE) {
            Ok(()) => match is_expected(&self.name) {
                Ok(true) => Ok(Ok(())),
                unexpected => {
                    self.rename(name, RenameFlags::EXCHANGE)?;
                    unexpected.map(|_| Err(changed()))
                }
            },
            Err(Errno::NOENT) => Ok(Err("it was removed meanwhile".to_owned())),
            Err(error) if is_unsupported(error) => {
                if !is_expected(name)? {
                    return Ok(Err(changed()));
                }
                Ok(Ok(self.rename(name, RenameFlags::empty())?))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, name: &str, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(self.parent, &*self.name, self.parent, name, flags)
    }
}

impl Drop for FileBeside<'_> {
    fn drop(&mut self) {
        // Nothing is there once it has its place and there was nothing before.
        let _ = unlinkat(self.parent, &*self.name, AtFlags::empty());
    }
}

/// Whether the file system cannot rename with flags.
fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::NOTSUP)
}

fn present(parent: &OwnedFd, name: &str) -> io::Result<Present> {
    // Without waiting for the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(parent, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Present::Nothing),
        Err(Errno::LOOP) => return Ok(Present::Other("a link")),
        Err(Errno::NXIO) => return Ok(Present::Other("a pipe or device")),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(Present::Other("a folder"));
    }
    if !metadata.is_file() {
        return Ok(Present::Other("a pipe or device"));
    }
    let mut content = Vec::new();
    file.take(READ_BYTES_MAX).read_to_end(&mut content)?;
    Ok(Present::File { hash: BlobHash::of(&content), mode: metadata.mode() })
}

fn open_top(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes the directories of a path that are not there.
fn make_directories(path: &Path, umask: u32) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directories(parent, umask)?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o777 & !umask)),
        // Somebody else made it meanwhile.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const UMASK: u32 = 0o022;

    fn file(content: &str, executable: bool) -> WorkspaceFile {
        let (blob, bytes) = (BlobHash::of(content.as_bytes()), content.len() as u64);
        WorkspaceFile { blob, bytes, executable }
    }

    fn out(dir: &Path) -> OutDirectory {
        OutDirectory::open(dir, UMASK, DataDirectory::new(Path::new("/nonexistent"))).unwrap()
    }

    fn waited<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    /// Applies one change: the path, what went in, the new content.
    fn apply(dir: &Path, path: &str, came_in: Option<&str>, new: Option<&str>) -> Applied {
        let change =
            FileChange { path: path.to_owned(), file: new.map(|content| file(content, false)) };
        let came_in = came_in.map(|content| BlobHash::of(content.as_bytes()));
        let content = async || Ok::<_, io::Error>(new.unwrap().as_bytes().to_vec());
        waited(out(dir).apply(&change, came_in, content)).unwrap()
    }

    fn content(dir: &TempDir, path: &str) -> String {
        fs::read_to_string(dir.path().join(path)).unwrap()
    }

    fn mode(dir: &TempDir, path: &str) -> u32 {
        fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777
    }

    fn kept(applied: &Applied, words: &str) -> bool {
        matches!(applied, Applied::Kept(why) if why.contains(words))
    }

    #[test]
    fn new_and_changed_files_are_written_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        assert_eq!(apply(dir.path(), "a", Some("old"), Some("new")), Applied::Written);
        assert_eq!(apply(dir.path(), "a", Some("old"), Some("new")), Applied::Same);
        assert_eq!(apply(dir.path(), "x/y/b", None, Some("b")), Applied::Written);
        assert_eq!((content(&dir, "a"), content(&dir, "x/y/b")), ("new".into(), "b".into()));
        assert_eq!((mode(&dir, "x/y/b"), mode(&dir, "x")), (0o644, 0o755));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let deep = dir.path().join("new/place");
        assert_eq!(apply(&deep, "c", Some("c before"), Some("c")), Applied::Written);
        assert_eq!(mode(&dir, "new/place"), 0o755);
    }

    #[test]
    fn a_file_that_differs_from_what_went_in_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "changed meanwhile").unwrap();
        for (came_in, new, words) in [
            (Some("old"), Some("new"), "differs from what went in"),
            (Some("old"), None, "differs from what went in"),
            (None, Some("new"), "another file is there"),
        ] {
            let applied = apply(dir.path(), "a", came_in, new);
            assert!(kept(&applied, words), "{applied:?}");
            assert_eq!(content(&dir, "a"), "changed meanwhile");
        }
    }

    #[test]
    fn deleted_files_go_with_their_empty_folders() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("x/y")).unwrap();
        fs::write(dir.path().join("x/y/a"), "a").unwrap();
        fs::write(dir.path().join("x/b"), "b").unwrap();
        assert_eq!(apply(dir.path(), "x/y/a", Some("a"), None), Applied::Removed);
        assert!(!dir.path().join("x/y").exists() && dir.path().join("x/b").exists());
        assert_eq!(apply(dir.path(), "x/y/a", Some("a"), None), Applied::Same);
        assert_eq!(apply(dir.path(), "x/b", Some("b"), None), Applied::Removed);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_execute_bit_travels_and_the_rest_of_a_mode_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("a");
        fs::write(&at, "a").unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o640)).unwrap();
        let out = out(dir.path());
        let set = |path: &str, executable| {
            let change = FileChange { path: path.to_owned(), file: Some(file("a", executable)) };
            let content = async || Ok::<_, io::Error>(b"a".into());
            waited(out.apply(&change, Some(BlobHash::of(b"a")), content)).unwrap()
        };
        assert_eq!((set("a", true), mode(&dir, "a")), (Applied::Written, 0o750));
        assert_eq!((set("a", true), mode(&dir, "a")), (Applied::Same, 0o750));
        assert_eq!((set("a", false), mode(&dir, "a")), (Applied::Written, 0o640));
        assert_eq!((set("b", true), mode(&dir, "b")), (Applied::Written, 0o755));
    }

    #[test]
    fn no_link_is_followed_and_nothing_outside_is_touched() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("a"), "a").unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink(outside.path().join("a"), dir.path().join("a")).unwrap();
        for (path, words) in
            [("out/a", "is a file or a link"), ("out/b", "is a file or a link"), ("a", "a link")]
        {
            for new in [Some("new"), None] {
                let applied = apply(dir.path(), path, Some("a"), new);
                assert!(kept(&applied, words), "{path}: {applied:?}");
            }
        }
        assert_eq!(content(&outside, "a"), "a");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_stays_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        assert!(kept(&apply(dir.path(), "d", None, Some("x")), "a folder is there"));
        assert!(kept(&apply(dir.path(), "f/x", None, Some("x")), "`f` on its way is a file"));
    }

    #[test]
    fn a_directory_is_made_only_with_a_file_and_a_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x/y");
        assert_eq!(apply(&deep, "a", Some("a"), None), Applied::Same);
        assert!(!dir.path().join("x").exists());
        fs::write(dir.path().join("f"), "").unwrap();
        let data = DataDirectory::new(Path::new("/nonexistent"));
        for path in ["f", "f/x"] {
            let refused = OutDirectory::open(&dir.path().join(path), UMASK, data.clone());
            let refused = refused.map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::NotADirectory, "{path}");
        }
    }

    #[test]
    fn a_failure_leaves_no_half_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = out(dir.path());
        let change = FileChange { path: "x/a".to_owned(), file: Some(file("a", false)) };
        let failed = waited(out.apply(&change, None, async || Err(io::Error::other("no content"))));
        assert_eq!(failed.unwrap_err().to_string(), "no content");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_changes_while_the_content_is_fetched_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("a");
        let out = out(dir.path());
        let set = |came_in: Option<&str>, meanwhile: &dyn Fn()| {
            let change = FileChange { path: "a".to_owned(), file: Some(file("new", false)) };
            let content = async || {
                meanwhile();
                Ok::<_, io::Error>(b"new".into())
            };
            let came_in = came_in.map(|content| BlobHash::of(content.as_bytes()));
            waited(out.apply(&change, came_in, content)).unwrap()
        };
        let added = set(None, &|| fs::write(&at, "mine").unwrap());
        assert!(kept(&added, "came there meanwhile"), "{added:?}");
        let changed = set(Some("mine"), &|| fs::write(&at, "mine too").unwrap());
        assert!(kept(&changed, "changed meanwhile"), "{changed:?}");
        assert_eq!(content(&dir, "a"), "mine too");
        let removed = set(Some("mine too"), &|| fs::remove_file(&at).unwrap());
        assert!(kept(&removed, "removed meanwhile"), "{removed:?}");
        fs::write(&at, "old").unwrap();
        let linked = set(Some("old"), &|| {
            fs::remove_file(&at).unwrap();
            symlink("/etc/hostname", &at).unwrap();
        });
        assert!(kept(&linked, "changed meanwhile"), "{linked:?}");
        assert!(fs::symlink_metadata(&at).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
