//! The files for a workspace, read from disk: files and folders that are named.
//!
//! *Promises.* What is named itself goes in unless it is a link, never belongs to a workspace, or
//! holds a secret; then it is refused. From a folder, what belongs to no workspace and what
//! `.gitignore` and `.ignore` name stays out. Links are not followed. What stays out for another
//! reason is named. A set that is too large, or that could not be read in full, is refused.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ai_factory_schemas::{
    file::{check_name, directories},
    text::BlobHash,
    workspace::{ENVIRONMENT_MARK, WorkspaceLimits, is_excluded},
};
use bytes::Bytes;
use ignore::{DirEntry, WalkBuilder};

use super::{data_directory::DataDirectory, secrets::SecretPatterns};
use crate::cli::{
    exit::CommandError,
    text::{self, one_line},
};

/// Files with secrets that are named in one sentence.
const SECRETS_NAMED_MAX: usize = 10;

/// A file that was read.
#[derive(Clone, Debug)]
pub(crate) struct InputFile {
    /// Its bytes.
    pub(crate) content: Bytes,
    /// Their hash.
    pub(crate) hash: BlobHash,
    /// Whether it can be executed.
    pub(crate) executable: bool,
    /// Where it was read.
    pub(super) source: PathBuf,
}

/// The files for a workspace.
#[derive(Debug, Default)]
pub(crate) struct InputFiles {
    /// The files by their paths in the workspace.
    pub(crate) files: BTreeMap<String, InputFile>,
    /// What stayed out and why, for people.
    pub(crate) left_out: Vec<String>,
}

impl InputFiles {
    /// Their size together, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.content.len() as u64).sum()
    }
}

/// Reads what is in the folders, and the files; the contents of a folder come to the root of the
/// workspace, a file under its base name.
///
/// # Errors
/// Wrong use, naming the file: it cannot be read, two have the same path, a limit is passed, or it
/// holds a secret and `with_secrets` is not set.
pub(crate) fn collect(
    paths: &[PathBuf],
    limits: &WorkspaceLimits,
    with_secrets: bool,
    data: &DataDirectory,
) -> Result<InputFiles, CommandError> {
    let mut reading = Reading { limits, data, bytes: 0, found: InputFiles::default() };
    for path in paths {
        let metadata = look_at(path, data)?;
        if metadata.is_dir() {
            reading.folder(path)?;
        } else {
            let name = base_name(path)?;
            reading.file(name, path, &metadata)?;
        }
    }
    let found = reading.found;
    check_directories(&found.files)?;
    if !with_secrets {
        check_secrets(&found.files)?;
    }
    Ok(found)
}

/// Looks at what is named itself, and refuses what cannot go in.
fn look_at(path: &Path, data: &DataDirectory) -> Result<Metadata, CommandError> {
    let shown = text::path(path);
    // Without a slash at its end, behind which a link would be followed.
    let plain: PathBuf = path.components().collect();
    let metadata = fs::symlink_metadata(&plain).map_err(|error| unreadable(path, error))?;
    if metadata.is_symlink() {
        return Err(CommandError::usage(format_args!(
            "{shown} is a link, and links are not followed: name what it points to"
        )));
    }
    if data.holds(path) {
        return Err(CommandError::usage(format_args!(
            "{shown} is in the factory's own data directory, which never goes in"
        )));
    }
    let full = path.canonicalize().map_err(|error| unreadable(path, error))?;
    let name = full.file_name().and_then(|name| name.to_str());
    let is_environment = metadata.is_dir() && full.join(ENVIRONMENT_MARK).is_file();
    if name.is_some_and(is_excluded) || is_environment {
        return Err(CommandError::usage(format_args!(
            "{shown} never belongs to a workspace: version control, caches, compiled files and \
             installed packages stay out"
        )));
    }
    Ok(metadata)
}

/// The name of a file that is named itself.
fn base_name(path: &Path) -> Result<String, CommandError> {
    let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name.ok_or_else(|| {
        CommandError::usage(format_args!("the name of {} is not UTF-8", text::path(path)))
    })
}

/// Files while they are read.
struct Reading<'a> {
    limits: &'a WorkspaceLimits,
    data: &'a DataDirectory,
    bytes: u64,
    found: InputFiles,
}

impl Reading<'_> {
    fn folder(&mut self, top: &Path) -> Result<(), CommandError> {
        let left_out = Arc::default();
        let walk = walk(top, self.data, &left_out);
        for entry in walk {
            let entry = entry.map_err(|error| {
                let error = one_line(&error.to_string());
                CommandError::usage(format_args!("{} cannot be read: {error}", text::path(top)))
            })?;
            if let Some(error) = entry.error() {
                let error = one_line(&error.to_string());
                self.found.left_out.push(format!("a rule of an ignore file is not used: {error}"));
            }
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            // The names of what comes here are UTF-8.
            let name = entry.path().strip_prefix(top).ok().and_then(Path::to_str);
            if let (true, Some(name)) = (is_file, name) {
                let metadata = entry.metadata().map_err(|error| unreadable(entry.path(), error))?;
                self.file(name.to_owned(), entry.path(), &metadata)?;
            }
        }
        let mut left_out = left_out.lock().unwrap_or_else(PoisonError::into_inner);
        self.found.left_out.append(&mut left_out);
        Ok(())
    }

    fn file(&mut self, name: String, at: &Path, known: &Metadata) -> Result<(), CommandError> {
        let shown = text::path(at);
        if !known.is_file() {
            return Err(CommandError::usage(format_args!(
                "{shown} is neither a file nor a folder"
            )));
        }
        check_name(&name).map_err(|fault| {
            CommandError::usage(format_args!("{shown} cannot go in: its path {fault}"))
        })?;
        if let Some(other) = self.found.files.get(&name) {
            return Err(CommandError::usage(format_args!(
                "{} and {shown} both have the path `{name}` in the workspace: give one of them",
                text::path(&other.source)
            )));
        }
        let content = self.content(at, known.len())?;
        self.bytes += content.len() as u64;
        self.check_sum(at)?;
        let file = InputFile {
            hash: BlobHash::of(&content),
            content: content.into(),
            executable: known.permissions().mode() & 0o111 != 0,
            source: at.to_owned(),
        };
        self.found.files.insert(name, file);
        Ok(())
    }

    /// The bytes of a file, which may grow while it is read.
    fn content(&self, at: &Path, bytes: u64) -> Result<Vec<u8>, CommandError> {
        let max = self.limits.file_bytes_max;
        let too_large = |bytes: u64| {
            CommandError::usage(format_args!(
                "{} has {bytes} bytes: a file of a workspace has at most {max}; name it in \
                 .gitignore or .ignore if it is not needed",
                text::path(at)
            ))
        };
        if bytes > max {
            return Err(too_large(bytes));
        }
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        let file = File::open(at).map_err(|error| unreadable(at, error))?;
        file.take(max + 1).read_to_end(&mut content).map_err(|error| unreadable(at, error))?;
        match content.len() as u64 {
            bytes if bytes > max => Err(too_large(bytes)),
            _ => Ok(content),
        }
    }

    /// Whether there is room for the file that was just read.
    fn check_sum(&self, at: &Path) -> Result<(), CommandError> {
        let WorkspaceLimits { files_max, bytes_max, .. } = *self.limits;
        let advice = "name what is not needed in .gitignore or .ignore";
        if self.found.files.len() >= files_max {
            return Err(CommandError::usage(format_args!(
                "{} is one file too many: a workspace has at most {files_max} files; {advice}",
                text::path(at)
            )));
        }
        if self.bytes > bytes_max {
            return Err(CommandError::usage(format_args!(
                "with {} the files have {} bytes: a workspace has at most {bytes_max}; {advice}",
                text::path(at),
                self.bytes
            )));
        }
        Ok(())
    }
}

/// Walks through a folder, in the order of names.
fn walk(top: &Path, data: &DataDirectory, left_out: &Arc<Mutex<Vec<String>>>) -> ignore::Walk {
    let (root, notes) = (top.to_owned(), Arc::clone(left_out));
    let data = data.below(top);
    let note = move |entry: &DirEntry, why: &str| {
        let shown = text::path(entry.path());
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(format!("{shown} stays out: {why}"));
    };
    // Rules further up hold to the root of the repository; without one they are somebody else's.
    let is_in_repository = is_in_repository(top);
    WalkBuilder::new(top)
        .hidden(false)
        .require_git(is_in_repository)
        .parents(is_in_repository)
        .git_global(false)
        .follow_links(false)
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(move |entry| {
            let Some(kind) = entry.file_type() else { return false };
            let relative = entry.path().strip_prefix(&root).unwrap_or(entry.path());
            let Some(relative) = relative.to_str() else {
                note(entry, "its name is not UTF-8");
                return false;
            };
            if relative.chars().any(char::is_control) {
                note(entry, "its name has control characters");
                return false;
            }
            if data.as_deref().is_some_and(|data| data == Path::new(relative)) {
                note(entry, "it is the factory's own data directory");
                return false;
            }
            let is_environment = kind.is_dir() && entry.path().join(ENVIRONMENT_MARK).is_file();
            if is_excluded(relative) || is_environment {
                return false;
            }
            if kind.is_symlink() {
                note(entry, "it is a link, which is not followed");
            } else if !kind.is_dir() && !kind.is_file() {
                note(entry, "it is neither a file nor a folder");
            }
            kind.is_dir() || kind.is_file()
        })
        .build()
}

fn is_in_repository(folder: &Path) -> bool {
    let full = folder.canonicalize();
    full.is_ok_and(|full| full.ancestors().any(|above| above.join(".git").exists()))
}

/// Refuses a path that is a file and a directory.
fn check_directories(files: &BTreeMap<String, InputFile>) -> Result<(), CommandError> {
    for (path, file) in files {
        if let Some((above, other)) =
            directories(path).find_map(|above| files.get(above).map(|other| (above, other)))
        {
            return Err(CommandError::usage(format_args!(
                "{} and {} do not go together: `{above}` cannot be a file and a folder",
                text::path(&other.source),
                text::path(&file.source)
            )));
        }
    }
    Ok(())
}

/// Refuses secrets.
fn check_secrets(files: &BTreeMap<String, InputFile>) -> Result<(), CommandError> {
    let patterns = SecretPatterns::new().map_err(CommandError::failed)?;
    let mut found = files.iter().filter_map(|(path, file)| {
        let what = patterns.found(path, &file.content)?;
        Some(format!("{} ({what})", text::path(&file.source)))
    });
    let named: Vec<_> = found.by_ref().take(SECRETS_NAMED_MAX).collect();
    if named.is_empty() {
        return Ok(());
    }
    let more = match found.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(CommandError::usage(format_args!(
        "secrets do not go in: {}{more}; name such files in .gitignore or .ignore, or say \
         --with-secrets",
        named.join(", ")
    )))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> CommandError {
    CommandError::usage(format_args!("{} cannot be read: {error}", text::path(path)))
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
    };

    use tempfile::TempDir;

    use super::*;
    use crate::cli::exit::Exit;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn nobodys() -> DataDirectory {
        DataDirectory::new(Path::new("/nonexistent"))
    }

    fn of(paths: &[&Path], limits: WorkspaceLimits) -> Result<InputFiles, CommandError> {
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        collect(&paths, &limits, false, &nobodys())
    }

    fn names(collected: &InputFiles) -> Vec<&str> {
        collected.files.keys().map(String::as_str).collect()
    }

    /// The sentence of a refusal.
    fn refusal(collected: Result<InputFiles, CommandError>) -> String {
        match collected {
            Err(CommandError::Said { sentence, exit: Exit::USAGE }) => sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_gives_its_contents_and_a_file_its_base_name() {
        let dir = folder(&[("main.py", "1"), ("pkg/a.py", "2"), (".hidden", "3")]);
        let other = folder(&[("deep/data.csv", "4")]);
        fs::set_permissions(dir.path().join("main.py"), fs::Permissions::from_mode(0o755)).unwrap();
        let file = other.path().join("deep/data.csv");
        let found = of(&[dir.path(), &file], WorkspaceLimits::default()).unwrap();
        assert_eq!(names(&found), [".hidden", "data.csv", "main.py", "pkg/a.py"]);
        assert!(found.files["main.py"].executable && !found.files["pkg/a.py"].executable);
        assert_eq!(found.files["data.csv"].hash, BlobHash::of(b"4"));
        assert_eq!((found.bytes(), found.left_out.len()), (4, 0));
    }

    #[test]
    fn what_is_ignored_or_belongs_to_no_workspace_stays_out() {
        let dir = folder(&[
            (".gitignore", "*.log\n/build/\n!keep.log\n"),
            (".ignore", "big/\n"),
            ("a.log", ""),
            ("keep.log", ""),
            ("build/x", ""),
            ("big/y", ""),
            ("sub/.gitignore", "z\n"),
            ("sub/z", ""),
            (".git/HEAD", ""),
            ("pkg/__pycache__/m.pyc", ""),
            ("node_modules/a/index.js", ""),
            ("env/pyvenv.cfg", ""),
            ("env/lib/site.py", ""),
            (".env", "left out by .gitignore below"),
        ]);
        fs::write(dir.path().join(".gitignore"), "*.log\n/build/\n!keep.log\n.env\n").unwrap();
        let found = of(&[dir.path()], WorkspaceLimits::default()).unwrap();
        assert_eq!(names(&found), [".gitignore", ".ignore", "keep.log", "sub/.gitignore"]);
        assert_eq!(found.left_out, [""; 0]);
    }

    #[test]
    fn rules_above_a_folder_hold_up_to_its_repository() {
        let dir =
            folder(&[("repo/.gitignore", "*.tmp"), ("repo/sub/a.tmp", ""), ("repo/sub/b", "")]);
        fs::write(dir.path().join(".gitignore"), "b").unwrap();
        let sub = dir.path().join("repo/sub");
        let found = of(&[&sub], WorkspaceLimits::default()).unwrap();
        assert_eq!(names(&found), ["a.tmp", "b"]);
        fs::create_dir(dir.path().join("repo/.git")).unwrap();
        let found = of(&[&sub], WorkspaceLimits::default()).unwrap();
        assert_eq!(names(&found), ["b"]);
    }

    #[test]
    fn links_pipes_and_names_that_are_no_text_stay_out_and_are_named() {
        let dir = folder(&[("a", "1"), ("elsewhere/b", "2")]);
        symlink("/etc/hostname", dir.path().join("host")).unwrap();
        symlink("elsewhere", dir.path().join("same")).unwrap();
        let strange = dir.path().join(OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir(&strange).unwrap();
        fs::write(strange.join("x"), "").unwrap();
        fs::write(dir.path().join("two\nlines"), "").unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let found = of(&[dir.path()], WorkspaceLimits::default()).unwrap();
        assert_eq!(names(&found), ["a", "elsewhere/b"]);
        assert_eq!(found.left_out.len(), 5, "{:?}", found.left_out);
        for word in [
            "host stays out: it is a link",
            "same stays",
            "caf\\xe9 stays out: its name is not UTF-8",
            "two\\nlines stays out: its name has control characters",
            "pipe stays out",
        ] {
            assert!(found.left_out.iter().any(|note| note.contains(word)), "{:?}", found.left_out);
        }
        let named = refusal(of(&[&pipe], WorkspaceLimits::default()));
        assert!(named.contains("pipe is neither a file nor a folder"), "{named}");
    }

    #[test]
    fn two_files_for_one_path_are_refused_with_both_names() {
        let (one, two) = (folder(&[("a/x", "1")]), folder(&[("a/x", "1")]));
        let said = refusal(of(&[one.path(), two.path()], WorkspaceLimits::default()));
        for dir in [&one, &two] {
            assert!(said.contains(dir.path().join("a/x").to_str().unwrap()), "{said}");
        }
        let file = folder(&[("a", "1")]);
        let said = refusal(of(&[one.path(), file.path()], WorkspaceLimits::default()));
        assert!(said.contains("`a` cannot be a file and a folder"), "{said}");
        assert!(said.contains(file.path().join("a").to_str().unwrap()), "{said}");
    }

    #[test]
    fn each_limit_is_named_with_the_file_that_passes_it() {
        let dir = folder(&[("a", "1234"), ("b", "123"), ("c", "1")]);
        let limits = |files_max, file_bytes_max, bytes_max| WorkspaceLimits {
            files_max,
            file_bytes_max,
            bytes_max,
        };
        assert!(of(&[dir.path()], limits(3, 4, 8)).is_ok());
        for (limits, file, words) in [
            (limits(2, 4, 8), "c", "at most 2 files"),
            (limits(3, 3, 8), "a", "has 4 bytes: a file of a workspace has at most 3"),
            (limits(3, 4, 6), "b", "have 7 bytes: a workspace has at most 6"),
        ] {
            let said = refusal(of(&[dir.path()], limits));
            assert!(said.contains(words), "{said}");
            assert!(said.contains(dir.path().join(file).to_str().unwrap()), "{said}");
        }
    }

    #[test]
    fn a_secret_is_refused_by_name_unless_it_is_wanted() {
        let dir = folder(&[("app/.env", "A=1"), ("main.py", "")]);
        let said = refusal(of(&[dir.path()], WorkspaceLimits::default()));
        assert!(said.contains("app/.env (a file of environment variables)"), "{said}");
        assert!(said.contains("--with-secrets"), "{said}");
        let paths = [dir.path().to_owned()];
        let found = collect(&paths, &WorkspaceLimits::default(), true, &nobodys()).unwrap();
        assert_eq!(names(&found), ["app/.env", "main.py"]);
    }

    #[test]
    fn what_is_named_itself_goes_in_unless_it_is_a_link_or_excluded() {
        let dir = folder(&[
            (".gitignore", "*.log\nbuild/\n"),
            ("ignored.log", ""),
            ("build/x", ""),
            ("x/node_modules/a/index.js", ""),
            ("env/pyvenv.cfg", ""),
            ("m.pyc", ""),
        ]);
        fs::create_dir(dir.path().join(".git")).unwrap();
        symlink("build", dir.path().join("link")).unwrap();
        let at = |path: &str| dir.path().join(path);
        let go_in = of(
            &[&at("ignored.log"), &at("build"), &at("x/node_modules/a")],
            WorkspaceLimits::default(),
        );
        assert_eq!(names(&go_in.unwrap()), ["ignored.log", "index.js", "x"]);
        for (path, words) in [
            ("link", "is a link"),
            ("link/", "is a link"),
            ("x/node_modules", "never belongs to a workspace"),
            ("env", "never belongs to a workspace"),
            (".git", "never belongs to a workspace"),
            ("m.pyc", "never belongs to a workspace"),
        ] {
            let said = refusal(of(&[&at(path)], WorkspaceLimits::default()));
            assert!(said.contains(path) && said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_is_absent_is_named() {
        let said = refusal(of(&[Path::new("/nonexistent/x")], WorkspaceLimits::default()));
        assert!(said.starts_with("/nonexistent/x cannot be read: "), "{said}");
    }
}
