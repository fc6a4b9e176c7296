//! A workspace in a jail: written before the program starts, listed after it has ended.
//!
//! *Promises.* A path counts as deleted only if a complete listing lacks it: what is hidden by
//! something that does not belong to a workspace stays as it went in, and is named. Either all
//! changes come out or none.

use std::{collections::BTreeMap, fs::File, io, os::fd::OwnedFd};

use ai_factory_schemas::{
    file::{check_name, directories},
    run::FileLeftOut,
    workspace::{
        ENVIRONMENT_MARK, FileChange, WorkspaceFile, WorkspaceLimits, WorkspaceManifest,
        is_excluded,
    },
};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat, fchmod, fstat, mkdirat, openat, statat},
    io::Errno,
};

use super::{
    comparison::{ListedFile, LookedAt, look, permit, unreadable},
    files::open_directory,
    halves::in_halves,
    left_out::LeftOutList,
    message::{TreeBytes, TreeOrder, TreeReply},
    sealed_contents::{SealedContents, StepBuffers},
    search::{ENTRIES_MAX, parts, shown},
};

/// The directory of the workspace in the working directory of the jail. The program's file lies
/// beside it.
pub(super) const WORKSPACE_NAME: &str = "work";

/// Permissions of directories and executable files.
const EXECUTABLE: Mode = Mode::from_raw_mode(0o755);
/// Permissions of other files.
const PLAIN: Mode = Mode::from_raw_mode(0o644);
/// What the owner of a directory needs to list it.
const LIST: RawMode = 0o500;

/// A workspace, held open, so that no path has to be trusted.
pub(super) struct Workspace {
    order: TreeOrder<'static>,
    contents: SealedContents,
    root: OwnedFd,
}

/// What is sent back of a workspace.
pub(super) struct WorkspaceChanges {
    reply: TreeReply,
    contents: Vec<u8>,
}

impl WorkspaceChanges {
    /// The list as JSON and the contents, and the sizes of both.
    pub(super) fn into_parts(self) -> io::Result<(TreeBytes, [Vec<u8>; 2])> {
        let list = serde_json::to_vec(&self.reply)?;
        let (list_bytes, contents) = (list.len() as u64, self.contents.len() as u64);
        Ok((TreeBytes { list: list_bytes, contents }, [list, self.contents]))
    }
}

impl Workspace {
    /// Writes the files into a new directory below `above`.
    pub(super) fn unpack(
        above: &OwnedFd,
        order: TreeOrder<'static>,
        contents: OwnedFd,
    ) -> io::Result<Self> {
        let contents = SealedContents::new(contents, &order.files)?;
        mkdirat(above, WORKSPACE_NAME, EXECUTABLE)?;
        let root = open_directory(above, WORKSPACE_NAME)?;
        let files: Vec<_> = order.files.files.iter().collect();
        for laid in in_halves(&files, |files| lay(&root, &contents, files)) {
            laid?;
        }
        Ok(Self { order, contents, root })
    }

    /// The open directory.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// What the program made of it; `None` if that is discarded. No other process may be active
    /// there; `above` is the directory that it was unpacked into.
    pub(super) fn changes(&self, above: &OwnedFd) -> Option<WorkspaceChanges> {
        if self.order.discard {
            return None;
        }
        let mut listing = Listing::new(&self.order);
        let listed = self
            .is_in_place(above)
            .and_then(|()| listing.list(&self.root, ""))
            .and_then(|()| listing.look(&self.root, &self.contents));
        let (changes, contents, left_out) = listing.end(listed);
        Some(WorkspaceChanges { reply: TreeReply { changes, left_out }, contents })
    }

    /// Whether the directory is where the program found it; makes it accessible.
    fn is_in_place(&self, above: &OwnedFd) -> Result<(), String> {
        let moved = "the program removed or replaced the directory of the workspace";
        for directory in [above, &self.root] {
            open_up(directory).map_err(|error| unreadable(".", &error))?;
        }
        let held = fstat(&self.root).map_err(|error| unreadable(".", &error.into()))?;
        match statat(above, WORKSPACE_NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino) => Ok(()),
            _ => Err(moved.to_owned()),
        }
    }
}

/// Writes files below `root`.
fn lay(
    root: &OwnedFd,
    contents: &SealedContents,
    files: &[(&String, &WorkspaceFile)],
) -> io::Result<()> {
    let mut buffers = StepBuffers::new();
    // The directory of the previous file: neighbours share it.
    let mut last: (&str, OwnedFd) = ("", root.try_clone()?);
    for (path, WorkspaceFile { bytes, executable, .. }) in files {
        check_name(path).map_err(|wrong| io::Error::other(format!("{path:?} {wrong}")))?;
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if directory != last.0 {
            last = (directory, make_directories(root, path)?);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = if *executable { EXECUTABLE } else { PLAIN };
        let mut file = File::from(openat(&last.1, name, flags, mode)?);
        contents.copy(path, *bytes, &mut file, &mut buffers)?;
    }
    Ok(())
}

/// Makes the directories of a file below `root`; returns the innermost.
fn make_directories(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let mut at = root.try_clone()?;
    for directory in directories(path) {
        let name = directory.rsplit('/').next().unwrap_or(directory);
        match mkdirat(&at, name, EXECUTABLE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_directory(&at, name)?;
    }
    Ok(at)
}

/// A listing of a workspace.
struct Listing<'a> {
    order: &'a TreeOrder<'static>,
    found: Vec<ListedFile>,
    after: WorkspaceManifest,
    /// The contents of the files that are new or changed.
    contents: BTreeMap<String, Vec<u8>>,
    /// All files so far, in bytes.
    bytes: u64,
    /// Files and directories so far.
    entries: usize,
    left_out: LeftOutList,
    /// Where something irregular is, by what it hides, and the reason.
    hiding: BTreeMap<String, &'static str>,
}

impl<'a> Listing<'a> {
    fn new(order: &'a TreeOrder<'static>) -> Self {
        Self {
            order,
            found: Vec::new(),
            after: WorkspaceManifest::default(),
            contents: BTreeMap::new(),
            bytes: 0,
            entries: 0,
            left_out: LeftOutList::new(),
            hiding: BTreeMap::new(),
        }
    }

    /// Lists the files below `at`, whose path is `above`.
    ///
    /// # Errors
    /// Why the listing is incomplete, or what does not fit.
    fn list(&mut self, at: &OwnedFd, above: &str) -> Result<(), String> {
        for part in parts(at).map_err(|error| unreadable(above, &error))? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(format!(
                    "the workspace has more than {ENTRIES_MAX} files and directories"
                ));
            }
            let separator = if above.is_empty() { "" } else { "/" };
            let name = [above.as_bytes(), separator.as_bytes(), &part].concat();
            let (Ok(part), Ok(path)) = (str::from_utf8(&part), str::from_utf8(&name)) else {
                self.left_out.add(shown(&name), "its name is not UTF-8".to_owned());
                continue;
            };
            if is_excluded(part) {
                continue;
            }
            if part.chars().any(char::is_control) {
                self.left_out.add(shown(&name), "its name has control characters".to_owned());
                continue;
            }
            let found = statat(at, part, AtFlags::SYMLINK_NOFOLLOW);
            let found = found.map_err(|error| unreadable(path, &error.into()))?;
            let kind = FileType::from_raw_mode(found.st_mode);
            if let Some(reason) = irregular(kind) {
                if self.went_in(path) {
                    self.hiding.insert(path.to_owned(), reason);
                } else {
                    self.left_out.add(path.to_owned(), reason.to_owned());
                }
                continue;
            }
            match (kind, check_name(path)) {
                (FileType::Directory, Ok(())) => self.directory(at, part, path, found.st_mode)?,
                // It may be empty, and no file in it could be named.
                (FileType::Directory, Err(fault)) => {
                    self.left_out.add(path.to_owned(), format!("it {fault}"));
                }
                (_, Ok(())) => self.file(path, &found)?,
                (_, Err(fault)) => {
                    return Err(format!("the path {path:?} that the program left {fault}"));
                }
            }
        }
        Ok(())
    }

    /// Whether the path was a file or a directory at the start.
    fn went_in(&self, path: &str) -> bool {
        let files = &self.order.files.files;
        let below = format!("{path}/");
        let mut after = files.range(below.clone()..);
        files.contains_key(path) || after.next().is_some_and(|(file, _)| file.starts_with(&below))
    }

    fn directory(
        &mut self,
        at: &OwnedFd,
        part: &str,
        path: &str,
        mode: RawMode,
    ) -> Result<(), String> {
        let below = permit(at, part, mode, LIST)
            .and_then(|()| open_directory(at, part))
            .map_err(|error| unreadable(path, &error))?;
        let is_environment = statat(&below, ENVIRONMENT_MARK, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if is_environment && !self.went_in(path) {
            self.left_out.add(path.to_owned(), "it is a virtual environment".to_owned());
            return Ok(());
        }
        self.list(&below, path)
    }

    fn file(&mut self, path: &str, found: &Stat) -> Result<(), String> {
        let WorkspaceLimits { files_max, file_bytes_max, bytes_max } = self.order.limits;
        let bytes = u64::try_from(found.st_size).unwrap_or_default();
        if bytes > file_bytes_max {
            return Err(format!("{path:?} has {bytes} bytes: at most {file_bytes_max} each"));
        }
        self.bytes += bytes;
        if self.bytes > bytes_max {
            return Err(format!("the workspace has more than {bytes_max} bytes"));
        }
        if self.found.len() >= files_max {
            return Err(format!("the workspace has more than {files_max} files"));
        }
        self.found.push(ListedFile { path: path.to_owned(), bytes, mode: found.st_mode });
        Ok(())
    }

    /// Looks into the files that were found: which of them have another content than `before`.
    fn look(&mut self, root: &OwnedFd, before: &SealedContents) -> Result<(), String> {
        let found = std::mem::take(&mut self.found);
        let given = &self.order.files;
        let looked = in_halves(&found, |found| look(root, before, given, found));
        for half in looked {
            for LookedAt { path, file, content } in half? {
                if let Some(content) = content {
                    self.contents.insert(path.clone(), content);
                }
                self.after.files.insert(path, file);
            }
        }
        Ok(())
    }

    /// The changes, their contents in the same order, and what stayed out.
    fn end(
        mut self,
        listed: Result<(), String>,
    ) -> (Result<Vec<FileChange>, String>, Vec<u8>, Vec<FileLeftOut>) {
        let before = &self.order.files;
        // What went in is named before what the program added.
        let mut left_out = LeftOutList::new();
        for (path, file) in &before.files {
            if let Some(reason) = hidden(path, &self.hiding) {
                left_out.add(path.clone(), format!("{reason}: it stays as it went in"));
                self.after.files.insert(path.clone(), *file);
            }
        }
        left_out.append(self.left_out);
        let left_out = left_out.complete("let the program leave fewer behind");
        let checked = listed.and_then(|()| {
            let checked = self.after.check(&self.order.limits);
            checked.map_err(|fault| format!("the workspace {fault}"))
        });
        match checked {
            Ok(()) => {
                let contents = self.contents.into_values().flatten().collect();
                (Ok(before.changes_to(&self.after)), contents, left_out)
            }
            Err(why) => (Err(why), Vec::new(), left_out),
        }
    }
}

/// Why a file cannot be seen: something irregular is in its place or in that of a directory above.
fn hidden(path: &str, hiding: &BTreeMap<String, &'static str>) -> Option<String> {
    if let Some(reason) = hiding.get(path) {
        return Some((*reason).to_owned());
    }
    directories(path).find_map(|above| {
        let reason = hiding.get(above)?.strip_prefix("it ")?;
        Some(format!("its directory {above:?} {reason}"))
    })
}

/// Why something never belongs to a workspace, unless it is a file or a directory.
fn irregular(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile | FileType::Directory => None,
        FileType::Symlink => Some("it is a symbolic link"),
        FileType::Fifo => Some("it is a named pipe, not a regular file"),
        FileType::Socket => Some("it is a socket, not a regular file"),
        _ => Some("it is not a regular file"),
    }
}

/// Gives the owner access to an open directory.
fn open_up(directory: &OwnedFd) -> io::Result<()> {
    let mode = fstat(directory)?.st_mode;
    if mode & LIST == LIST {
        return Ok(());
    }
    Ok(fchmod(directory, Mode::from_raw_mode(mode | LIST))?)
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use ai_factory_schemas::text::BlobHash;
    use tempfile::TempDir;

    use super::{super::files::open_root, *};

    fn memory(contents: &str) -> OwnedFd {
        let mut memory = tempfile::tempfile().unwrap();
        memory.write_all(contents.as_bytes()).unwrap();
        memory.into()
    }

    /// A workspace in a directory of its own.
    struct Place {
        _tmp: TempDir,
        directory: PathBuf,
        above: OwnedFd,
        workspace: Workspace,
    }

    impl Place {
        fn new(files: &[(&str, &str, bool)], limits: WorkspaceLimits) -> Self {
            let tmp = tempfile::tempdir().unwrap();
            let above = open_root(tmp.path().to_str().unwrap()).unwrap();
            let mut manifest = WorkspaceManifest::default();
            for (path, content, executable) in files {
                let (blob, bytes) = (BlobHash::of(content.as_bytes()), content.len() as u64);
                let file = WorkspaceFile { blob, bytes, executable: *executable };
                manifest.files.insert((*path).to_owned(), file);
            }
            let contents: String = {
                let mut files = files.to_vec();
                files.sort_unstable();
                files.iter().map(|(_, content, _)| *content).collect()
            };
            let order = TreeOrder { files: Cow::Owned(manifest), limits, discard: false };
            let workspace = Workspace::unpack(&above, order, memory(&contents)).unwrap();
            Self { directory: tmp.path().join(WORKSPACE_NAME), above, workspace, _tmp: tmp }
        }

        fn reply(&self) -> (TreeReply, String) {
            let WorkspaceChanges { reply, contents } =
                self.workspace.changes(&self.above).expect("it is not discarded");
            (reply, String::from_utf8(contents).unwrap())
        }
    }

    const FILES: [(&str, &str, bool); 4] =
        [("a.b", "1", false), ("a-b", "22", false), ("a/b", "333", true), ("c", "", false)];

    #[test]
    fn an_unchanged_tree_has_no_changes_and_the_contents_follow_the_order_of_their_paths() {
        let place = Place::new(&FILES, WorkspaceLimits::default());
        assert_eq!(fs::read_to_string(place.directory.join("a/b")).unwrap(), "333");
        let (reply, contents) = place.reply();
        assert_eq!((reply.changes.unwrap(), contents), (Vec::new(), String::new()));
        for (path, content) in [("a.b", "x"), ("a/b", "y"), ("a-b", "z"), ("a/a", "w")] {
            fs::write(place.directory.join(path), content).unwrap();
        }
        let (reply, contents) = place.reply();
        let changes = reply.changes.unwrap();
        let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!((paths, contents.as_str()), (vec!["a-b", "a.b", "a/a", "a/b"], "zxwy"));
    }

    #[test]
    fn a_mark_of_an_environment_hides_no_file_that_went_in_and_a_deep_empty_tree_no_change() {
        let place = Place::new(&FILES, WorkspaceLimits::default());
        let part = "d".repeat(100);
        fs::create_dir_all(place.directory.join([&*part; 4].join("/"))).unwrap();
        fs::create_dir(place.directory.join("env")).unwrap();
        for path in ["a/pyvenv.cfg", "env/pyvenv.cfg", "env/x", "a/new"] {
            fs::write(place.directory.join(path), "9").unwrap();
        }
        fs::remove_file(place.directory.join("a/b")).unwrap();
        let (reply, contents) = place.reply();
        let changes = reply.changes.unwrap();
        let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!((paths, contents.as_str()), (vec!["a/b", "a/new"], "9"));
        let deep = [&*part; 3].join("/");
        let left_out: Vec<_> = reply.left_out.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        assert!(left_out.contains(&"env") && left_out.contains(&deep.as_str()), "{left_out:?}");
    }

    #[test]
    fn permission_to_execute_alone_is_a_change_with_its_content() {
        let place = Place::new(&FILES, WorkspaceLimits::default());
        let permissions = fs::Permissions::from_mode(0o600);
        fs::set_permissions(place.directory.join("a/b"), permissions).unwrap();
        let (reply, contents) = place.reply();
        let [change] = &reply.changes.unwrap()[..] else { panic!("one change") };
        assert!(change.path == "a/b" && !change.file.unwrap().executable);
        assert_eq!(contents, "333");
    }

    #[test]
    fn one_change_that_does_not_fit_means_that_none_is_taken() {
        let limits = WorkspaceLimits { files_max: 4, file_bytes_max: 9, bytes_max: 10 };
        for (path, content, words) in [
            ("c", "1234567890", "\"c\" has 10 bytes: at most 9 each"),
            ("c", "12345", "more than 10 bytes"),
            ("d", "", "more than 4 files"),
        ] {
            let place = Place::new(&FILES, limits);
            fs::write(place.directory.join(path), content).unwrap();
            fs::write(place.directory.join("a.b"), "2").unwrap();
            let (reply, contents) = place.reply();
            let why = reply.changes.unwrap_err();
            assert!(why.contains(words), "{why}");
            assert_eq!(contents, "");
        }
    }

    #[test]
    fn what_a_name_or_a_kind_keeps_out_is_named_within_bounds() {
        let place = Place::new(&FILES, WorkspaceLimits::default());
        for number in 0..1000 {
            let link = place.directory.join(format!("{number:0200}"));
            std::os::unix::fs::symlink("c", link).unwrap();
        }
        let (reply, _) = place.reply();
        assert_eq!(reply.changes.unwrap(), []);
        let last = reply.left_out.last().unwrap();
        let unlisted = 1000 - (reply.left_out.len() - 1);
        assert!(last.reason.starts_with(&format!("{unlisted} more files")), "{last:?}");
    }

    #[test]
    fn what_is_hidden_by_something_irregular_is_not_deleted() {
        use std::os::unix::{fs::symlink, net::UnixListener};
        let files = [("cfg", "1", false), ("d/x/y", "2", false), ("d.z", "3", false)];
        let more = [("e/f", "4", false), ("gone", "5", false), ("s", "6", false)];
        let place = Place::new(&[files, more].concat(), WorkspaceLimits::default());
        let at = |path: &str| place.directory.join(path);
        fs::rename(at("cfg"), at("real")).unwrap();
        fs::rename(at("d"), at("real-d")).unwrap();
        for path in ["gone", "s", "e/f"] {
            fs::remove_file(at(path)).unwrap();
        }
        fs::remove_dir(at("e")).unwrap();
        symlink("real", at("cfg")).unwrap();
        symlink("real-d", at("d")).unwrap();
        symlink("nowhere", at("new")).unwrap();
        let _held = [UnixListener::bind(at("e")).unwrap(), UnixListener::bind(at("s")).unwrap()];
        let (reply, contents) = place.reply();
        let changes = reply.changes.unwrap();
        let changes: Vec<_> =
            changes.iter().map(|change| (&*change.path, change.file.is_some())).collect();
        assert_eq!(changes, [("gone", false), ("real", true), ("real-d/x/y", true)]);
        assert_eq!(contents, "12");
        let left_out = reply.left_out.iter().map(|it| (&*it.name, &*it.reason));
        let expected = [
            ("cfg", "it is a symbolic link: it stays as it went in"),
            ("d/x/y", "its directory \"d\" is a symbolic link: it stays as it went in"),
            ("e/f", "its directory \"e\" is a socket, not a regular file: it stays as it went in"),
            ("s", "it is a socket, not a regular file: it stays as it went in"),
            ("new", "it is a symbolic link"),
        ];
        assert_eq!(left_out.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nothing_is_written_above_the_workspace() {
        let file = WorkspaceFile { blob: BlobHash::of(b"x"), bytes: 1, executable: false };
        for path in ["../out", "../out/file", "/tmp/out", "a/../../out"] {
            let tmp = tempfile::tempdir().unwrap();
            let above = open_root(tmp.path().to_str().unwrap()).unwrap();
            let files = WorkspaceManifest { files: [(path.to_owned(), file)].into() };
            let limits = WorkspaceLimits::default();
            let order = TreeOrder { files: Cow::Owned(files), limits, discard: false };
            assert!(Workspace::unpack(&above, order, memory("x")).is_err(), "{path}");
            assert!(!tmp.path().join("out").exists(), "{path}");
        }
    }
}
